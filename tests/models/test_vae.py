"""The VAE against probabilistic PCA, torch.distributions, closed forms and finite differences."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from aigc_lib.models.vae import ELBO, LIKELIHOODS, VAE, VAEConfig, gaussian_kl, iwae_bound

SMALL = VAEConfig(resolution=8, latent_dim=3, width=4, hidden_dim=16)
D, Z = 64, 2  # pixels and latents of the linear model


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(**options) -> VAE:
    torch.manual_seed(0)
    return VAE(VAEConfig(**{"resolution": 8, "latent_dim": 3, "width": 4, "hidden_dim": 16, **options}))


def pictures(n: int, channels: int = 1, seed: int = 1) -> torch.Tensor:
    return torch.rand(n, channels, 8, 8, generator=rng(seed)) * 2 - 1


def linear_gaussian(*, exact_encoder: bool) -> tuple[VAE, torch.Tensor]:
    """A VAE whose decoder is W z + b with variance s², and log p(x) = log N(x; b, W Wᵀ + s² I) of four images.

    The exact encoder is the posterior of probabilistic PCA (Tipping and Bishop 1999); its covariance is diagonal
    because the columns of W are orthogonal. The other one is off in mean and variance.
    """
    model = VAE(VAEConfig(resolution=8, latent_dim=Z, width=1, hidden_dim=1, likelihood="gaussian")).double()
    directions, _ = torch.linalg.qr(torch.randn(D, Z, generator=rng(2), dtype=torch.float64))
    weight, bias = directions * torch.tensor([0.8, 0.3]), torch.full((D,), 0.1, dtype=torch.float64)
    variance = 0.05
    precision = 1 + weight.square().sum(dim=0) / variance  # (Z,)
    decoder, encoder = nn.Linear(Z, D).double(), nn.Linear(D, 2 * Z).double()
    with torch.no_grad():
        model.log_variance.fill_(math.log(variance))
        decoder.weight.copy_(weight), decoder.bias.copy_(bias)
        to_mean = weight.T / (precision[:, None] * variance)
        encoder.weight.copy_(torch.cat([to_mean, torch.zeros(Z, D)]))
        encoder.bias.copy_(torch.cat([-to_mean @ bias, -precision.log()]))
        if not exact_encoder:
            encoder.bias.add_(torch.tensor([0.3, -0.2, 0.4, 0.4]))
    model.encoder, model.posterior = nn.Flatten(), encoder
    model.decoder = nn.Sequential(decoder, nn.Unflatten(1, (1, 8, 8)))
    x = pictures(4).double()
    covariance = (weight @ weight.T + variance * torch.eye(D)).numpy()
    return model, torch.from_numpy(multivariate_normal(bias.numpy(), covariance).logpdf(x.flatten(1).numpy()))


def test_with_the_exact_posterior_every_single_weight_is_the_likelihood():
    model, exact = linear_gaussian(exact_encoder=True)
    for n_samples in (1, 7):
        torch.testing.assert_close(iwae_bound(model, pictures(4).double(), n_samples, generator=rng()), exact)


def test_the_elbo_misses_the_likelihood_by_the_divergence_from_the_posterior():
    good, exact = linear_gaussian(exact_encoder=True)
    model, _ = linear_gaussian(exact_encoder=False)
    x = pictures(4).double()
    (mean, log_variance), (true_mean, true_log_variance) = model.encode(x), good.encode(x)
    approximate = Normal(mean, (log_variance / 2).exp())
    gap = kl_divergence(approximate, Normal(true_mean, (true_log_variance / 2).exp())).sum(dim=1)
    draws = torch.stack([model.elbo(x, generator=rng(seed)).bound for seed in range(3000)])
    error = draws.std(dim=0) / len(draws) ** 0.5
    assert ((draws.mean(dim=0) - (exact - gap)).abs() < 4 * error).all()
    assert (gap > 10 * error).all()  # so that a wrong gap would be noticed


def test_the_iwae_bound_rises_to_the_likelihood():
    model, exact = linear_gaussian(exact_encoder=False)
    x = pictures(4).double()
    with torch.no_grad():
        bounds = [
            torch.stack([iwae_bound(model, x, k, generator=rng(seed)) for seed in range(300)]).mean()
            for k in (1, 5, 50)
        ]
        closest = iwae_bound(model, x, 20_000, generator=rng())
    assert bounds[0] < bounds[1] < bounds[2] < exact.mean() + 0.01
    torch.testing.assert_close(closest, exact, atol=0.02, rtol=0)


def test_chunks_of_samples_change_nothing(monkeypatch):
    model, x = small(), pictures(16)  # torch fills normal numbers in blocks of sixteen
    whole = iwae_bound(model, x, 7, generator=rng())
    monkeypatch.setattr("aigc_lib.models.vae._CHUNK", 40)  # two samples at once, and one in the last chunk
    torch.testing.assert_close(iwae_bound(model, x, 7, generator=rng()), whole)


numbers = st.lists(st.floats(-4, 4), min_size=3, max_size=3)


@given(mean=numbers, log_variance=numbers)
def test_the_divergence_is_that_of_torch(mean, log_variance):
    mean, log_variance = (torch.tensor([values, values]).double() for values in (mean, log_variance))
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(gaussian_kl(mean, log_variance), expected, rtol=1e-9, atol=1e-9)
    assert (gaussian_kl(mean, log_variance) >= 0).all()


def test_the_divergence_keeps_its_digits_near_the_prior():
    log_variance = torch.full((1, 1), 1e-4)  # ½ (v²/2 + …) = 2.5e-9, which 1 + v − 1 − v would lose
    assert gaussian_kl(torch.zeros(1, 1), log_variance).item() == pytest.approx(2.5e-9, rel=1e-3)


def test_pixel_likelihoods_are_those_of_torch():
    logits = 3 * torch.randn(2, 1, 8, 8, generator=rng())
    binary = torch.where(pictures(2) > 0, 1.0, -1.0)
    expected = Bernoulli(logits=logits).log_prob((binary + 1) / 2)
    torch.testing.assert_close(small().pixel_log_likelihood(logits, binary), expected)
    model = small(likelihood="gaussian")
    with torch.no_grad():
        model.log_variance.fill_(-1.3)
    expected = Normal(logits, math.exp(-0.65)).log_prob(pictures(2))
    torch.testing.assert_close(model.pixel_log_likelihood(logits, pictures(2)), expected)


def test_a_bernoulli_decoder_is_a_distribution_of_binary_pixels_and_no_density_of_grey_ones():
    # One pixel: two outcomes with probabilities that sum to 1; a "density" of grey values would not integrate to 1.
    model, logit = small(), torch.tensor(0.7)
    outcomes = model.pixel_log_likelihood(logit.expand(2), torch.tensor([-1.0, 1.0])).exp()
    assert outcomes.sum().item() == pytest.approx(1)
    grey = torch.linspace(0, 1, 10_001)
    area = torch.trapezoid(model.pixel_log_likelihood(logit.expand(10_001), grey * 2 - 1).exp(), grey).item()
    probability = logit.sigmoid().item()
    assert area == pytest.approx((2 * probability - 1) / logit.item(), rel=1e-4)  # 1/C of the continuous Bernoulli
    assert area < 0.5


def test_soft_pixels_give_the_expected_log_probability_of_the_binary_images():
    model, x, z = small(), pictures(1), torch.randn(1, 3, generator=rng())
    logits = model.decode(z)
    drawn = model.observe(x.expand(20_000, -1, -1, -1), torch.rand(20_000, 1, 8, 8, generator=rng()))
    samples = model.pixel_log_likelihood(logits.expand_as(drawn), drawn).flatten(1).sum(dim=1)
    expected = model.pixel_log_likelihood(logits, x).sum()
    assert abs(samples.mean() - expected) < 4 * samples.std() / len(samples) ** 0.5


def test_observations_are_binary_with_the_right_mean_or_stay_within_half_a_step():
    x, uniform = pictures(400), torch.rand(400, 1, 8, 8, generator=rng())
    binary = small().observe(x, uniform)
    assert set(binary.unique().tolist()) == {-1.0, 1.0}
    assert (binary - x).mean().abs() < 4 * (binary - x).std() / x.numel() ** 0.5
    assert torch.equal(small().observe(torch.full_like(x, -1), uniform), torch.full_like(x, -1))
    assert torch.equal(small().observe(torch.full_like(x, 1), uniform), torch.full_like(x, 1))
    real = small(likelihood="gaussian").observe(x, uniform)
    assert 0.0038 < (real - x).abs().max() <= 1 / 255 + 1e-6


def test_the_density_of_dequantised_pixels_is_a_distribution_over_the_levels():
    # The mean over the noise of log p(x + u) + log(2/255) bounds log P(level), and the P sum to (nearly) 1.
    levels = torch.linspace(-1, 1, 256, dtype=torch.float64)
    pixel = Normal(torch.tensor(0.2, dtype=torch.float64), 0.1)
    exact = (pixel.cdf(levels + 1 / 255) - pixel.cdf(levels - 1 / 255)).log()
    offsets = torch.linspace(-1, 1, 201, dtype=torch.float64) / 255
    bound = pixel.log_prob(levels[:, None] + offsets).mean(dim=1) + math.log(2 / 255)
    near = (levels - 0.2).abs() < 0.5  # further out the cdf itself has no digits left
    assert (bound[near] <= exact[near] + 1e-5).all()
    assert bound.exp().sum().item() == pytest.approx(1, abs=0.002)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_gradient_of_the_elbo_is_that_of_finite_differences(likelihood):
    model, x = small(likelihood=likelihood).double(), pictures(2).double()
    noise = torch.randn(2, 3, generator=rng(), dtype=torch.float64)
    named = dict(model.named_parameters())

    def bound(*chosen):
        parameters = dict(zip(names, chosen, strict=True))
        return torch.func.functional_call(model, named | parameters, (x, noise)).bound

    names = ["posterior.2.bias", "decoder.2.bias"] + (["log_variance"] if likelihood == "gaussian" else [])
    assert torch.autograd.gradcheck(bound, tuple(named[name].detach().clone().requires_grad_() for name in names))


def test_every_parameter_learns_from_the_bound():
    for likelihood in LIKELIHOODS:
        model = small(likelihood=likelihood)
        model.elbo(pictures(4), generator=rng()).bound.mean().backward()
        assert all(p.grad.abs().sum() > 0 for p in model.parameters())


def waves() -> torch.Tensor:
    """2,000 images of one wave at random phases: data with two dimensions that curve through sixty-four."""
    phase = torch.rand(2000, 1, 1, generator=rng(3))
    heights = torch.sin(2 * math.pi * (torch.linspace(0, 1, 8) + phase))  # (2000, 1, 8)
    return 0.25 * heights.expand(-1, 8, -1).unsqueeze(1)


def fitted(loss, *, n_steps: int, variance_is_learned: bool = True) -> VAE:
    """A small Gaussian VAE that has descended `loss(model, x, generator)` on the waves."""
    model, draw, images = small(likelihood="gaussian"), rng(4), waves()
    model.log_variance.requires_grad_(variance_is_learned)
    weights = [p for p in model.parameters() if p is not model.log_variance]
    optimiser = torch.optim.Adam([{"params": weights}, {"params": [model.log_variance], "lr": 3e-2}], lr=5e-3)
    for _ in range(n_steps):
        optimiser.zero_grad()
        loss(model, images[torch.randint(2000, (64,), generator=draw)], draw).backward()
        optimiser.step()
    return model


def negative_elbo(model, x, generator):
    return -model.elbo(x, generator=generator).bound.mean()


@pytest.mark.slow
def test_posterior_collapse_is_made_by_a_fixed_variance_and_cured_by_a_learned_one():
    # "Squared error + KL" is a Gaussian with variance 1. Directions of data with less variance than that are not worth
    # their rate (Lucas et al. 2019, arXiv:1911.02469); a learned variance falls until they are.
    rates = {}
    for learned in (False, True):
        model = fitted(negative_elbo, n_steps=250, variance_is_learned=learned)
        with torch.no_grad():
            means, log_variance = model.encode(waves())
        rates[learned] = gaussian_kl(means, log_variance).mean().item(), int((means.var(dim=0) > 0.01).sum())
    assert rates[False][0] < 0.05
    assert rates[False][1] == 0
    assert rates[True][0] > 2
    assert rates[True][1] >= 2  # a circle of phases needs two latents


@pytest.mark.slow
def test_without_the_divergence_codes_leave_the_prior():
    # The document's steps: no draw, no divergence. What is left is a plain autoencoder, whose codes lie anywhere.
    def distance_only(model, x, generator):
        return -model.pixel_log_likelihood(model.decode(model.encode(x)[0]), x).flatten(1).sum(dim=1).mean()

    farthest = {}  # from the variance 1 that every direction has under the prior, as a logarithm
    for loss in (distance_only, negative_elbo):
        mean, log_variance = fitted(loss, n_steps=300).encode(waves())
        spread = log_variance.exp().mean(dim=0) * (loss is negative_elbo)  # a plain code has none
        farthest[loss] = torch.linalg.eigvalsh(mean.T.cov() + spread.diag()).log().abs().max().item()
    assert farthest[negative_elbo] < 1
    assert farthest[distance_only] > 3  # a flat sheet


@given(
    base=st.integers(4, 7),
    halvings=st.integers(1, 3),
    channels=st.sampled_from([1, 3]),
    batch=st.integers(1, 3),
    n_classes=st.sampled_from([0, 4]),
    likelihood=st.sampled_from(LIKELIHOODS),
)
@settings(deadline=None, max_examples=20)
def test_shapes_are_what_the_configuration_says(base, halvings, channels, batch, n_classes, likelihood):
    size = base * 2**halvings
    config = VAEConfig(
        resolution=size,
        n_channels=channels,
        latent_dim=5,
        width=2,
        hidden_dim=8,
        likelihood=likelihood,
        n_classes=n_classes,
    )
    model, labels = VAE(config), torch.zeros(batch, dtype=torch.int64) if n_classes else None
    x = model.sample(batch, generator=rng(), labels=labels)
    assert x.shape == (batch, channels, size, size)
    assert x.abs().max() <= 1
    assert [part.shape for part in model.encode(x, labels)] == [(batch, 5)] * 2
    terms = model.elbo(x, generator=rng(), labels=labels)
    assert isinstance(terms, ELBO)
    assert terms.bound.shape == iwae_bound(model, x, 2, generator=rng(), labels=labels).shape == (batch,)
    torch.testing.assert_close(terms.bound, terms.reconstruction - terms.kl)


def test_the_bound_is_a_sum_over_pixels_and_latents():
    # Trap: a mean over pixels beside a sum over latents. Twice as many pixels of the same kind give twice the nats.
    model, x = small(), pictures(3)
    with torch.no_grad():
        for part in (model.posterior[-1], model.decoder[-1]):
            part.weight.zero_(), part.bias.zero_()
    terms = model.elbo(x, generator=rng())
    torch.testing.assert_close(terms.reconstruction, torch.full((3,), -64 * math.log(2)))
    torch.testing.assert_close(terms.kl, torch.zeros(3))


def test_a_label_changes_what_is_drawn_and_only_that_example():
    model, z = small(n_classes=3), torch.randn(2, 3, generator=rng())
    before, after = (model.decode(z, torch.tensor([0, second])) for second in (1, 2))
    assert torch.equal(before[0], after[0])
    assert (before[1] - after[1]).abs().max() > 1e-4


def test_the_same_generator_state_gives_the_same_numbers():
    model, x = small(), pictures(2)
    assert torch.equal(model.sample(3, generator=rng(7)), model.sample(3, generator=rng(7)))
    assert not torch.equal(model.sample(3, generator=rng(7)), model.sample(3, generator=rng(8)))
    assert torch.equal(model.elbo(x, generator=rng(7)).bound, model.elbo(x, generator=rng(7)).bound)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_under_bfloat16_the_bound_stays_float32_and_close(likelihood):
    model, x, noise = small(likelihood=likelihood), pictures(4), torch.randn(4, 3, generator=rng())
    exact = model(x, noise)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(x, noise)
    assert rounded.reconstruction.dtype == rounded.kl.dtype == torch.float32
    torch.testing.assert_close(rounded.bound, exact.bound, atol=1.0, rtol=0)


@pytest.mark.parametrize("resolution", [1, 7, 9, 18, 31])
def test_a_resolution_that_cannot_be_halved_down_is_refused(resolution):
    with pytest.raises(ValueError, match=f"got {resolution}, which halves down to"):
        VAEConfig(resolution=resolution)


def test_other_bad_configurations_are_refused():
    for name in ("n_channels", "latent_dim", "width", "hidden_dim"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            VAEConfig(**{name: 0})
    with pytest.raises(ValueError, match="n_classes must be 0"):
        VAEConfig(n_classes=-1)
    with pytest.raises(ValueError, match="one of bernoulli, gaussian, got 'poisson'"):
        VAEConfig(likelihood="poisson")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 8, 8), r"\(B ≥ 1, 1, 8, 8\), got torch.float32 \(2, 3, 8, 8\)"),
        (torch.zeros(0, 1, 8, 8), "B ≥ 1"),
        (torch.zeros(1, 8, 8), "B ≥ 1"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), "got torch.uint8"),
        (torch.full((1, 1, 8, 8), 255.0), r"in \[-1, 1\], got 255 to 255; scale them"),
        (torch.full((1, 1, 8, 8), float("nan")), r"in \[-1, 1\], got nan"),
    ],
)
def test_bad_images_are_refused_everywhere(images, message):
    model = small()
    calls = [
        lambda: model.encode(images),
        lambda: model.elbo(images, generator=rng()),
        lambda: model.observe(images, torch.rand(images.shape)),
        lambda: iwae_bound(model, images, 2, generator=rng()),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()


def test_other_bad_input_is_refused():
    model, conditional, x = small(), small(n_classes=3), pictures(2)
    with pytest.raises(ValueError, match=r"z must be \(B, 3\), got \(2, 4\)"):
        model.decode(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        model.sample(0, generator=rng())
    with pytest.raises(ValueError, match="n_samples must be at least 1, got 0"):
        iwae_bound(model, x, 0, generator=rng())
    with pytest.raises(ValueError, match="shape of images"):
        model.observe(x, torch.rand(2, 1, 8, 7))
    with pytest.raises(ValueError, match=r"must both be \(B, Z\), got \(2, 3\) and \(3, 2\)"):
        gaussian_kl(torch.zeros(2, 3), torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"takes no labels \(n_classes is 0\), got \(2,\)"):
        model.encode(x, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"takes labels .* from 0 to 2, got none"):
        conditional.encode(x)
    with pytest.raises(ValueError, match=r"labels must be int64 \(2,\), got torch.float32 \(2,\)"):
        conditional.encode(x, torch.zeros(2))
    with pytest.raises(ValueError, match="labels must be from 0 to 2, got 0 to 3"):
        conditional.decode(torch.zeros(2, 3), torch.tensor([0, 3]))


@pytest.mark.gpu
def test_the_gpu_computes_what_the_cpu_does():
    torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = "ieee"
    model, x, noise = small(), pictures(4), torch.randn(4, 3, generator=rng())
    expected, drawn = model(x, noise).bound, model.sample(4, generator=rng())
    model = model.cuda()
    torch.testing.assert_close(model(x.cuda(), noise.cuda()).bound.cpu(), expected, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(model.sample(4, generator=rng()).cpu(), drawn, atol=1e-4, rtol=0)
