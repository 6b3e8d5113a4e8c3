"""What optical flow is good for: following pixels, finding out which cannot be followed, and frames in between.

Axis letters: B batch, C channels, H W image. Flow is (B, 2, H, W) in pixels, channel 0 right, channel 1 down: the point
at p of the first frame is at p + flow(p) of the second. Nothing here is learned, everything is differentiable.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

HIDDEN = 0.05  # trust in a point that the other frame does not show
FIXED_POINT_STEPS = 4  # of finding where a moving point was: the error shrinks by t·‖∇flow‖ each time


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """Sample `image` at the points that `flow` leads to (backward warping), with bilinear interpolation.

    Args:
        image: float (B, C, H, W), any range.
        flow: (B, 2, H, W) in pixels; channel 0 points right, channel 1 down.

    Returns:
        (B, C, H, W). A zero flow returns the image itself, bit for bit. Points outside the image take the border.

    Raises:
        ValueError: batch, height or width of the two differ, flow has not two channels, or one of them is not float.
    """
    if flow.ndim != 4 or flow.shape[1] != 2 or not flow.is_floating_point():
        raise ValueError(f"flow must be float (B, 2, H, W), got {flow.dtype} {tuple(flow.shape)}")
    if image.ndim != 4 or image.shape[0] != flow.shape[0] or image.shape[2:] != flow.shape[2:]:
        raise ValueError(f"image and flow need one batch and size, got {tuple(image.shape)} and {tuple(flow.shape)}")
    if not image.is_floating_point():
        raise ValueError(f"image must be float, so that there is something between two pixels, got {image.dtype}")
    # grid_sample takes positions in [-1, 1]. There and back, rounding moves whole pixels a little, unless all it does
    # is to multiply and divide by a power of two: so the picture is continued until its sides are such.
    h, w = image.shape[2:]
    height, width = (1 << (side - 1).bit_length() for side in (h, w))
    x, y = follow(flow.to(torch.promote_types(flow.dtype, image.dtype))).unbind(dim=1)  # (B, H, W)
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    framed = F.pad(image.to(grid.dtype), (0, width - w, 0, height - h), mode="replicate")
    return F.grid_sample(framed, grid, padding_mode="border", align_corners=False).to(image.dtype)


def follow(flow: Tensor) -> Tensor:
    """Where each pixel goes, (B, 2, H, W): its column and row plus its flow, in float32 at least."""
    h, w = flow.shape[2:]
    flow = flow.to(torch.promote_types(flow.dtype, torch.float32))
    axes = torch.arange(h, device=flow.device), torch.arange(w, device=flow.device)
    y, x = torch.meshgrid(*axes, indexing="ij")
    return flow + torch.stack([x, y])


def forward_backward_error(forward: Tensor, backward: Tensor) -> Tensor:
    """How far from its start a point ends that goes there by `forward` and comes back by `backward`, (B, H, W) pixels.

    ‖w_f(p) + w_b(p + w_f(p))‖: zero for a point that both frames show, if both flows are right. Swap the two for the
    points of the second frame.
    """
    return torch.linalg.vector_norm(forward + warp(backward, forward), dim=1)


def occlusion(forward: Tensor, backward: Tensor, *, relative: float = 0.01, absolute: float = 0.5) -> Tensor:
    """Which points of the first frame the second does not show, (B, H, W) bool.

    Those that leave the frame, and those that do not come back:
    ‖w_f + w_b‖² > relative · (‖w_f‖² + ‖w_b‖²) + absolute, with w_b taken where w_f leads (Sundaram, Brox, Keutzer
    2010, "Dense point trajectories by GPU-accelerated large displacement optical flow", equation 5).

    Args:
        forward, backward: (B, 2, H, W), from the first frame to the second and the other way. Swapped, they tell
            which points of the second frame the first does not show.
        relative: tolerance for errors that grow with motion.
        absolute: tolerance in square pixels.
    """
    back = warp(backward, forward)
    squares = forward.square().sum(dim=1) + back.square().sum(dim=1)
    lost = (forward + back).square().sum(dim=1) > relative * squares + absolute
    x, y = follow(forward).unbind(dim=1)
    h, w = forward.shape[2:]
    return lost | (x < 0) | (x > w - 1) | (y < 0) | (y > h - 1)


def motion_until(flow: Tensor, t: float) -> Tensor:
    """From each pixel of the frame at time t back to the first frame, (B, 2, H, W), if points move evenly along `flow`.

    A point that is at p at time t started at q with q + t · flow(q) = p. That equation is solved by iteration,
    q ← p − t · flow(q); across an edge of the motion it has two solutions or none, and the one near p is found.

    Args:
        flow: (B, 2, H, W) from the frame at time 0 to that at time 1.
        t: in [0, 1]; 0 gives zeros.
    """
    back = -t * flow
    for _ in range(FIXED_POINT_STEPS):
        back = -t * warp(flow, back)
    return back


def brought_to(
    first: Tensor, second: Tensor, forward: Tensor, backward: Tensor, t: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Both frames, moved to time t, and how far each pixel of either can be trusted.

    Each frame moves by its own flow. Where both frames show a point, its way is known: it is there at time t, whatever
    else is (1). A point that only one frame shows may be hidden at time t already, or still: it counts where there is
    nothing better (`HIDDEN`). Where no point of the frame comes to, or only one from outside of it, the frame knows
    nothing (0).

    Args:
        first, second: (B, C, H, W), the frames at times 0 and 1.
        forward, backward: (B, 2, H, W), from the first to the second frame and the other way.
        t: in [0, 1].

    Returns:
        The first and the second frame moved, (B, C, H, W) each; trust in the first and in the second, (B, 1, H, W)
        each, in [0, 1].

    Raises:
        ValueError: t outside [0, 1], or shapes that do not go together.
    """
    if not 0 <= t <= 1:
        raise ValueError(f"t must lie between the frames, in [0, 1], got {t}")
    if first.shape != second.shape or forward.shape != backward.shape:
        shapes = ", ".join(str(tuple(each.shape)) for each in (first, second, forward, backward))
        raise ValueError(f"expected two frames of one shape and two flows of one shape, got {shapes}")
    to_first, to_second = motion_until(forward, t), motion_until(backward, 1 - t)
    trust = _trust(forward, backward, to_first, t), _trust(backward, forward, to_second, 1 - t)
    return warp(first, to_first), warp(second, to_second), *trust


