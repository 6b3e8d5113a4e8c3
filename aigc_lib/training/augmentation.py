"""Adaptive discriminator augmentation: a discriminator that sees few pictures sees them distorted, as often as needed.

Reals and fakes are distorted alike before they are judged, each way of distorting with a probability p < 1. Then the
generator does not learn the distortions: they map distributions one to one, so distorted fakes can only look like
distorted reals when the fakes look like the reals (Karras et al. 2020, arXiv:2006.06676, section 2.2). The probability
follows how far the discriminator has learned the training set by heart (section 3).

One to one means that no frequency of what is drawn is lost: mirroring and quarter turns keep 1 − p of theirs, but a
shift, evenly drawn from few places, may cancel one. At 24 pixels and more none is cancelled for p ≤ 0.8.

Differs from the paper in: fewer transforms (no anisotropic scaling, no luma flip, no filters, noise or cutout: small
pictures); one bilinear sampling without wavelets; the heuristic is averaged exponentially and not over four batches.
"""

from math import pi
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_PROBABILITY = 0.8  # up to here the paper saw nothing leak into the generated pictures (section 2.2)


class Distortion(NamedTuple):
    """What happens to each image of a batch. All differentiable in the images.

    Attributes:
        places: (B, 2, 3), from where in the picture to where in the original: coordinates in [-1, 1], right and down.
        colours: (B, C, C), by which each pixel's colour is multiplied.
        brightness: (B, 1, 1), added to it.
    """

    places: Tensor
    colours: Tensor
    brightness: Tensor

    def apply(self, images: Tensor) -> Tensor:
        """Distort (B, C, H, W); what enters the frame is the picture reflected at its border. In float32 at least."""
        with torch.autocast(images.device.type, enabled=False):  # it would round where pixels come from
            images = images.to(torch.promote_types(images.dtype, torch.float32))
            places, colours, brightness = (each.to(images) for each in self)
            grid = F.affine_grid(places, list(images.shape), align_corners=False)
            moved = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
            return torch.baddbmm(brightness, colours, moved.flatten(2)).view_as(images)


def random_distortion(
    n: int, n_channels: int, resolution: int, probability: float, *, generator: torch.Generator
) -> Distortion:
    """Draw for `n` images; each transform takes part in each image with `probability`, independently.

    Mirroring, quarter turns, shifts by whole pixels up to an eighth, scaling by 2^(0.2 N), any rotation; brightness by
    0.2 N, contrast by 2^(0.5 N), and for colours saturation by 2^N and any turn of hue, with N ~ N(0, 1).

    Raises:
        ValueError: probability outside [0, 1).
    """
    if not 0 <= probability < 1:
        raise ValueError(f"probability must be in [0, 1), got {probability}")

    def chosen(values: Tensor) -> Tensor:
        """`values` (n) where the transform takes part, 0 elsewhere."""
        return values * (torch.rand(n, generator=generator) < probability)

    def uniform() -> Tensor:
        return torch.rand(n, generator=generator)

    def normal(deviation: float) -> Tensor:
        return torch.randn(n, generator=generator) * deviation

    mirror = 1 - 2 * chosen((uniform() < 0.5).float())
    angle = chosen((uniform() * 4).floor()) * (pi / 2) + chosen(uniform() * 2 * pi)
    zoom = torch.exp2(chosen(normal(0.2)))
    reach = resolution // 8
    shifts = [chosen((uniform() * (2 * reach + 1)).floor() - reach) * (2 / resolution) for _ in range(2)]
    c, s = angle.cos() * zoom, angle.sin() * zoom
    places = torch.stack([mirror * c, -s, shifts[0], mirror * s, c, shifts[1]], dim=1).view(n, 2, 3)

    contrast, brightness = torch.exp2(chosen(normal(0.5))).view(n, 1, 1), chosen(normal(0.2)).view(n, 1, 1)
    if n_channels != 3:
        return Distortion(places, contrast * torch.eye(n_channels), brightness)
    hue, saturation = chosen(uniform() * 2 * pi).view(n, 1, 1), torch.exp2(chosen(normal(1.0))).view(n, 1, 1)
    grey = torch.full((3, 3), 1 / 3)  # projects a colour on the grey axis
    across = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / 3**0.5  # a quarter turn about that axis
    turned = hue.cos() * (torch.eye(3) - grey) + hue.sin() * across  # Rodrigues, without the part along the axis
    return Distortion(places, contrast * (grey + saturation * turned), brightness)


class AdaptiveProbability(nn.Module):
    """The probability that follows overfitting r = E[sign D(real)]: up where r exceeds its target, down where not.

    0: the discriminator has no opinion of the training pictures; 1: it is sure of all of them. Both numbers are
    buffers, so that a resumed run goes on where it was.

    Args:
        target: of r (0.6 in the paper).
        ramp: images after which the probability can have gone from 0 to 1.
    """

    def __init__(self, *, target: float = 0.6, ramp: int = 500_000) -> None:
        super().__init__()
        self.target, self.ramp = target, ramp
        self.register_buffer("probability", torch.zeros(()))
        self.register_buffer("overfitting", torch.zeros(()))

    @torch.no_grad()
    def update(self, signs: Tensor, n_images: int) -> None:
        """Take note of the mean sign () of the logits of `n_images` real images."""
        self.overfitting.lerp_(signs, 0.25)
        self.probability.add_((self.overfitting - self.target).sign(), alpha=n_images / self.ramp)
        self.probability.clamp_(0, MAX_PROBABILITY)
