"""What a trained StyleGAN is good for: films of stills, pictures found again in it, directions to edit along.

The functions take a `StyleGenerator`, here any module with its `config`, `mapping`, `synthesis` and `styles`.
"""

from collections.abc import Callable
from math import cos, pi
from typing import NamedTuple

import torch
import torch.nn.functional as F
from scipy.interpolate import CubicSpline
from torch import Tensor, nn


def slerp(first: Tensor, second: Tensor, t: Tensor | float) -> Tensor:
    """Along the great circle from `first` (t = 0) to `second` (t = 1), vectors in the last axis."""
    unit = [F.normalize(each, dim=-1) for each in (first, second)]
    angle = (unit[0] * unit[1]).sum(dim=-1, keepdim=True).clamp(-1 + 1e-6, 1 - 1e-6).acos()
    return (torch.sin((1 - t) * angle) * first + torch.sin(t * angle) * second) / angle.sin()


@torch.no_grad()
def latent_walk(
    model: nn.Module,
    n_frames: int,
    *,
    n_keys: int = 6,
    space: str = "w",
    truncation: float = 1.0,
    generator: torch.Generator,
) -> Tensor:
    """A film of stills along a closed path through `n_keys` random points: frame F would be frame 0 again.

    In "w" the path is a periodic cubic spline through styles, without a corner; in "z" it is made of great circles. All
    frames share one picture of noise. A network with classes keeps one class.

    Returns:
        (F, C, H, W) on the CPU.

    Raises:
        ValueError: unknown space, no frame, fewer than 2 keys.
    """
    if space not in ("w", "z") or n_frames < 1 or n_keys < 2:
        raise ValueError(f'expected space "w" or "z", n_frames ≥ 1, n_keys ≥ 2, got {space!r}, {n_frames}, {n_keys}')
    c, here = model.config, model.synthesis.constant.device
    keys = torch.randn(n_keys, c.latent_dim, generator=generator, device=generator.device).to(here)
    label = torch.randint(c.n_classes, (), generator=generator, device=generator.device) if c.n_classes else None
    noise = model.synthesis.noise(1, generator=generator)

    def styles(z: Tensor) -> Tensor:
        return model.styles(z, None if label is None else label.to(here).expand(len(z)), truncation=truncation)

    if space == "z":
        times = torch.arange(n_frames, dtype=torch.float64) * n_keys / n_frames  # in keys
        start = times.long()
        path = styles(slerp(keys[start], keys[(start + 1) % n_keys], (times - start)[:, None].to(keys)))
    else:
        path = closed_path(styles(keys)[:, 0], n_frames)[:, None].expand(-1, c.n_styles, -1)
    return torch.cat([model.synthesis(some, noise).cpu() for some in path.split(32)])


def closed_path(keys: Tensor, n: int) -> Tensor:
    """(n, Z) points on the periodic cubic spline through `keys` (K ≥ 2, Z), even in time: point n would be point 0."""
    times = torch.arange(n, dtype=torch.float64) * len(keys) / n  # in keys
    nodes = torch.cat([keys, keys[:1]]).cpu()
    spline = CubicSpline(range(len(nodes)), nodes.numpy(), bc_type="periodic")
    return torch.from_numpy(spline(times.numpy())).to(keys)


class Inversion(NamedTuple):
    """Styles (B, L, Z), the images (B, C, H, W) that they make, and the loss after each step."""

    styles: Tensor
    images: Tensor
    losses: list[float]


def invert(
    model: nn.Module,
    images: Tensor,
    *,
    n_steps: int = 300,
    learning_rate: float = 0.05,
    per_layer: bool = True,
    features: Callable[[Tensor], Tensor] | None = None,
) -> Inversion:
    """Find styles whose pictures are `images`, by gradient descent from the mean style, without noise.

    Args:
        model: its weights get no gradient.
        images: (B, C, H, W) in [-1, 1].
        per_layer: a style of its own for every layer (Image2StyleGAN's W+, arXiv:1904.03189), which fits more closely
            and edits worse, or one for all (W).
        features: images → (B, D), compared beside the pixels, squared errors in proportion to the images' own.

    Raises:
        ValueError: images of another size, or outside [-1, 1], where no picture of the model can follow.
    """
    c = model.config
    if images.ndim != 4 or images.shape[1:] != (c.n_channels, c.resolution, c.resolution):
        raise ValueError(f"expected (B, {c.n_channels}, {c.resolution}, {c.resolution}), got {tuple(images.shape)}")
    if images.abs().max() > 1.001:
        raise ValueError(f"images must be in [-1, 1], got {images.min():.3g} to {images.max():.3g}")
    start = model.mapping.mean_style.expand(len(images), c.n_styles if per_layer else 1, -1)
    w = start.detach().clone().requires_grad_()
    optimiser = torch.optim.Adam([w], lr=learning_rate)
    with torch.no_grad():
        wanted = None if features is None else features(images)
    losses = []
    for step in range(n_steps):
        optimiser.param_groups[0]["lr"] = learning_rate * 0.5 * (1 + cos(pi * step / n_steps))
        made = model.synthesis(w.expand(-1, c.n_styles, -1))
        loss = (made - images).square().mean()
        if features is not None:
            loss = loss + (features(made) - wanted).square().mean() / wanted.square().mean()
        (w.grad,) = torch.autograd.grad(loss, w)
        optimiser.step()
        losses.append(loss.item())
    styles = w.detach().expand(-1, c.n_styles, -1)
    with torch.no_grad():
        return Inversion(styles, model.synthesis(styles), losses)


class Directions(NamedTuple):
    """Unit vectors (K, Z) of styles, strongest first, and how strongly each moves the layers' scales (K,)."""

    vectors: Tensor
    strengths: Tensor


@torch.no_grad()
def factorise(model: nn.Module, layers: slice = slice(None)) -> Directions:
    """Directions n in W that change the modulation most: right singular vectors of the layers' affine maps A.

    Closed form, without data (SeFa, arXiv:2007.06600): n maximises ‖A n‖² among unit vectors, so it is an eigenvector
    of AᵀA, and the strength is the singular value.

    Args:
        layers: which convolutions' affine maps are stacked to A, coarse to fine.

    Raises:
        ValueError: no layer is left.
    """
    chosen = [each.affine for each in model.synthesis.convolutions][layers]
    if not chosen:
        raise ValueError(f"no layer is in {layers}; there are {len(model.synthesis.convolutions)}")
    a = torch.cat([affine.weight * affine.scale for affine in chosen])  # (channels, Z)
    _, strengths, vectors = torch.linalg.svd(a, full_matrices=False)
    return Directions(vectors, strengths)
