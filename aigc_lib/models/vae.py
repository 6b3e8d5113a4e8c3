"""Variational autoencoders: convolutional encoder and decoder, two likelihoods, the ELBO and the IWAE bound in nats.

A decoder gives each code z ~ N(0, I) a distribution of images p(x|z), so p(x) = ∫ p(x|z) p(z) dz is the density of a
generative model. The integral is out of reach; an encoder's q(z|x) = N(mean(x), diag σ²(x)) bounds its logarithm:

    log p(x)  ≥  ELBO  =  E_q log p(x|z)  −  KL(q(z|x) ‖ N(0, I))

(Kingma and Welling 2014, arXiv:1312.6114, equation 3). Both terms are sums over pixels and latents: nats per image.

Axis letters: B batch, C channels, H W image, Z latent. Images are float in [-1, 1]. What a likelihood is *of*:

| likelihood | random variable | `observe` makes it from an image | what a nat is worth |
| --- | --- | --- | --- |
| bernoulli | binary pixels, −1 or 1 | draws each pixel, P(1) = (x + 1) / 2 | log-probability of a binary image |
| gaussian | real pixels | adds uniform noise, one of 255 steps wide | log-density; + D·log(2/255): log-probability |

Pixels between −1 and 1 are no outcome of a Bernoulli variable. Where the cross-entropy gets them all the same, the
ELBO and the IWAE bound are bounds of the expected log-probability of the binary images that `observe` would draw
(log p(b|z) is linear in the pixels b, and log-sum-exp is convex), not a density of the grey image.

Differs from the paper in
- convolutions instead of one hidden layer;
- the Gaussian's variance is one learned number for all pixels (σ-VAE, Rybkin et al. 2021, arXiv:2006.13202): fixed, it
  decides how much the codes may say, and at 1, which is the usual "squared error plus KL", they say next to nothing;
- labels, if there are any, are appended to the features and to the code (Sohn et al. 2015, conditional VAE).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LIKELIHOODS = ("bernoulli", "gaussian")
_STEP = 2 / 255  # between neighbouring levels of an 8-bit image in [-1, 1]
_CHUNK = 4096  # images that the IWAE bound decodes at once


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Sizes of both networks, and what they model.

    Args:
        resolution: height and width in pixels, 4 to 7 times a power of two and above 7, such as 8, 28, 32, 48.
        n_channels: 1 for grey, 3 for colour.
        latent_dim: Z, size of the code.
        width: channels at half the resolution, doubled at every further halving.
        hidden_dim: width of the dense layer between the convolutions and the code, on both sides.
        likelihood: one of `LIKELIHOODS`.
        n_classes: 0 for images without labels; otherwise every call takes the labels as well.
    """

    resolution: int = 28
    n_channels: int = 1
    latent_dim: int = 32
    width: int = 32
    hidden_dim: int = 128
    likelihood: str = "bernoulli"
    n_classes: int = 0

    def __post_init__(self) -> None:
        for name in ("n_channels", "latent_dim", "width", "hidden_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.n_classes < 0:
            raise ValueError(f"n_classes must be 0 (no labels) or more, got {self.n_classes}")
        if self.likelihood not in LIKELIHOODS:
            raise ValueError(f"likelihood must be one of {', '.join(LIKELIHOODS)}, got {self.likelihood!r}")
        if not (4 <= self.base_resolution <= 7 < self.resolution):
            raise ValueError(
                f"resolution must be above 7 and 4 to 7 times a power of two (8, 28, 32, …), got {self.resolution}, "
                f"which halves down to {self.base_resolution}"
            )

    @property
    def n_halvings(self) -> int:
        """How often `resolution` is halved to reach the smallest map."""
        count = 0
        while (self.resolution >> count) > 7 and (self.resolution >> count) % 2 == 0:
            count += 1
        return count

    @property
    def base_resolution(self) -> int:
        return self.resolution >> self.n_halvings


class ELBO(NamedTuple):
    """The two terms, each (B,) in nats per image: log p(x|z) at one z ~ q(z|x), and KL(q(z|x) ‖ N(0, I))."""

    reconstruction: Tensor
    kl: Tensor

    @property
    def bound(self) -> Tensor:
        """reconstruction − kl, (B,): an unbiased estimate of a lower bound of log p(x)."""
        return self.reconstruction - self.kl


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, diag exp(log_variance)) ‖ N(0, I)) = ½ Σ (mean² + σ² − 1 − log σ²), arXiv:1312.6114, appendix B.

    Args:
        mean, log_variance: (B, Z).

    Returns:
        (B,), in nats.

    Raises:
        ValueError: the shapes differ, or are not (B, Z).
    """
    if mean.ndim != 2 or mean.shape != log_variance.shape:
        raise ValueError(
            f"mean and log_variance must both be (B, Z), got {tuple(mean.shape)} and {tuple(log_variance.shape)}"
        )
    # expm1(v) − v is σ² − 1 − log σ² without the cancellation near σ = 1.
    return (mean.square() + torch.expm1(log_variance) - log_variance).sum(dim=1) / 2


class VAE(nn.Module):
    """Encoder, decoder and the likelihood between decoder and images.

    `forward(x, noise)` is the ELBO at given noise; `elbo` draws the noise. Images are (B, C, H, W) in [-1, 1],
    labels (B,) int64 where `n_classes` > 0.

    Raises:
        ValueError: images, codes or labels of the wrong shape, type or range; labels missing, or given to a model
            without classes.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        n, base = config.n_halvings, config.base_resolution
        sizes = [config.n_channels, *(config.width * 2**i for i in range(n))]
        down: list[nn.Module] = []
        for i in range(n):
            down += [nn.Conv2d(sizes[i], sizes[i + 1], 4, stride=2, padding=1), nn.SiLU()]
        self.encoder = nn.Sequential(*down, nn.Flatten())  # (B, C, H, W) → (B, features)
        features = sizes[n] * base * base
        self.posterior = nn.Sequential(
            nn.Linear(features + config.n_classes, config.hidden_dim),
            nn.SiLU(),
            nn.Linear(config.hidden_dim, 2 * config.latent_dim),
        )
        up: list[nn.Module] = []
        for i in range(n, 0, -1):
            up += [nn.SiLU(), nn.ConvTranspose2d(sizes[i], sizes[i - 1], 4, stride=2, padding=1)]
        self.decoder = nn.Sequential(  # (B, Z + classes) → (B, C, H, W)
            nn.Linear(config.latent_dim + config.n_classes, config.hidden_dim),
            nn.SiLU(),
            nn.Linear(config.hidden_dim, features),
            nn.Unflatten(1, (sizes[n], base, base)),
            *up,
        )
        if config.likelihood == "gaussian":
            self.log_variance = nn.Parameter(torch.zeros(()))  # log s² of every pixel, learned with the rest

    def observe(self, images: Tensor, uniform: Tensor) -> Tensor:
        """The outcome whose likelihood the model states, drawn from images: see the table above.

        Args:
            images: (B, C, H, W) in [-1, 1].
            uniform: U(0, 1) numbers, same shape.
        """
        self._check_images(images)
        if uniform.shape != images.shape:
            raise ValueError(
                f"uniform must have the shape of images, got {tuple(uniform.shape)}, {tuple(images.shape)}"
            )
        if self.config.likelihood == "bernoulli":
            return (uniform < (images + 1) / 2).to(images.dtype) * 2 - 1
        return images + (uniform - 0.5) * _STEP

    def encode(self, x: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z|x), each (B, Z), float32 even under autocast."""
        self._check_images(x)
        mean, log_variance = self.posterior(self._with_labels(self.encoder(x), labels)).chunk(2, dim=1)
        return _at_least_float32(mean), _at_least_float32(log_variance)

    def decode(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Parameters of p(x|z), (B, C, H, W): logits of the probability of 1, or the mean of the Gaussian."""
        if z.ndim != 2 or z.shape[1] != self.config.latent_dim:
            raise ValueError(f"z must be (B, {self.config.latent_dim}), got {tuple(z.shape)}")
        return _at_least_float32(self.decoder(self._with_labels(z, labels)))

    def pixel_log_likelihood(self, logits: Tensor, x: Tensor) -> Tensor:
        """log p(x|z) of every pixel, shape of x, in nats; `logits` as `decode` gives them."""
        if self.config.likelihood == "bernoulli":
            return -F.binary_cross_entropy_with_logits(logits, (x + 1) / 2, reduction="none")
        squares = (x - logits).square() * torch.exp(-self.log_variance)
        return -(squares + self.log_variance + math.log(2 * math.pi)) / 2

    def images(self, logits: Tensor) -> Tensor:
        """The mean image of p(x|z), in [-1, 1]: what is shown. It is not a draw from p(x|z), which would have noise."""
        return logits.sigmoid() * 2 - 1 if self.config.likelihood == "bernoulli" else logits.clamp(-1, 1)

    def forward(self, x: Tensor, noise: Tensor, labels: Tensor | None = None) -> ELBO:
        """The ELBO of x at z = mean + σ · noise, with noise (B, Z); the gradient reaches the encoder through z."""
        mean, log_variance = self.encode(x, labels)
        z = mean + torch.exp(log_variance / 2) * noise  # (B, Z)
        reconstruction = self.pixel_log_likelihood(self.decode(z, labels), x).flatten(1).sum(dim=1)
        return ELBO(reconstruction, gaussian_kl(mean, log_variance))

    def elbo(self, x: Tensor, *, generator: torch.Generator, labels: Tensor | None = None) -> ELBO:
        """Both terms of the ELBO with one fresh z for each image, in nats, (B,)."""
        return self(x, _normal(generator, x, len(x), self.config.latent_dim), labels)

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator, labels: Tensor | None = None) -> Tensor:
        """Mean images of p(x|z) for `n` codes z ~ N(0, I): (n, C, H, W) in [-1, 1]."""
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        here = next(self.parameters())
        labels = labels.to(here.device) if labels is not None else None
        return self.images(self.decode(_normal(generator, here, n, self.config.latent_dim), labels))

    def _with_labels(self, features: Tensor, labels: Tensor | None) -> Tensor:
        """Features (B, F) with the labels one-hot behind them, (B, F + classes)."""
        n = self.config.n_classes
        if (labels is not None) != (n > 0):
            wanted = f"labels (B,) from 0 to {n - 1}" if n else "no labels (n_classes is 0)"
            raise ValueError(f"this model takes {wanted}, got {'none' if labels is None else tuple(labels.shape)}")
        if labels is None:
            return features
        if labels.shape != features.shape[:1] or labels.dtype != torch.int64:
            raise ValueError(f"labels must be int64 ({len(features)},), got {labels.dtype} {tuple(labels.shape)}")
        low, high = (int(end) for end in labels.aminmax())
        if low < 0 or high >= n:
            raise ValueError(f"labels must be from 0 to {n - 1}, got {low} to {high}")
        return torch.cat([features, F.one_hot(labels, n).to(features)], dim=1)

    def _check_images(self, images: Tensor) -> None:
        c = self.config
        shape = (c.n_channels, c.resolution, c.resolution)
        if images.ndim != 4 or images.shape[1:] != shape or len(images) == 0 or not images.is_floating_point():
            raise ValueError(
                f"images must be float (B ≥ 1, {', '.join(map(str, shape))}), got {images.dtype} {tuple(images.shape)}"
            )
        low, high = (end.item() for end in images.detach().aminmax())
        if not (low >= -1 - _STEP and high <= 1 + _STEP):  # half a step of noise, and rounding; NaN fails as well
            raise ValueError(f"images must be in [-1, 1], got {low:.4g} to {high:.4g}; scale them (pixels / 127.5 - 1)")


