"""How good made frames are, beside the true ones, and how a clip moves, with or without true frames.

Frames are (B, C, H, W) or, as a clip, (F, C, H, W), float in [-1, 1]. Flow is in pixels from the first frame to the
second; a *flow function* takes two batches of frames and gives it, (B, 2, H, W): a FlowNet, or anything else.

References
    Wang, Bovik, Sheikh, Simoncelli 2004, "Image quality assessment: from error visibility to structural similarity"
"""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from aigc_lib.models.warping import warp

FlowFunction = Callable[[Tensor, Tensor], Tensor]

MOVED = 0.1  # of the range 2: 13 levels of 255, more than coding noise and less than most edges
_SIGMA, _RADIUS = 1.5, 5  # of the Gaussian window of SSIM, pixels
_PEAK = 2.0  # the range of frames in [-1, 1]


def moving(first: Tensor, second: Tensor) -> Tensor:
    """Which pixels move, (B, H, W) bool: where a channel of the two frames differs by more than 0.1 (`MOVED`).

    Decided from the two *given* frames alone, so that it is the same for everyone who makes a frame between them. The
    inside of a thing of one colour does not count, although it moves: there is nothing to be got wrong.
    """
    _same_frames(first, second)
    return (second - first).abs().amax(dim=1) > MOVED