def _trust(flow: Tensor, back: Tensor, found: Tensor, t: float) -> Tensor:
    """(B, 1, H, W): see `brought_to`. `found` is `motion_until(flow, t)`, where the points of time t come from."""
    missed = torch.linalg.vector_norm(found + t * warp(flow, found), dim=1, keepdim=True)  # pixels
    x, y = follow(found).split(1, dim=1)
    h, w = flow.shape[2:]
    inside = (x >= 0) & (x <= w - 1) & (y >= 0) & (y <= h - 1)
    hidden = warp(occlusion(flow, back)[:, None].to(flow.dtype), found)
    return inside * (1 - missed).clamp(min=0) * (1 - (1 - HIDDEN) * hidden)


def interpolate(first: Tensor, second: Tensor, forward: Tensor, backward: Tensor, t: float) -> Tensor:
    """The frame at time t between two, by warping both and taking each point from where it can be trusted.

    Weights are (1 − t) · trust in the first frame and t · trust in the second, so that t = 0 gives the first
    frame and t = 1 the second, bit for bit. Arguments and errors as in `brought_to`; returns (B, C, H, W).
    """
    from_first, from_second, trust_first, trust_second = brought_to(first, second, forward, backward, t)
    # A point that neither knows still needs a colour: then time alone decides.
    weights = (1 - t) * (trust_first + 1e-3), t * (trust_second + 1e-3)
    share = (weights[0] / (weights[0] + weights[1])).to(first.dtype).expand_as(first)
    return torch.lerp(from_second, from_first, share)