def iwae_bound(
    model: VAE, x: Tensor, n_samples: int, *, generator: torch.Generator, labels: Tensor | None = None
) -> Tensor:
    """log of the mean of n importance weights p(x|z) p(z) / q(z|x), z ~ q(z|x) (Burda et al. 2016, arXiv:1509.00519).

    Its expectation is the ELBO for one sample, never falls as `n_samples` grows, and tends to log p(x).

    Returns:
        (B,), in nats. Differentiable; wrap it in `torch.no_grad()` to measure.

    Raises:
        ValueError: n_samples < 1, or as `VAE`.
    """
    if n_samples < 1:
        raise ValueError(f"n_samples must be at least 1, got {n_samples}")
    mean, log_variance = model.encode(x, labels)
    batch, at_once = len(x), max(1, _CHUNK // len(x))
    total = torch.full_like(mean[:, 0], -math.inf)
    for start in range(0, n_samples, at_once):
        k = min(at_once, n_samples - start)
        noise = _normal(generator, x, k, *mean.shape)  # (k, B, Z)
        z = mean + torch.exp(log_variance / 2) * noise
        logits = model.decode(z.flatten(0, 1), labels.repeat(k) if labels is not None else None)
        log_likelihood = (
            model.pixel_log_likelihood(logits, x.repeat(k, 1, 1, 1)).unflatten(0, (k, batch)).flatten(2).sum(dim=2)
        )
        # log p(z) − log q(z|x): the constants ½ log 2π cancel.
        prior_over_posterior = (noise.square() - z.square() + log_variance).sum(dim=2) / 2
        total = torch.logaddexp(total, torch.logsumexp(log_likelihood + prior_over_posterior, dim=0))
    return total - math.log(n_samples)


def _at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _normal(generator: torch.Generator, like: Tensor, *shape: int) -> Tensor:
    """Standard normal numbers, drawn where the generator lives, on the device of `like` and in its precision."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    return torch.randn(*shape, generator=generator, device=generator.device, dtype=dtype).to(like.device)
