"""StyleGAN against loops, closed forms, finite differences and what its parts are there for."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lib.models.gan import r1_penalty
from aigc_lib.models.stylegan import (
    StyleDiscriminator,
    StyleGANConfig,
    StyleGenerator,
    mix_styles,
    modulated_conv2d,
    path_length_penalty,
)
from aigc_lib.models.stylegan_layers import EqualConv2d, EqualLinear, activate, doubled

SMALL = StyleGANConfig(resolution=16, latent_dim=8, width=4, discriminator_width=4, max_width=8, n_layers=2)
CLASSES = StyleGANConfig(resolution=8, n_channels=1, n_classes=3, latent_dim=8, width=4, discriminator_width=4)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_generator(config: StyleGANConfig = SMALL) -> StyleGenerator:
    torch.manual_seed(0)
    return StyleGenerator(config)


@given(base=st.integers(4, 7), halvings=st.integers(1, 3), channels=st.sampled_from([1, 3]), batch=st.integers(1, 3))
@settings(deadline=None, max_examples=10)
def test_images_have_the_shape_and_range_that_the_configuration_says(base, halvings, channels, batch):
    config = StyleGANConfig(
        resolution=base * 2**halvings, n_channels=channels, width=2, discriminator_width=2, max_width=8, latent_dim=4
    )
    assert config.sizes == [base * 2**k for k in range(halvings + 1)]
    images = StyleGenerator(config).sample(batch, generator=rng())
    assert images.shape == (batch, channels, config.resolution, config.resolution)
    assert images.abs().max() <= 1
    assert StyleDiscriminator(config)(images).shape == (batch,)


@pytest.mark.parametrize("resolution", [1, 4, 7, 9, 18, 31])
def test_a_resolution_that_cannot_be_halved_down_is_refused(resolution):
    with pytest.raises(ValueError, match=f"times a power of two.*got {resolution}"):
        StyleGANConfig(resolution=resolution)


@pytest.mark.parametrize("name", ["n_channels", "latent_dim", "n_layers", "width", "discriminator_width", "max_width"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        StyleGANConfig(**{name: 0})
    with pytest.raises(ValueError, match="n_classes must be at least 0, got -1"):
        StyleGANConfig(n_classes=-1)


# --- equalised learning rate -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_in", [4, 64, 400])
def test_an_equalised_layer_keeps_the_variance_whatever_its_size(n_in):
    torch.manual_seed(0)
    out = EqualLinear(n_in, 300)(torch.randn(300, n_in, generator=rng(1)))
    assert out.var().item() == pytest.approx(1, abs=4 * math.sqrt(2 / n_in / 300) + 0.02)
    maps = EqualConv2d(n_in, 64, 3)(torch.randn(2, n_in, 24, 24, generator=rng(1)))[:, :, 1:-1, 1:-1]
    assert maps.var().item() == pytest.approx(1, abs=4 * math.sqrt(2 / (9 * n_in * 64)) + 0.05)


@pytest.mark.parametrize(("n_in", "rate"), [(4, 1.0), (400, 1.0), (400, 0.01)])
def test_one_adam_step_moves_an_equalised_weight_in_proportion_to_its_scale(n_in, rate):
    torch.manual_seed(0)
    layer = EqualLinear(n_in, 5, rate=rate).double()
    before = (layer.weight * layer.scale).detach().clone()
    assert before.std().item() == pytest.approx(1 / math.sqrt(n_in), rel=0.4)  # the rate does not show at the start
    optimiser = torch.optim.Adam(layer.parameters(), lr=1e-3, eps=1e-30)
    layer(torch.randn(8, n_in, generator=rng(1)).double()).square().sum().backward()
    optimiser.step()
    moved = (layer.weight * layer.scale - before).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, 1e-3 * rate / math.sqrt(n_in)))


def test_the_activation_keeps_the_mean_square():
    x = torch.randn(100_000, generator=rng())
    assert activate(x).square().mean().item() == pytest.approx(1 + 0.2**2, abs=0.02)


def test_doubling_is_the_filter_1_3_3_1_after_inserting_zeros():
    x = torch.randn(1, 1, 6, 6, generator=rng())
    spread = torch.zeros(1, 1, 12, 12)
    spread[:, :, ::2, ::2] = x
    taps = torch.tensor([1.0, 3, 3, 1]) / 4
    filtered = F.conv2d(F.pad(spread, (2, 1, 2, 1)), taps.outer(taps)[None, None])
    torch.testing.assert_close(doubled(x)[..., 1:-1, 1:-1], filtered[..., 1:-1, 1:-1])


# --- modulated convolution -------------------------------------------------------------------------------------------


@given(batch=st.integers(1, 3), c_in=st.integers(1, 4), c_out=st.integers(1, 4), k=st.sampled_from([1, 3]))
@settings(deadline=None, max_examples=20)
def test_both_forms_of_modulation_are_the_loop_of_the_paper_and_have_its_gradients(batch, c_in, c_out, k):
    draw = rng(batch)
    x = torch.randn(batch, c_in, 5, 5, generator=draw).double().requires_grad_()
    weight = torch.randn(c_out, c_in, k, k, generator=draw).double().requires_grad_()
    style = (1 + 0.5 * torch.randn(batch, c_in, generator=draw)).double().requires_grad_()
    for demodulate in (False, True):
        rows = []
        for image, s in zip(x, style, strict=True):
            own = weight * s[None, :, None, None]
            if demodulate:
                own = own / (own.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
            rows.append(F.conv2d(image[None], own, padding=k // 2))
        expected = torch.cat(rows)
        slopes = torch.autograd.grad(expected.pow(3).sum(), (x, weight, style))
        for grouped in (False, True):
            y = modulated_conv2d(x, weight, style, demodulate=demodulate, grouped=grouped)
            torch.testing.assert_close(y, expected)
            for got, wanted in zip(torch.autograd.grad(y.pow(3).sum(), (x, weight, style)), slopes, strict=True):
                torch.testing.assert_close(got, wanted)


def test_demodulation_makes_the_variance_one_whatever_the_style():
    x, weight = torch.randn(4, 16, 40, 40, generator=rng()), torch.randn(8, 16, 3, 3, generator=rng(1))
    style = torch.randn(4, 16, generator=rng(2)).exp()
    inside = slice(1, -1)
    modulated = modulated_conv2d(x, weight, style, demodulate=False)[:, :, inside, inside]
    predicted = torch.einsum("bi,oikl->bo", style.square(), weight.square()).sqrt()
    torch.testing.assert_close(modulated.std(dim=(2, 3)) / predicted, torch.ones(4, 8), atol=0.1, rtol=0)
    demodulated = modulated_conv2d(x, weight, style)[:, :, inside, inside]
    assert demodulated.std().item() == pytest.approx(1, abs=0.02)
    torch.testing.assert_close(modulated_conv2d(x, weight, 7 * style), modulated_conv2d(x, weight, style))


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"got \(2, 3, 4, 4\), \(5, 3, 3, 3\) and \(2, 4\)"):
        modulated_conv2d(torch.zeros(2, 3, 4, 4), torch.zeros(5, 3, 3, 3), torch.zeros(2, 4))
    generator = small_generator()
    with pytest.raises(ValueError, match=r"z must be \(B, 8\), got \(2, 9\)"):
        generator(torch.zeros(2, 9))
    with pytest.raises(ValueError, match=r"styles must be \(B, 6, 8\), got \(2, 5, 8\)"):
        generator.synthesis(torch.zeros(2, 5, 8))
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        generator.synthesis(torch.zeros(2, 6, 8), generator.synthesis.noise(2, generator=rng())[:-1])
    with pytest.raises(ValueError, match=r"\(B, 3, 16, 16\), got \(1, 3, 8, 8\)"):
        StyleDiscriminator(SMALL)(torch.zeros(1, 3, 8, 8))


# --- styles, noise, truncation ---------------------------------------------------------------------------------------


def test_noise_does_nothing_while_its_strength_is_zero_and_something_when_it_is_not():
    generator, z = small_generator(), torch.randn(2, 8, generator=rng())
    quiet = generator(z)
    assert torch.equal(generator(z, generator=rng(1)), quiet)
    with torch.no_grad():
        for convolution in generator.synthesis.convolutions:
            convolution.noise_strength.fill_(0.5)
    assert not torch.allclose(generator(z, generator=rng(1)), quiet, atol=1e-2)
    assert torch.equal(generator(z, generator=rng(1)), generator(z, generator=rng(1)))
    assert torch.equal(generator(z), quiet)
    shared = generator.synthesis.noise(1, generator=rng(2))  # one picture of noise serves any batch
    whole = generator.synthesis(generator.styles(z), shared)
    torch.testing.assert_close(whole[1:], generator.synthesis(generator.styles(z[1:]), shared), atol=1e-5, rtol=0)


@pytest.mark.parametrize("layer", range(SMALL.n_styles))
def test_a_style_changes_nothing_before_its_layer(layer):
    generator = small_generator()
    seen: list[torch.Tensor] = []
    for convolution in generator.synthesis.convolutions:
        convolution.register_forward_hook(lambda module, inputs, output: seen.append(output))
    styles = generator.styles(torch.randn(1, 8, generator=rng()))
    changed = styles.clone()
    changed[:, layer] = generator.styles(torch.randn(1, 8, generator=rng(1)))[:, 0]
    images = generator.synthesis(styles), generator.synthesis(changed)
    before, after = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [i < layer for i in range(5)]
    assert not torch.equal(*images)


def test_mixing_takes_coarse_layers_from_one_and_fine_ones_from_the_other():
    first, second = torch.zeros(3, 6, 2), torch.ones(3, 6, 2)
    mixed = mix_styles(first, second, torch.tensor([1, 4, 6]))
    assert mixed[..., 0].tolist() == [[0, 1, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1], [0] * 6]


def test_truncation_pulls_styles_to_their_mean():
    generator, z = small_generator(), torch.randn(500, 8, generator=rng())
    generator.mapping.measure_mean(20_000, generator=rng(1))
    w = generator.mapping(z)
    assert (w.mean(dim=0) - generator.mapping.mean_style).norm() < 4 * (w.var(dim=0).sum() / len(w)).sqrt()
    half = generator.styles(z, truncation=0.7)[:, 0]
    torch.testing.assert_close(half.T.cov(), 0.49 * w.T.cov(), atol=1e-5, rtol=1e-4)
    one = generator(z[:5], truncation=0.0)
    torch.testing.assert_close(one, one[:1].expand_as(one), atol=1e-6, rtol=0)
    assert torch.equal(generator.styles(z, truncation=1.0)[:, 3], w)


def test_the_mapping_sees_the_direction_of_z_alone():
    generator, z = small_generator(), torch.randn(4, 8, generator=rng())
    torch.testing.assert_close(generator.mapping(3 * z), generator.mapping(z))


def test_labels_choose_what_is_made_and_how_it_is_judged():
    generator, z = small_generator(CLASSES), torch.randn(2, 8, generator=rng())
    zero, one = (generator(z, torch.full((2,), label)) for label in (0, 1))
    assert not torch.allclose(zero, one, atol=1e-3)
    discriminator = StyleDiscriminator(CLASSES)
    assert not torch.allclose(*(discriminator(zero, torch.full((2,), label)) for label in (0, 1)), atol=1e-4)
    assert generator.sample(3, generator=rng()).shape == (3, 1, 8, 8)
    with pytest.raises(ValueError, match=r"3 classes needs labels \(2,\), got none"):
        generator(z)
    with pytest.raises(ValueError, match=r"needs labels \(2,\), got \(3,\)"):
        discriminator(zero, torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match="labels must be from 0 to 2, got 1 to 3"):
        generator(z, torch.tensor([1, 3]))
    with pytest.raises(ValueError, match="has no classes"):
        small_generator()(z, torch.zeros(2, dtype=torch.long))


def test_the_discriminator_is_differentiated_twice_and_an_image_is_judged_by_its_group_alone():
    torch.manual_seed(0)
    discriminator = StyleDiscriminator(SMALL).double()
    images = torch.rand(16, 3, 16, 16, generator=rng()).double()
    torch.testing.assert_close(discriminator(images)[:8], discriminator(images[:8]))

    x = images[:2].clone().requires_grad_()
    weight = discriminator.blocks[0].first.weight
    (slope,) = torch.autograd.grad(r1_penalty(discriminator(x), x), weight)

    def penalty(change: float) -> float:
        with torch.no_grad():
            weight[0, 0, 0, 0] += change
        value = r1_penalty(discriminator(x), x).item()
        with torch.no_grad():
            weight[0, 0, 0, 0] -= change
        return value

    assert (penalty(1e-5) - penalty(-1e-5)) / 2e-5 == pytest.approx(slope[0, 0, 0, 0].item(), rel=1e-3, abs=1e-9)


# --- path length -----------------------------------------------------------------------------------------------------


def test_path_length_of_a_linear_picture_is_that_of_its_matrix():
    a = torch.randn(12, 5, generator=rng()).double()
    w = torch.randn(4000, 5, generator=rng(1)).double().requires_grad_()
    images = (w @ a.T).view(-1, 3, 2, 2)
    y = torch.randn(images.shape, generator=rng(2)).double().flatten(1) / 2  # what the penalty draws, over √(2·2)
    lengths = (y @ a).norm(dim=1)
    found = path_length_penalty(images, w, torch.tensor(3.0).double(), generator=rng(2))
    torch.testing.assert_close(found.penalty, (lengths - 3).square().mean())
    torch.testing.assert_close(found.mean_length, 3 + 0.01 * (lengths.mean() - 3))
    first = path_length_penalty(images, w, torch.tensor(0.0).double(), generator=rng(2))
    torch.testing.assert_close(first.penalty, lengths.var(correction=0))  # nothing known yet: the batch's own mean
    torch.testing.assert_close(first.mean_length, lengths.mean())
    squares = lengths.square()  # E‖Jᵀy‖² = ‖J‖² / (HW)
    assert (squares.mean() - a.square().sum() / 4).abs() < 4 * squares.std() / math.sqrt(len(w))


def test_path_length_teaches_the_synthesis_network():
    generator = small_generator().double()
    weight = generator.synthesis.convolutions[2].weight
    z = torch.randn(3, 8, generator=rng()).double()

    def penalty() -> torch.Tensor:
        w = generator.mapping(z)
        images = generator.synthesis(w[:, None].expand(-1, SMALL.n_styles, -1))
        return path_length_penalty(images, w, torch.tensor(0.5).double(), generator=rng(1)).penalty

    (slope,) = torch.autograd.grad(penalty(), weight)
    around = []
    for change in (1e-5, -2e-5):
        with torch.no_grad():
            weight[0, 0, 1, 1] += change
        around.append(penalty().item())
    assert (around[0] - around[1]) / 2e-5 == pytest.approx(slope[0, 0, 1, 1].item(), rel=1e-3, abs=1e-9)
    with pytest.raises(ValueError, match="must require one"):
        path_length_penalty(torch.zeros(1, 3, 4, 4), torch.zeros(1, 8), torch.tensor(0.0))


@pytest.mark.gpu
def test_the_gpu_computes_what_the_cpu_does():
    torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = "ieee"
    generator, discriminator, z = small_generator(), StyleDiscriminator(SMALL), torch.randn(4, 8, generator=rng())
    images = generator(z, generator=rng(1))
    scores = discriminator(images)
    on_gpu = generator.cuda()(z.cuda(), generator=rng(1))
    torch.testing.assert_close(on_gpu.cpu(), images, atol=1e-4, rtol=0)
    torch.testing.assert_close(discriminator.cuda()(on_gpu).cpu(), scores, atol=1e-3, rtol=0)
