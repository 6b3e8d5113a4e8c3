"""What optical flow is good for: following pixels, finding out which cannot be followed, and frames in between.

Axis letters: B batch, C channels, H W image. Flow is (B, 2, H, W) in pixels, channel 0 right, channel 1 down: the point
at p of the first frame is at p + flow(p) of the second. Nothing here is learned, everything is differentiable.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

FIXED_POINT_STEPS = 4  # of finding where a moving point was: the error shrinks by t·‖∇flow‖ each time


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """Sample `image` at the points that `flow` leads to (backward warping), with bilinear interpolation.

    Args:
        image: (B, C, H, W), any range.
        flow: (B, 2, H, W) in pixels; channel 0 points right, channel 1 down.

    Returns:
        (B, C, H, W). A zero flow returns the image itself, bit for bit. Points outside the image take the border.

    Raises:
        ValueError: batch, height or width of the two differ, or flow has not two channels.
    """
    if flow.ndim != 4 or flow.shape[1] != 2 or not flow.is_floating_point():
        raise ValueError(f"flow must be float (B, 2, H, W), got {flow.dtype} {tuple(flow.shape)}")
    if image.ndim != 4 or image.shape[0] != flow.shape[0] or image.shape[2:] != flow.shape[2:]:
        raise ValueError(f"image and flow need one batch and size, got {tuple(image.shape)} and {tuple(flow.shape)}")
    # grid_sample takes positions in [-1, 1]. There and back, rounding moves whole pixels a little, unless all it does
    # is to multiply and divide by a power of two: so the picture is given such sides, with zeros that nobody reads.
    h, w = image.shape[2:]
    height, width = (1 << (side - 1).bit_length() for side in (h, w))
    x, y = (follow(flow)[:, i].clamp(0, side - 1) for i, side in enumerate((w, h)))
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)  # (B, H, W, 2)
    framed = F.pad(image.to(grid.dtype), (0, width - w, 0, height - h))
    return F.grid_sample(framed, grid, align_corners=False).to(image.dtype)


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
    """Both frames, moved to time t, and how visible each point of that time is in each of them.

    Each frame moves by its own flow. A point that only the first frame shows (the second hides it) counts as not
    visible in the second, and the other way round.

    Args:
        first, second: (B, C, H, W), the frames at times 0 and 1.
        forward, backward: (B, 2, H, W), from the first to the second frame and the other way.
        t: in [0, 1].

    Returns:
        The first and the second frame moved, (B, C, H, W) each; visibility in the first and in the second frame,
        (B, 1, H, W) each, in [0, 1].

    Raises:
        ValueError: t outside [0, 1], or shapes that do not go together.
    """
    if not 0 <= t <= 1:
        raise ValueError(f"t must lie between the frames, in [0, 1], got {t}")
    if first.shape != second.shape or forward.shape != backward.shape:
        shapes = ", ".join(str(tuple(each.shape)) for each in (first, second, forward, backward))
        raise ValueError(f"expected two frames of one shape and two flows of one shape, got {shapes}")
    to_first, to_second = motion_until(forward, t), motion_until(backward, 1 - t)
    only_first = warp(occlusion(forward, backward)[:, None].to(first.dtype), to_first)
    only_second = warp(occlusion(backward, forward)[:, None].to(first.dtype), to_second)
    return warp(first, to_first), warp(second, to_second), 1 - only_second, 1 - only_first


def interpolate(first: Tensor, second: Tensor, forward: Tensor, backward: Tensor, t: float) -> Tensor:
    """The frame at time t between two, by warping both and taking each point from where it is visible.

    Weights are (1 − t) · visibility in the first frame and t · visibility in the second, so that t = 0 gives the first
    frame and t = 1 the second, bit for bit. Arguments and errors as in `brought_to`; returns (B, C, H, W).
    """
    from_first, from_second, in_first, in_second = brought_to(first, second, forward, backward, t)
    # A point that neither is said to show still needs a colour: then time alone decides.
    weights = (1 - t) * (in_first + 1e-3), t * (in_second + 1e-3)
    return torch.lerp(from_second, from_first, (weights[0] / (weights[0] + weights[1])).expand_as(first))
