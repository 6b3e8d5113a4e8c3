"""StyleGAN: a generator whose every layer is steered by a style, and the discriminator that goes with it.

A mapping network f turns noise z ~ N(0, I) into a style w = f(z); a synthesis network g starts from a learned constant
and paints x = g(w₁, …, w_L; n₁, …): layer l takes its style from w_l and its random detail from a picture of noise
(Karras et al. 2019, arXiv:1812.04948). Styles act as in StyleGAN2 (Karras et al. 2020, arXiv:1912.04958): they scale
the input channels of a convolution, whose output is divided by the deviation that this leads to expect. Written from
the papers. No time axis anywhere: `latent_walk` makes a film of stills.

Axis letters: B batch, C channels, H W image, Z latent and style, L layers that take a style, F frames. Images are
float in [-1, 1].

Differs from StyleGAN2 in
- the sum of the skips goes through tanh: no picture leaves [-1, 1], and plain white stays white under noise;
- channels change where maps are small: a convolution and bilinear doubling (the paper's filter 1, 3, 3, 1) instead of
  a transposed convolution and that filter; in the discriminator a 2×2 mean and a convolution;
- the mean style is measured once, after training, and not followed.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aigc_lib.models.gan import MinibatchStandardDeviation, PixelNorm
from aigc_lib.models.stylegan_editing import latent_walk as latent_walk
from aigc_lib.models.stylegan_layers import (
    EqualConv2d,
    EqualLinear,
    ResidualBlock,
    StyledConv,
    ToImage,
    activate,
    doubled,
)
from aigc_lib.models.stylegan_layers import modulated_conv2d as modulated_conv2d


@dataclass(frozen=True, kw_only=True)
class StyleGANConfig:
    """Sizes of all three networks.

    Args:
        resolution: height and width in pixels, above 7: 4 to 7 times a power of two, such as 28, 32, 48, 64.
        n_channels: 1 for grey, 3 for colour.
        n_classes: 0 for networks that take no labels.
        latent_dim: Z, of noise and of styles alike.
        n_layers: of the mapping network.
        width: the generator's channels at full resolution; doubled at every halving, up to `max_width`.
        discriminator_width: the discriminator's, likewise.
        max_width: of both.
        minibatch_group: images that share one minibatch standard deviation.
    """

    resolution: int = 32
    n_channels: int = 3
    n_classes: int = 0
    latent_dim: int = 64
    n_layers: int = 4
    width: int = 16
    discriminator_width: int = 16
    max_width: int = 96
    minibatch_group: int = 8

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < (name != "n_classes"):
                raise ValueError(f"{name} must be at least {int(name != 'n_classes')}, got {value}")
        if not 4 <= self.sizes[0] <= 7 or len(self.sizes) == 1:
            raise ValueError(
                f"resolution must be above 7 and 4 to 7 times a power of two (28, 32, 64, …), got {self.resolution}"
            )

    @property
    def sizes(self) -> list[int]:
        """Heights of the maps, the smallest first, the image's last."""
        sizes = [self.resolution]
        while sizes[0] > 7 and sizes[0] % 2 == 0:
            sizes.insert(0, sizes[0] // 2)
        return sizes

    @property
    def n_styles(self) -> int:
        """L: one convolution at the smallest size and two at every other, and the last picture. The other pictures
        share the style of the convolution that comes after them."""
        return 2 * len(self.sizes)

    def channels(self, width: int) -> list[int]:
        """Channels at each of `sizes` of a network that has `width` at full resolution."""
        return [min(width * self.resolution // size, self.max_width) for size in self.sizes]


# --- generator -------------------------------------------------------------------------------------------------------


class MappingNetwork(nn.Module):
    """f: noise (B, Z), and labels (B,) where there are classes → styles w (B, Z).

    Pixel norm, then layers that learn a hundred times more slowly than the rest (arXiv:1812.04948, appendix C).
    `mean_style` (Z,) is what truncation pulls towards; `measure_mean` sets it.
    """

    def __init__(self, config: StyleGANConfig) -> None:
        super().__init__()
        z, self.n_classes = config.latent_dim, config.n_classes
        self.norm = PixelNorm()
        self.embed = nn.Embedding(self.n_classes, z) if self.n_classes else None
        widths = [2 * z if self.n_classes else z] + [z] * config.n_layers
        self.layers = nn.ModuleList(EqualLinear(a, b, rate=0.01) for a, b in pairwise(widths))
        self.register_buffer("mean_style", torch.zeros(z))

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        width = len(self.mean_style)
        if z.ndim != 2 or z.shape[1] != width:
            raise ValueError(f"z must be (B, {width}), got {tuple(z.shape)}")
        _check_labels(labels, len(z), self.n_classes)
        h = self.norm(z)
        if self.embed is not None:
            h = torch.cat([h, self.norm(self.embed(labels))], dim=1)  # (B, 2Z)
        for layer in self.layers:
            h = activate(layer(h))
        return h

    @torch.no_grad()
    def measure_mean(self, n: int = 10_000, *, generator: torch.Generator) -> None:
        """Set `mean_style` to the mean style of `n` draws."""
        z = torch.randn(n, len(self.mean_style), generator=generator)
        labels = torch.randint(self.n_classes, (n,), generator=generator) if self.n_classes else None
        place = self.mean_style.device
        self.mean_style.copy_(self(z.to(place), None if labels is None else labels.to(place)).mean(dim=0))


class SynthesisNetwork(nn.Module):
    """g: styles (B, L, Z) → images (B, C, H, W). Each size adds its picture to the doubled sum of the smaller ones."""

    def __init__(self, config: StyleGANConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.channels(config.width)
        self.constant = nn.Parameter(torch.randn(1, widths[0], config.sizes[0], config.sizes[0]))
        steps = [(widths[0], widths[0])]
        for wide, narrow in pairwise(widths):
            steps += [(wide, narrow), (narrow, narrow)]
        self.convolutions = nn.ModuleList(StyledConv(n_in, n_out, config.latent_dim) for n_in, n_out in steps)
        self.to_image = nn.ModuleList(ToImage(n, config.n_channels, config.latent_dim) for n in widths)

    @property
    def noise_sizes(self) -> list[int]:
        """Height of the map that each convolution adds noise to."""
        return [self.config.sizes[(i + 1) // 2] for i in range(len(self.convolutions))]

    def noise(self, n: int, *, generator: torch.Generator) -> list[Tensor]:
        """A picture of noise (n, 1, size, size) for each convolution, drawn on the generator's device."""
        place, here = generator.device, self.constant.device
        return [torch.randn(n, 1, s, s, generator=generator, device=place).to(here) for s in self.noise_sizes]

    def forward(self, styles: Tensor, noise: list[Tensor] | None = None) -> Tensor:
        """Args: styles: (B, L, Z), coarse to fine; noise: of `noise` for B images or for one, None leaves it out."""
        c = self.config
        if styles.ndim != 3 or styles.shape[1:] != (c.n_styles, c.latent_dim):
            raise ValueError(f"styles must be (B, {c.n_styles}, {c.latent_dim}), got {tuple(styles.shape)}")
        noise = noise or [None] * len(self.convolutions)
        x, image = self.constant.expand(len(styles), -1, -1, -1), None
        for i, convolution in enumerate(self.convolutions):
            x = convolution(x, styles[:, i], noise[i], double=i % 2 == 1)
            if i % 2 == 0:  # the last one of its size
                picture = self.to_image[i // 2](x, styles[:, i + 1])
                image = picture if image is None else doubled(image) + picture
        return torch.tanh(image)  # (B, C, H, W)


class StyleGenerator(nn.Module):
    """Noise (B, Z) → images (B, C, H, W) in [-1, 1]: mapping and synthesis."""

    def __init__(self, config: StyleGANConfig) -> None:
        super().__init__()
        self.config = config
        self.mapping, self.synthesis = MappingNetwork(config), SynthesisNetwork(config)
        # The path length that training steers to. Not for generating; here, so that a checkpoint holds it.
        self.register_buffer("mean_path_length", torch.zeros(()))

    def styles(self, z: Tensor, labels: Tensor | None = None, *, truncation: float = 1.0) -> Tensor:
        """(B, L, Z): f(z) for all layers alike, w̄ + ψ (f(z) − w̄) with ψ = `truncation`; 0 makes one picture of all."""
        mean = self.mapping.mean_style
        w = torch.lerp(mean, self.mapping(z, labels), truncation) if truncation != 1 else self.mapping(z, labels)
        return w[:, None].expand(-1, self.config.n_styles, -1)

    def forward(
        self,
        z: Tensor,
        labels: Tensor | None = None,
        *,
        truncation: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Args: z: (B, Z); labels: (B,) where there are classes; generator: of the noise, None leaves the noise out."""
        noise = None if generator is None else self.synthesis.noise(len(z), generator=generator)
        return self.synthesis(self.styles(z, labels, truncation=truncation), noise)

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator, truncation: float = 1.0) -> Tensor:
        """`n` images of random noise, and of random classes where there are any."""
        place, c = generator.device, self.config
        z = torch.randn(n, c.latent_dim, generator=generator, device=place)
        labels = torch.randint(c.n_classes, (n,), generator=generator, device=place) if c.n_classes else None
        here = self.synthesis.constant.device
        z, labels = z.to(here), None if labels is None else labels.to(here)
        return self(z, labels, truncation=truncation, generator=generator)


def mix_styles(first: Tensor, second: Tensor, crossover: Tensor) -> Tensor:
    """Layers before `crossover` (B,) from `first` (B, L, Z), the rest from `second` (arXiv:1812.04948, section 3.1)."""
    layers = torch.arange(first.shape[1], device=crossover.device)
    return torch.where((layers < crossover[:, None])[:, :, None], first, second)


# --- discriminator ---------------------------------------------------------------------------------------------------


class StyleDiscriminator(nn.Module):
    """D: images (B, C, H, W), and labels (B,) where there are classes → logits (B,), positive for "real".

    With classes, the logit of an image and a label is ψ(h) + e(label)·h (projection, arXiv:1802.05637).
    """

    def __init__(self, config: StyleGANConfig) -> None:
        super().__init__()
        self.config = config
        widths, smallest = config.channels(config.discriminator_width)[::-1], config.sizes[0]
        top = widths[-1]
        self.from_image = EqualConv2d(config.n_channels, widths[0], 1)
        self.blocks = nn.Sequential(*(ResidualBlock(a, b) for a, b in pairwise(widths)))
        self.spread = MinibatchStandardDeviation(config.minibatch_group)
        self.last = EqualConv2d(top + 1, top, 3)
        self.dense, self.judge = EqualLinear(top * smallest**2, top), EqualLinear(top, 1)
        self.embed = nn.Embedding(config.n_classes, top) if config.n_classes else None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        c = self.config
        if images.ndim != 4 or images.shape[1:] != (c.n_channels, c.resolution, c.resolution):
            raise ValueError(
                f"images must be (B, {c.n_channels}, {c.resolution}, {c.resolution}), got {tuple(images.shape)}"
            )
        _check_labels(labels, len(images), c.n_classes)
        h = self.blocks(activate(self.from_image(images)))  # (B, top, 4 to 7, 4 to 7)
        h = activate(self.last(self.spread(h)))
        h = activate(self.dense(h.flatten(1)))  # (B, top)
        logits = self.judge(h).squeeze(1)
        return logits if labels is None else logits + (h * self.embed(labels)).sum(dim=1) / sqrt(h.shape[1])


def _check_labels(labels: Tensor | None, n: int, n_classes: int) -> None:
    if n_classes == 0 and labels is not None:
        raise ValueError("this network has no classes: pass no labels")
    if n_classes and (labels is None or labels.shape != (n,)):
        got = "none" if labels is None else tuple(labels.shape)
        raise ValueError(f"a network of {n_classes} classes needs labels ({n},), got {got}")


# --- what is made of it ----------------------------------------------------------------------------------------------


class PathLength(NamedTuple):
    """The penalty, and the mean length that the next one steers to."""

    penalty: Tensor
    mean_length: Tensor


def path_length_penalty(
    images: Tensor, styles: Tensor, mean_length: Tensor, *, generator: torch.Generator | None = None
) -> PathLength:
    """E(‖Jᵀy‖ − a)² with y ~ N(0, I)/√(HW) and J = ∂images/∂styles (arXiv:1912.04958, section 3.2).

    Smallest where a step in w changes the picture by as much wherever and whichever way it goes: E‖Jᵀy‖² = ‖J‖²/(HW),
    and its spread is least for equal singular values. To be taken in float32.

    Args:
        images: (B, C, H, W), computed from `styles` with gradients on.
        styles: (B, Z), or (B, L, Z).
        mean_length: (), a; 0 before the first call, which takes the batch's own mean. The one that is returned follows
            the mean length by a hundredth.

    Raises:
        ValueError: `styles` needs no gradient.
    """
    if not styles.requires_grad:
        raise ValueError("path length is a gradient with respect to the styles: they must require one")
    place = generator.device if generator is not None else images.device
    y = torch.randn(images.shape, generator=generator, device=place).to(images) / sqrt(images[0, 0].numel())
    (slope,) = torch.autograd.grad((images * y).sum(), styles, create_graph=True)
    lengths = slope.flatten(1).norm(dim=1)  # (B,)
    found = lengths.detach().mean()
    a = torch.where(mean_length > 0, mean_length, found)
    return PathLength((lengths - a).square().mean(), torch.lerp(a, found, 0.01))
