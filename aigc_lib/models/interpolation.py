"""Frames that nobody filmed: between two given ones, and after the last.

Optical flow says where things go; a frame at another time needs more: both frames moved there, a choice between them
where only one shows what is to be seen, and something to mend what neither does. `FrameSynthesis` learns the last two
and mends the motion itself. It takes the flow of any estimator and starts, untrained, as `warping.interpolate`.

Axis letters: B batch, C channels, H W image. Frames are in [-1, 1]; flow is (B, 2, H, W) in pixels.

References
    Jiang et al. 2018, "Super SloMo", arXiv:1712.00080: flows to the time in between are mended by a U-Net, and
    visibility maps choose. Differs from the paper in
- the flows to the time in between: each from its own frame by `warping.motion_until`, not a mixture of both;
- size: two halvings instead of five, and a hundredth of the weights; the flow network is not trained with it;
- a correction of colours is added, and every correction fades out towards the given frames.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aigc_lib.models.flownet import estimate_flow
from aigc_lib.models.warping import brought_to, motion_until, warp

SIDE = 256  # pixels: larger frames are shrunk to it to find motion and corrections, so that both have a known size
_SURE = 1e-3  # trust is never quite 0: a point that neither frame knows still needs a colour


@dataclass(frozen=True, kw_only=True)
class InterpolationConfig:
    """Sizes of the network: channels of a frame, and of the features at full resolution (more at lower ones)."""

    n_channels: int = 3
    width: int = 24

    def __post_init__(self) -> None:
        if self.n_channels < 1 or self.width < 1:
            raise ValueError(f"n_channels and width must be at least 1, got {self.n_channels} and {self.width}")


class FrameSynthesis(nn.Module):
    """The frame at time t between two: both warped, with mended motion, mixed by trust, and mended colours.

    A U-Net sees both frames as they are and as they were moved, how far each pixel of either can be trusted
    (`warping.brought_to`), both motions and t. It corrects the motions, the mixture and the colours. Its corrections
    are multiplied by 4 t (1 − t): at the times of the given frames the result is the given frame.
    """

    def __init__(self, config: InterpolationConfig) -> None:
        super().__init__()
        self.config = config
        c, w = config.n_channels, config.width
        self.fine = nn.Sequential(_convolution(4 * c + 7, w), _convolution(w, w))
        self.middle = nn.Sequential(_convolution(w, 2 * w, stride=2), _convolution(2 * w, 2 * w))
        self.coarse = nn.Sequential(_convolution(2 * w, 3 * w, stride=2), _convolution(3 * w, 3 * w))
        self.up_to_middle = _convolution(5 * w, 2 * w)
        self.up_to_fine = nn.Sequential(_convolution(3 * w, w), _convolution(w, w))
        self.corrections = nn.Conv2d(w, 5 + c, 3, padding=1)
        nn.init.zeros_(self.corrections.weight)  # to begin with, `warping.interpolate`
        nn.init.zeros_(self.corrections.bias)

    def forward(self, first: Tensor, second: Tensor, forward: Tensor, backward: Tensor, t: float) -> Tensor:
        """The frame at time t.

        Args:
            first, second: (B, C, H, W) in [-1, 1], the frames at times 0 and 1; any H and W.
            forward, backward: (B, 2, H, W), flow from the first to the second frame and the other way.
            t: in [0, 1].

        Returns:
            (B, C, H, W) in [-1, 1].

        Raises:
            ValueError: t outside [0, 1], or shapes that do not go together.
        """
        if first.ndim != 4 or first.shape[1] != self.config.n_channels:
            raise ValueError(f"expected frames (B, {self.config.n_channels}, H, W), got {tuple(first.shape)}")
        from_first, from_second, trust_first, trust_second = brought_to(first, second, forward, backward, t)
        to_first, to_second = motion_until(forward, t), motion_until(backward, 1 - t)
        time = torch.full_like(trust_first, t)
        # In the network motions are of the order of 1: it counts in 8 pixels of the size it works at.
        unit = 8 / _scale(first)  # pixels of the frames
        seen = [first, second, from_first, from_second, trust_first, trust_second, to_first / unit, to_second / unit]
        change = 4 * t * (1 - t) * self._corrections(torch.cat([*seen, time], dim=1))
        from_first = warp(first, to_first + unit * change[:, 0:2])
        from_second = warp(second, to_second + unit * change[:, 2:4])
        weights = (1 - t) * (trust_first + _SURE), t * (trust_second + _SURE)
        doubt = change[:, 4:5].exp()  # multiplies the odds of the first frame
        share = weights[0] * doubt / (weights[0] * doubt + weights[1])
        return (torch.lerp(from_second, from_first, share) + change[:, 5:]).clamp(-1, 1)

    def _corrections(self, x: Tensor) -> Tensor:
        """(B, 5 + C, H, W): two motions, logarithm of odds, colours; of large frames found at a smaller size."""
        size, scale = x.shape[2:], _scale(x)
        if scale < 1:
            x = F.interpolate(x, [max(1, round(side * scale)) for side in size], mode="bilinear", antialias=True)
        h, w = x.shape[2:]
        fine = self.fine(F.pad(x, (0, -w % 4, 0, -h % 4), mode="replicate"))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        middle = self.up_to_middle(torch.cat([_twice(coarse), middle], dim=1))
        fine = self.up_to_fine(torch.cat([_twice(middle), fine], dim=1))
        corrections = self.corrections(fine)[:, :, :h, :w].float()
        return F.interpolate(corrections, size, mode="bilinear") if scale < 1 else corrections


def both_flows(estimator: Callable[[Tensor, Tensor], Tensor], first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Flow from the first frames to the second and back, (B, 2, H, W) each, in two looks (`flownet.estimate_flow`).

    Args:
        estimator: a `FlowNet`, or anything that takes two batches of frames and gives a flow.
        first, second: (B, C, H, W).
    """
    scale = _scale(first)
    frames = torch.cat([first, second]), torch.cat([second, first])
    forward, backward = estimate_flow(estimator, *frames, scales=(scale / 2, scale)).float().chunk(2)
    return forward, backward


def predict_next(last: Tensor, to_previous: Tensor, ahead: float = 1.0) -> Tensor:
    """The frame after the last, if everything goes on as it went.

    What was not to be seen before stays unknown: where something moves away, the border of what is behind is drawn out.

    Args:
        last: (B, C, H, W).
        to_previous: (B, 2, H, W), flow from the last frame to the one before it.
        ahead: how far after the last, in steps from frame to frame; 0 gives the last itself, bit for bit.

    Returns:
        (B, C, H, W).
    """
    return warp(last, motion_until(-to_previous, ahead))


def _convolution(n_inputs: int, n_outputs: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(n_inputs, n_outputs, 3, stride, padding=1), nn.LeakyReLU(0.1))


def _scale(frames: Tensor) -> float:
    return min(1.0, SIDE / max(frames.shape[2:]))


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
