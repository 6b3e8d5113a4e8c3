"""Enhanced film: twice the height and width, and less noise, from a frame and its neighbours.

The camera is taken to be poor in a known way (`degrade`): each of its pixels is the mean of 2 × 2 true ones, plus
Gaussian noise, cut off at black and white. `VideoEnhancer` is trained to undo that with the least squared error, so it
approximates the posterior mean: the average over all films that would have looked like that.

Axis letters: B batch, F frames (neighbours in time, an odd number), C channels, H W image. Frames are in [-1, 1]; noise
is a standard deviation in the same unit, so 2 / 255 is one grey level.

References
    Dong et al. 2014, "SRCNN", arXiv:1501.00092: a network learns super-resolution from end to end.
    Shi et al. 2016, arXiv:1609.05158: work at low resolution, shuffle channels into pixels at the end.
    Lim et al. 2017, "EDSR", arXiv:1707.02921: residual blocks without normalisation.
    Tassano et al. 2020, "FastDVDnet", arXiv:1907.01361: neighbouring frames without estimated motion, a map of the
    noise level as input. Differs from these in size (a hundredth and less of EDSR's weights), and in doing both tasks
    at once.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_NORMAL_QUARTILE = 0.6745  # the median of |z| for standard normal z


@dataclass(frozen=True, kw_only=True)
class EnhancementConfig:
    """Sizes of the network.

    Args:
        n_channels: of a frame.
        n_frames: how many it looks at, an odd number; the one in the middle is enhanced.
        width, n_blocks: channels of the features, and residual blocks of two convolutions.
    """

    n_channels: int = 3
    n_frames: int = 3
    width: int = 40
    n_blocks: int = 4

    def __post_init__(self) -> None:
        if min(self.n_channels, self.n_frames, self.width, self.n_blocks) < 1 or self.n_frames % 2 == 0:
            raise ValueError(f"expected sizes of at least 1 and an odd number of frames, got {self}")


class VideoEnhancer(nn.Module):
    """Bicubic enlargement of the middle frame, plus what a residual network adds to each of the four new pixels."""

    def __init__(self, config: EnhancementConfig) -> None:
        super().__init__()
        self.config = config
        c, w = config.n_channels, config.width
        self.first = nn.Conv2d(config.n_frames * c + 1, w, 3, padding=1)  # and the noise level
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(w, w, 3, padding=1), nn.ReLU(), nn.Conv2d(w, w, 3, padding=1))
            for _ in range(config.n_blocks)
        )
        self.detail = nn.Conv2d(w, 4 * c, 3, padding=1)
        nn.init.zeros_(self.detail.weight)  # to begin with, bicubic
        nn.init.zeros_(self.detail.bias)

    def forward(self, frames: Tensor, noise: Tensor) -> Tensor:
        """The middle frames, twice as high and wide.

        Args:
            frames: (B, F, C, H, W) in [-1, 1]; any H and W.
            noise: (B,), at least 0: its level in each example.

        Returns:
            (B, C, 2H, 2W), about the range of the frames; not clamped, so that a loss sees by how much it is missed.

        Raises:
            ValueError: frames or noise of another shape.
        """
        c, n = self.config.n_channels, self.config.n_frames
        if frames.ndim != 5 or frames.shape[1:3] != (n, c) or noise.shape != frames.shape[:1]:
            shapes = f"{tuple(frames.shape)} and {tuple(noise.shape)}"
            raise ValueError(f"expected frames (B, {n}, {c}, H, W) and noise (B,), got {shapes}")
        level = noise.to(frames).view(-1, 1, 1, 1).expand(-1, 1, *frames.shape[3:])
        x = self.first(torch.cat([frames.flatten(1, 2), level], dim=1))
        for block in self.blocks:
            x = x + block(x)  # (B, width, H, W)
        return enlarge(frames[:, n // 2]) + F.pixel_shuffle(self.detail(x), 2).float()


def enlarge(frames: Tensor) -> Tensor:
    """(B, C, H, W) → (B, C, 2H, 2W), bicubic, the parameter of Keys being −0.75: the method to be beaten."""
    return F.interpolate(frames, scale_factor=2, mode="bicubic", align_corners=False)


def shrink(frames: Tensor) -> Tensor:
    """(B, C, 2H, 2W) → (B, C, H, W): each pixel is the mean of four.

    A mean is linear, so shrinking the posterior mean of a large frame gives that of the small one: what enlarges and
    denoises, denoises too.
    """
    return F.avg_pool2d(frames, 2)


def degrade(frames: Tensor, noise: Tensor | float, *, generator: torch.Generator, shrunk: bool = True) -> Tensor:
    """What a poor camera would have recorded, in [-1, 1].

    Args:
        frames: (B, C, H, W) in [-1, 1]; H and W even if they are shrunk.
        noise: level for all, or (B, 1, 1, 1).
        shrunk: to half the height and width.
    """
    seen = shrink(frames) if shrunk else frames
    grain = torch.randn(seen.shape, generator=generator).to(seen)
    return (seen + noise * grain).clamp(-1, 1)


def noise_level(frames: Tensor) -> Tensor:
    """The level of white noise in frames (B, C, H, W), (B,), from the median of their finest diagonal details.

    Where nothing happens, (a − b − c + d) / 2 of four neighbouring pixels is noise alone, of the same variance; details
    are rare enough to leave the median as it is (Donoho and Johnstone 1994, "Ideal spatial adaptation by wavelet
    shrinkage"). Texture counts as noise, compressed noise hardly does. Frames of one row or column have none.
    """
    a, b, c, d = (frames[:, :, i : frames.shape[2] - 1 + i : 2, j : frames.shape[3] - 1 + j : 2]
                  for i in (0, 1) for j in (0, 1))  # fmt: skip
    diagonal = ((a - b - c + d) / 2).abs().flatten(1)
    if not diagonal.shape[1]:
        return frames.new_zeros(len(frames))
    return diagonal.median(dim=1).values / _NORMAL_QUARTILE


@torch.no_grad()
def enhance_clip(network: VideoEnhancer, frames: Tensor, noise: float) -> Tensor:
    """Every frame of a clip, (F, C, 2H, 2W) in [-1, 1]; before the first and after the last frame time stands still.

    Args:
        frames: (F, C, H, W) in [-1, 1].
        noise: its level.
    """
    reach = network.config.n_frames // 2
    moments = (torch.arange(len(frames))[:, None] + torch.arange(-reach, reach + 1)).clamp(0, len(frames) - 1)
    level = torch.full((1,), noise, device=frames.device)
    return torch.cat([network(frames[around][None], level) for around in moments]).clamp(-1, 1)  # one by one: memory