def psnr(made: Tensor, true: Tensor, where: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio in decibels, (B,): 10 log₁₀(2² / mean squared error), infinite for equal frames.

    Args:
        made, true: (B, C, H, W) in [-1, 1].
        where: (B, H, W) bool, the pixels that count; a frame in which none does is NaN.

    Raises:
        ValueError: shapes that do not go together, or values outside [-1, 1].
    """
    _same_frames(made, true)
    made, true = _in_double(made), _in_double(true)
    error = _mean((made - true).square(), where)
    return 10 * torch.log10(_PEAK**2 / error)


def ssim(made: Tensor, true: Tensor, where: Tensor | None = None) -> Tensor:
    """Structural similarity, (B,), at most 1: luminance, contrast and structure under an 11 × 11 Gaussian window.

    Means over channels, and over the pixels whose window lies inside the frame. Arguments and errors as in `psnr`, and
    frames have at least 11 × 11 pixels.
    """
    _same_frames(made, true)
    if min(made.shape[2:]) <= 2 * _RADIUS:
        raise ValueError(f"the window has 11 × 11 pixels, the frames only {made.shape[2]} × {made.shape[3]}")
    x, y = _in_double(made), _in_double(true)
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x, variance_y = _blur(x * x) - mean_x.square(), _blur(y * y) - mean_y.square()
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2  # equations 12 and 13 with K₁ = 0.01, K₂ = 0.03
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    inside = slice(_RADIUS, -_RADIUS)
    return _mean(luminance * structure, None if where is None else where[:, inside, inside])


class Motion(NamedTuple):
    """How a clip of F frames moves, step by step."""

    magnitude: Tensor  # (F - 1,) mean length of the flow of each step, pixels
    acceleration: Tensor  # (F - 2,) mean change of the flow along the paths of points, pixels
    unexplained: Tensor  # (F - 1,) the share of the change from frame to frame that is no motion: 0 all, 1 none is

    @property
    def roughness(self) -> float:
        """Acceleration over magnitude: 0 for even motion, about √2 for one that has no memory."""
        return (self.acceleration.mean() / self.magnitude.mean()).item()


@torch.no_grad()
def motion(frames: Tensor, flow: FlowFunction) -> Motion:
    """The motion in a clip as a flow function sees it.

    The flow of the next step is read where that of this step leads, so an evenly moving thing has no acceleration.
    Unexplained is ‖I_t − warp(I_{t+1}, w)‖₁ / ‖I_t − I_{t+1}‖₁, at most 1 (0 where nothing changes): what remains of
    the change when the flow is undone. Colours that fade and things that appear remain.

    Args:
        frames: (F ≥ 3, C, H, W) in [-1, 1].

    Raises:
        ValueError: fewer than three frames, or not such.
    """
    _same_frames(frames, frames)
    if len(frames) < 3:
        raise ValueError(f"a clip needs at least 3 frames to have an acceleration, got {len(frames)}")
    steps = [flow(a[None], b[None]) for a, b in pairwise(frames)]  # one by one: memory
    unexplained = []
    for (first, second), step in zip(pairwise(frames), steps, strict=True):
        change = (second - first).abs().mean()
        rest = (warp(second[None], step)[0] - first).abs().mean()
        unexplained.append((rest / change).clamp(max=1) if change > 0 else torch.zeros_like(rest))
    changes = [warp(after, before) - before for before, after in pairwise(steps)]
    lengths, accelerations = (torch.stack([_length(each) for each in fields]) for fields in (steps, changes))
    return Motion(lengths, accelerations, torch.stack(unexplained))


def flicker(made: Tensor, true: Tensor, flow: Tensor) -> Tensor:
    """How much the error changes from frame to frame along the motion of the true clip, (F - 1,) in levels of 255.

    Mean of |e_{t+1}(p + w(p)) − e_t(p)| with e = made − true. As warping is linear, that is what the made frames change
    by when motion is undone, less what the true ones do. An error that goes along with its thing, such as blur, does
    not flicker, however large it is. White noise of standard deviation σ in a clip without motion gives 2σ/√π.

    Args:
        made, true: (F ≥ 2, C, H, W) in [-1, 1].
        flow: (F - 1, 2, H, W), w: from each frame of the true clip to the next.

    Raises:
        ValueError: a single frame, a flow of another shape, or as in `psnr`.
    """
    _same_frames(made, true)
    if len(true) < 2:
        raise ValueError("a single frame does not flicker; expected at least 2")
    error = made - true
    return 255 / _PEAK * (warp(error[1:], flow) - error[:-1]).abs().mean(dim=(1, 2, 3))


def whiteness(frames: Tensor) -> float:
    """Whether a clip has a memory: mean squared change over one step, divided by that over two.

    1 for frames that know nothing of one another (each change is the sum of two independent frames' variances, however
    far apart they are), ¼ for an even change (twice as far after twice the time), ½ for a random walk. No flow is
    needed.

    Raises:
        ValueError: fewer than three frames, not in [-1, 1], or a clip in which nothing changes over two steps.
    """
    _same_frames(frames, frames)
    frames = _in_double(frames)
    one, two = ((frames[gap:] - frames[:-gap]).square().mean() for gap in (1, 2))
    if not two > 0:  # NaN for fewer than three frames
        raise ValueError(f"expected at least 3 frames that change, got {len(frames)}")
    return (one / two).item()


def _length(flow: Tensor) -> Tensor:
    return torch.linalg.vector_norm(flow, dim=1).mean()


def _in_double(frames: Tensor) -> Tensor:
    return frames.to("cpu", torch.float64)  # not every device has float64


def _mean(values: Tensor, where: Tensor | None) -> Tensor:
    """Mean (B,) of (B, C, H, W) over channels and the pixels of (B, H, W) that count."""
    values = values.mean(dim=1)
    if where is None:
        return values.mean(dim=(1, 2))
    if where.shape != values.shape or where.dtype != torch.bool:
        raise ValueError(f"expected `where` as bool (B, H, W) like the frames, got {where.dtype} {tuple(where.shape)}")
    where = where.to(values.device)
    return (values * where).sum(dim=(1, 2)) / where.sum(dim=(1, 2))


def _blur(x: Tensor) -> Tensor:
    """Gaussian mean around each pixel whose window lies inside: (B, C, H - 10, W - 10)."""
    offsets = torch.arange(-_RADIUS, _RADIUS + 1, dtype=x.dtype, device=x.device)
    window = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    for side in (2, 3):  # in float64 a sum of slices takes a third of the time of a convolution
        n = x.shape[side] - 2 * _RADIUS
        x = sum(weight * x.narrow(side, i, n) for i, weight in enumerate(window / window.sum()))
    return x


def _same_frames(first: Tensor, second: Tensor) -> None:
    if first.ndim != 4 or first.shape != second.shape or not first.is_floating_point():
        shapes = f"{tuple(first.shape)} and {tuple(second.shape)}, {first.dtype}"
        raise ValueError(f"expected float frames (B, C, H, W) of one shape, got {shapes}")
    for frames in (first, second):
        if not frames.numel() or not frames.abs().max() <= 1 + 1e-3:
            largest = frames.abs().max().item() if frames.numel() else "no value"
            raise ValueError(f"expected finite frames in [-1, 1], got up to {largest}")
