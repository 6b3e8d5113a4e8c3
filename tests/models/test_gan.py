"""The GAN against torch's own operators, closed forms and finite differences."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from aigc_lib.models.gan import (
    LOSS_KINDS,
    Discriminator,
    GANConfig,
    Generator,
    MinibatchStandardDeviation,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    r1_penalty,
)

SMALL = GANConfig(width=8, latent_dim=16)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(base=st.integers(5, 8), halvings=st.integers(1, 3), channels=st.sampled_from([1, 3]), batch=st.integers(1, 5))
@settings(deadline=None, max_examples=25)
def test_images_have_the_shape_and_range_that_the_configuration_says(base, halvings, channels, batch):
    config = GANConfig(resolution=base * 2**halvings, n_channels=channels, width=4, latent_dim=3)
    images = Generator(config)(torch.randn(batch, 3, generator=rng()))
    assert images.shape == (batch, channels, base * 2**halvings, base * 2**halvings)
    assert images.abs().max() <= 1
    assert Discriminator(config)(images).shape == (batch,)


@pytest.mark.parametrize("resolution", [1, 7, 8, 9, 18, 31])
def test_a_resolution_that_cannot_be_halved_down_is_refused(resolution):
    with pytest.raises(ValueError, match=f"got {resolution}, which halves down to"):
        GANConfig(resolution=resolution)


@pytest.mark.parametrize("name", ["n_channels", "latent_dim", "width", "minibatch_group"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        GANConfig(**{name: 0})


def test_inputs_of_the_wrong_shape_name_what_was_expected():
    with pytest.raises(ValueError, match=r"\(B, 16\), got \(2, 3\)"):
        Generator(SMALL)(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"\(B, 1, 28, 28\), got \(2, 3, 28, 28\)"):
        Discriminator(SMALL)(torch.zeros(2, 3, 28, 28))


def test_an_image_does_not_depend_on_its_neighbours_in_the_batch():
    generator, z = Generator(SMALL), torch.randn(6, 16, generator=rng())
    alone = torch.cat([generator(each[None]) for each in z])
    torch.testing.assert_close(generator(z), alone, atol=1e-5, rtol=0)
    assert (alone[0] - alone[1]).abs().max() > 1e-3  # unlike batch normalisation with one image, which forgets z


def test_the_same_generator_state_gives_the_same_samples():
    generator = Generator(SMALL)
    assert torch.equal(generator.sample(3, generator=rng(7)), generator.sample(3, generator=rng(7)))
    assert not torch.equal(generator.sample(3, generator=rng(7)), generator.sample(3, generator=rng(8)))


def test_minibatch_standard_deviation_is_that_of_numpy_and_vanishes_for_copies():
    x = torch.randn(6, 5, 3, 3, generator=rng())
    extra = MinibatchStandardDeviation(4)(x)[:, 5]
    for group in (slice(0, 4), slice(4, 6)):
        expected = x[group].numpy().std(axis=0).mean()
        torch.testing.assert_close(extra[group], torch.full_like(extra[group], float(expected)))
    copies = x[:1].repeat(4, 1, 1, 1).requires_grad_()
    spread = MinibatchStandardDeviation(4)(copies)[:, 5]
    assert spread.abs().max() < 1e-3
    (gradient,) = torch.autograd.grad(spread.sum(), copies)
    assert gradient.isfinite().all()


logits = st.lists(st.floats(-30, 30), min_size=1, max_size=8).map(lambda values: torch.tensor(values).double())


@given(real=logits, fake=logits)
def test_the_discriminator_losses_are_those_of_torch(real, fake):
    entropy = F.binary_cross_entropy_with_logits
    expected = entropy(real, torch.ones_like(real)) + entropy(fake, torch.zeros_like(fake))
    for kind in ("minimax", "non-saturating"):
        torch.testing.assert_close(discriminator_loss(real, fake, kind), expected)
    hinge = F.hinge_embedding_loss(real, -torch.ones_like(real)) + F.hinge_embedding_loss(-fake, -torch.ones_like(fake))
    torch.testing.assert_close(discriminator_loss(real, fake, "hinge"), hinge)
    n = min(len(real), len(fake))
    paired = entropy(real[:n] - fake[:n], torch.ones(n).double())
    torch.testing.assert_close(discriminator_loss(real[:n], fake[:n], "relativistic"), paired)
    torch.testing.assert_close(discriminator_loss(real, fake, "wasserstein"), fake.mean() - real.mean())


@given(real=logits, fake=logits)
def test_the_generator_losses_are_those_of_torch(real, fake):
    entropy = F.binary_cross_entropy_with_logits
    torch.testing.assert_close(generator_loss(fake, "non-saturating"), entropy(fake, torch.ones_like(fake)))
    torch.testing.assert_close(generator_loss(fake, "minimax"), -entropy(fake, torch.zeros_like(fake)))
    for kind in ("hinge", "wasserstein"):
        torch.testing.assert_close(generator_loss(fake, kind), -fake.mean())
    n = min(len(real), len(fake))
    paired = entropy(fake[:n] - real[:n], torch.ones(n).double())
    torch.testing.assert_close(generator_loss(fake[:n], "relativistic", real[:n]), paired)


@given(st.floats(-20, 20))
def test_the_minimax_gradient_saturates_and_the_other_does_not(value):
    a = torch.tensor([value], dtype=torch.float64, requires_grad=True)
    for kind, expected in (("minimax", -1 / (1 + math.exp(-value))), ("non-saturating", -1 / (1 + math.exp(value)))):
        (gradient,) = torch.autograd.grad(generator_loss(a, kind), a)
        assert gradient.item() == pytest.approx(expected, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("kind", LOSS_KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_huge_logits_give_finite_losses_and_gradients(kind, dtype):
    real, fake = (torch.tensor([-500.0, 500.0, 0.0], dtype=dtype, requires_grad=True) for _ in range(2))
    loss = discriminator_loss(real, fake, kind) + generator_loss(fake, kind, real)
    loss.backward()
    assert loss.isfinite()
    assert fake.grad.isfinite().all()


def test_unknown_kinds_and_wrong_logits_are_refused():
    one = torch.zeros(1)
    with pytest.raises(ValueError, match=r"kind must be one of minimax, .*got 'lsgan'"):
        discriminator_loss(one, one, "lsgan")
    with pytest.raises(ValueError, match=r"got \(1, 1\)"):
        generator_loss(one[None], "hinge")
    with pytest.raises(ValueError, match="B ≥ 1"):
        discriminator_loss(torch.zeros(0), one, "minimax")
    with pytest.raises(ValueError, match="pass real_logits"):
        generator_loss(one, "relativistic")
    with pytest.raises(ValueError, match="as many reals as fakes, got 1, 2"):
        discriminator_loss(one, torch.zeros(2), "relativistic")


class Linear(nn.Module):
    """a(x) = w·x: its gradient is w everywhere, so both penalties have closed forms."""

    def __init__(self, w: torch.Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) @ self.w


@given(st.lists(st.floats(-3, 3), min_size=4, max_size=4))
def test_penalties_of_a_linear_critic_are_closed_forms(values):
    critic = Linear(torch.tensor(values))
    x = torch.randn(5, 1, 2, 2, generator=rng()).requires_grad_()
    squared = critic.w.square().sum()
    torch.testing.assert_close(r1_penalty(critic(x), x), squared)
    torch.testing.assert_close(gradient_penalty(critic, x, x + 1, generator=rng()), (squared.sqrt() - 1) ** 2)


def test_penalties_differentiate_with_respect_to_the_weights():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 5), nn.Softplus(), nn.Linear(5, 1), nn.Flatten(0)).double()
    real, fake = torch.randn(2, 4, 3, generator=rng()).double()

    def penalties(weight: torch.Tensor) -> torch.Tensor:
        named = {"0.weight": weight}

        class Bound(nn.Module):
            def forward(self, x):
                return torch.func.functional_call(network, named, (x.double(),))

        x = real.clone().requires_grad_()
        return r1_penalty(Bound()(x), x)

    assert torch.autograd.gradcheck(penalties, network[0].weight.detach().clone().requires_grad_())
    step, weight = 1e-3, network[0].weight
    penalty = gradient_penalty(network.float(), real.float(), fake.float(), generator=rng())
    (slope,) = torch.autograd.grad(penalty, weight)
    with torch.no_grad():
        weight[0, 0] += step
    above = gradient_penalty(network, real.float(), fake.float(), generator=rng()).item()
    with torch.no_grad():
        weight[0, 0] -= 2 * step
    below = gradient_penalty(network, real.float(), fake.float(), generator=rng()).item()
    assert (above - below) / (2 * step) == pytest.approx(slope[0, 0].item(), rel=0.02, abs=1e-4)


def test_penalties_stay_in_float32_under_autocast():
    discriminator = Discriminator(SMALL)
    real, fake = torch.rand(2, 4, 1, 28, 28, generator=rng()) * 2 - 1
    exact = gradient_penalty(discriminator, real, fake, generator=rng())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = gradient_penalty(discriminator, real, fake, generator=rng())
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, exact, atol=1e-6, rtol=0)


def test_penalties_refuse_what_they_cannot_differentiate():
    with pytest.raises(ValueError, match="requires_grad_"):
        r1_penalty(torch.zeros(2), torch.zeros(2, 1))
    with pytest.raises(ValueError, match="one shape"):
        gradient_penalty(Linear(torch.zeros(1)), torch.zeros(2, 1), torch.zeros(3, 1))


@pytest.mark.slow
def test_alternating_training_finds_at_least_seven_of_eight_modes():
    # Eight Gaussians on a ring; the losses and the penalty are the library's, the players small enough for a test.
    torch.manual_seed(0)
    draw = rng(1)
    angles = torch.arange(8) * math.pi / 4
    centres = 2 * torch.stack([angles.cos(), angles.sin()], dim=1)

    def player(n_in: int, n_out: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Linear(n_in, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, n_out)
        )

    generator, discriminator = player(8, 2), nn.Sequential(player(2, 1), nn.Flatten(0))
    optimisers = [torch.optim.Adam(p.parameters(), 1e-3, betas=(0.0, 0.99)) for p in (generator, discriminator)]
    for _ in range(1000):
        chosen = centres[torch.randint(8, (128,), generator=draw)]
        real = (chosen + 0.05 * torch.randn(128, 2, generator=draw)).requires_grad_()
        fake = generator(torch.randn(128, 8, generator=draw))
        scores = discriminator(real)
        loss = discriminator_loss(scores, discriminator(fake.detach()), "non-saturating") + 0.05 * r1_penalty(
            scores, real
        )
        optimisers[1].zero_grad()
        loss.backward()
        optimisers[1].step()
        loss = generator_loss(discriminator(fake), "non-saturating")
        optimisers[0].zero_grad()
        loss.backward()
        optimisers[0].step()
    distance, nearest = torch.cdist(generator(torch.randn(1000, 8, generator=draw)), centres).min(dim=1)
    shares = torch.bincount(nearest[distance < 0.5], minlength=8) / 1000
    assert (shares > 1 / 40).sum() >= 7


@pytest.mark.gpu
def test_the_gpu_computes_what_the_cpu_does():
    torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = "ieee"
    generator, discriminator = Generator(SMALL), Discriminator(SMALL)
    z = torch.randn(4, 16, generator=rng())
    images = generator(z)
    scores = discriminator(images)
    on_gpu = generator.cuda()(z.cuda())
    torch.testing.assert_close(on_gpu.cpu(), images, atol=1e-4, rtol=0)
    torch.testing.assert_close(discriminator.cuda()(on_gpu).cpu(), scores, atol=1e-4, rtol=0)
