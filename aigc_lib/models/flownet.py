"""FlowNet: two frames in, where each pixel of the first went out. A regression, not a generative model.

A contracting part of strided convolutions looks at both frames, an expanding one predicts flow at every resolution from
coarse to fine (Dosovitskiy et al. 2015, arXiv:1504.06852, whose sections are cited). FlowNetS stacks the frames and
leaves the rest to the convolutions; FlowNetC looks at each frame by itself and compares the features by correlation.

Axis letters: B batch, C channels, H W image, K displacements. Images are float in [-1, 1]; flow is (B, 2, H, W) in
pixels, channel 0 right, channel 1 down: the point at p of the first frame is at p + flow(p) of the second.

Differs from the paper in
- size: five halvings instead of six, and a fiftieth of the weights;
- the correlation: of features at a quarter of the resolution instead of an eighth, which sees smaller things; and each
  channel has mean 0 and variance 1 over both frames, without which everything resembles everything (Jonschkowski et
  al. 2020, arXiv:2006.04902, section 4.2);
- what is read of the correlation: a softmax over displacements, so that the best match stands out (as in global
  matching, Xu et al. 2022, arXiv:2111.13680); after 600 small steps it erred by 4 % less;
- each level predicts what to add to the flow of the level before;
- units: the flow of every level is in pixels of that level, so that going up one level doubles it;
- inference: `estimate_flow` warps the second frame by what was found and looks again, as FlowNet 2.0 does with further
  networks (Ilg et al. 2017, arXiv:1612.01925, section 4); here it is the same network, trained for both.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aigc_lib.models.warping import interpolate, warp

__all__ = [
    "FlowNet",
    "FlowNetConfig",
    "correlation",
    "end_point_error",
    "estimate_flow",
    "interpolate",
    "multiscale_loss",
    "resize_flow",
    "warp",
]

TILE = 8  # pixels: the correlation is computed in squares of this side
LEVEL_WEIGHTS = (0.32, 0.08, 0.02, 0.01, 0.005)  # coarse to fine, of sums over pixels: those of the authors' program


@dataclass(frozen=True, kw_only=True)
class FlowNetConfig:
    """Sizes of the network.

    Args:
        correlation: False builds FlowNetS, True FlowNetC.
        n_channels: of a frame.
        width: channels at half the resolution; twice as many at a quarter, four times as many from there on.
        radius: of the correlation, in pixels at a quarter of the resolution: 8 compares up to 32 pixels apart.
    """

    correlation: bool = False
    n_channels: int = 3
    width: int = 24
    radius: int = 8

    def __post_init__(self) -> None:
        for name in ("n_channels", "width", "radius"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def correlation(first: Tensor, second: Tensor, *, radius: int, stride: int = 1) -> Tensor:
    """How alike each feature vector of `first` is to those of `second` around its place (section 3, equation 1, k = 0).

    c(p, d) = ⟨first(p), second(p + d)⟩ for d in {-radius, -radius + stride, …}², zero where p + d lies outside.

    Matrix products over squares of 8 × 8 positions and all that they can reach; a strided view of each product picks
    the displacements out. Memory beyond the result: the second map about (1 + radius / 4)-fold, and
    32·B·W·(8 + 2·radius)² bytes for one row of squares at a time. All pairs would take 4·B·(H·W)².

    Args:
        first, second: (B, C, H, W).
        radius: the largest displacement in each direction; a multiple of stride.
        stride: between displacements.

    Returns:
        (B, K, H, W) with K = (2·radius / stride + 1)², displacement-major: row by row from up left to down right.

    Raises:
        ValueError: shapes differ, radius below 0, or no multiple of a stride of at least 1.
    """
    if first.ndim != 4 or first.shape != second.shape:
        raise ValueError(f"expected two (B, C, H, W) of one shape, got {tuple(first.shape)}, {tuple(second.shape)}")
    if stride < 1 or radius < 0 or radius % stride:
        raise ValueError(f"radius must be a multiple of stride, both not negative, got {radius} and {stride}")
    b, _, h, w = first.shape
    reach, side = TILE + 2 * radius, 2 * radius // stride + 1
    extra = -w % TILE
    # Columns of squares become a batch: (B, W/8, rows · 8, C) and (B, W/8, rows · reach, C).
    here = F.pad(first.permute(0, 2, 3, 1), (0, 0, 0, extra)).unflatten(2, (-1, TILE)).transpose(1, 2).flatten(2, 3)
    there = F.pad(second.permute(0, 2, 3, 1), (0, 0, radius, radius + extra, radius, radius))
    there = there.unfold(2, reach, TILE).permute(0, 2, 1, 4, 3).flatten(2, 3)
    n_columns = here.shape[1]
    rows = []
    for top in range(0, h, TILE):
        n = min(TILE, h - top)
        reachable = (n + 2 * radius) * reach
        pairs = here[:, :, top * TILE :][:, :, : n * TILE] @ there[:, :, top * reach :][:, :, :reachable].mT
        # Moving one pixel on moves its window one on: the same displacement is one diagonal further.
        view = (b, side, side, n, n_columns, TILE)
        one = n * TILE * reachable
        steps = (n_columns * one, stride * reach, stride, TILE * reachable + reach, one, reachable + 1)
        rows.append(pairs.as_strided(view, steps))
    return torch.cat(rows, dim=3).flatten(4, 5)[..., :w].flatten(1, 2)  # (B, K, H, W)


class FlowNet(nn.Module):
    """FlowNetS or FlowNetC: first, second (B, C, H, W) → flow (B, 2, H, W). Any H and W: the border is continued.

    Raises:
        ValueError: the frames are not float (B, n_channels, H, W) of one shape.
    """

    n_halvings = 5

    def __init__(self, config: FlowNetConfig) -> None:
        super().__init__()
        self.config = config
        c, (half, quarter, deep) = config, (config.width, 2 * config.width, 4 * config.width)
        frames = 1 if c.correlation else 2
        self.look = nn.Sequential(_convolution(frames * c.n_channels, half, 7, 2), _convolution(half, quarter, 5, 2))
        if c.correlation:
            self.sharpness = nn.Parameter(torch.ones(()))
            self.compare = _convolution((2 * c.radius + 1) ** 2, 2 * half, 1)
            self.redirect = _convolution(quarter, half, 1)
        joined = 3 * half if c.correlation else quarter
        self.contract = nn.ModuleList(
            nn.Sequential(_convolution(before, deep, 3, 2), _convolution(deep, deep, 3))
            for before in (joined, deep, deep)
        )
        # Coarse to fine: at each level a flow; between levels, features and flow go up.
        skips, ups = (deep, deep, joined), (2 * half, 2 * half, half)
        inputs = [deep, *(skip + up + 2 for skip, up in zip(skips, ups, strict=True))]
        self.predict = nn.ModuleList(nn.Conv2d(n, 2, 3, padding=1) for n in [*inputs[:-1], quarter])
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(before, after, 4, 2, 1), nn.LeakyReLU(0.1))
            for before, after in zip(inputs, ups, strict=False)
        )
        self.finish = _convolution(inputs[-1], quarter, 3)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, a=0.1)
                nn.init.zeros_(module.bias)
        for head in self.predict:
            nn.init.normal_(head.weight, std=1e-3)  # no motion at first

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Flow at full resolution: that of the finest level, up-sampled."""
        h, w = first.shape[2:]
        flow = self.pyramid(first, second)[-1]
        return resize_flow(flow, (4 * flow.shape[2], 4 * flow.shape[3]))[:, :, :h, :w]

    def pyramid(self, first: Tensor, second: Tensor) -> list[Tensor]:
        """Flows at 1/32, 1/16, 1/8 and 1/4 of the resolution, each in pixels of its level.

        Where H or W is no multiple of 32, the frames are continued to the right and down until it is, and so are the
        flows.
        """
        c = self.config
        if first.ndim != 4 or first.shape != second.shape or first.shape[1] != c.n_channels:
            shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
            raise ValueError(f"expected two frames (B, {c.n_channels}, H, W) of one shape, got {shapes}")
        multiple = 2**self.n_halvings
        edges = (0, -first.shape[3] % multiple, 0, -first.shape[2] % multiple)
        frames = [F.pad(frame, edges, mode="replicate") for frame in (first, second)]
        features = [self._joined(*frames)]  # 1/4
        for contract in self.contract:
            features.append(contract(features[-1]))  # 1/8, 1/16, 1/32
        x = features.pop()
        flows = [self.predict[0](x)]
        for i, up in enumerate(self.up, start=1):
            finer = flows[-1].shape[2] * 2, flows[-1].shape[3] * 2
            x = torch.cat([features.pop(), up(x), resize_flow(flows[-1].detach(), finer)], dim=1)
            change = self.predict[i](self.finish(x) if i == len(self.up) else x)
            flows.append(x[:, -2:] + change)
        return flows

    def _joined(self, first: Tensor, second: Tensor) -> Tensor:
        """What both frames look like at a quarter of the resolution, and how they differ."""
        if not self.config.correlation:
            return self.look(torch.cat([first, second], dim=1))
        seen = self.look(torch.cat([first, second])).unflatten(0, (2, -1))  # (2, B, C, H/4, W/4), the same weights
        centred = seen - seen.mean(dim=(0, 3, 4), keepdim=True)
        a, b = centred / (centred.square().mean(dim=(0, 3, 4), keepdim=True) + 1e-6).sqrt()
        # As in attention: by √C, so that the likeness of what is not alike has variance 1.
        likeness = correlation(a, b, radius=self.config.radius) / a.shape[1] ** 0.5  # (B, K, H/4, W/4)
        match = (self.sharpness * likeness).softmax(dim=1) * likeness.shape[1] ** 0.5
        return torch.cat([self.redirect(seen[0]), self.compare(match)], dim=1)


def _convolution(n_inputs: int, n_outputs: int, size: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(n_inputs, n_outputs, size, stride, size // 2), nn.LeakyReLU(0.1))


def resize_flow(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Flow (B, 2, h, w) at another size (height, width), bilinear; its values grow with the picture."""
    scale = [new / old for new, old in zip(size, flow.shape[2:], strict=True)]
    resized = F.interpolate(flow, size=size, mode="bilinear", align_corners=False)
    return resized * flow.new_tensor([scale[1], scale[0]]).view(1, 2, 1, 1)


def end_point_error(flow: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """EPE: the mean over pixels of ‖flow − target‖₂, a scalar, in pixels.

    `vector_norm` has the gradient 0 where both agree; √(x² + y²) written out has NaN there.

    Args:
        flow, target: (B, 2, H, W).
        valid: (B, H, W) bool, the pixels that count; None: all. If there is none, the error is 0.

    Raises:
        ValueError: shapes that do not go together.
    """
    if flow.shape != target.shape or flow.ndim != 4 or flow.shape[1] != 2:
        raise ValueError(f"expected two flows (B, 2, H, W), got {tuple(flow.shape)} and {tuple(target.shape)}")
    distance = torch.linalg.vector_norm(flow - target, dim=1)  # (B, H, W)
    if valid is None:
        return distance.mean()
    if valid.shape != distance.shape:
        raise ValueError(f"valid must be {tuple(distance.shape)}, got {tuple(valid.shape)}")
    return (distance * valid).sum() / valid.sum().clamp(min=1)


def multiscale_loss(flows: list[Tensor], target: Tensor, valid: Tensor | None = None) -> Tensor:
    """Σ_l α_l · Σ_p ‖w_l(p) − w*_l(p)‖₂ over levels l, divided by the coarsest one's number of pixels; section 4.

    Each flow is compared with the ground truth averaged down to its size, and errors count in pixels of full size.
    The weights α fall towards the finer levels, but the pixels are four times as many: their product never falls.

    Args:
        flows: of `FlowNet.pyramid`, coarse to fine, at most five.
        target: (B, 2, H, W) at full resolution.
        valid: (B, H, W) bool, the pixels that count; None: all.

    Raises:
        ValueError: no flow, more than five, or shapes that do not go together.
    """
    if not 1 <= len(flows) <= len(LEVEL_WEIGHTS):
        raise ValueError(f"expected 1 to {len(LEVEL_WEIGHTS)} flows, got {len(flows)}")
    known = torch.ones_like(target[:, :1]) if valid is None else valid[:, None].to(target.dtype)
    total = target.new_zeros(())
    for flow, weight in zip(flows, LEVEL_WEIGHTS[-len(flows) :], strict=True):
        scale = target.shape[3] / flow.shape[3]
        share = F.adaptive_avg_pool2d(known, flow.shape[2:])  # of the pixels behind this one that count
        mean = F.adaptive_avg_pool2d(known * target, flow.shape[2:]) / share.clamp(min=1e-6)
        error = end_point_error(scale * flow, mean, share[:, 0] > 0.5)
        total = total + weight * error * flow[0, 0].numel() / flows[0][0, 0].numel()
    return total


def estimate_flow(
    network: nn.Module, first: Tensor, second: Tensor, *, scales: tuple[float, ...] = (0.5, 1.0)
) -> Tensor:
    """Flow by several looks: each at the second frame warped by what the looks before it found, coarse to fine.

    Args:
        network: a `FlowNet`, or anything that takes two frames and gives a flow.
        first, second: (B, C, H, W).
        scales: one look each, at this fraction of the frames' size; the network finds motion of limited length, so the
            first scale says how long motion may be, and the last how small a detail is seen.

    Returns:
        (B, 2, H, W).

    Raises:
        ValueError: no scale, or one outside (0, 1]; frames as in `FlowNet`.
    """
    if not scales or not all(0 < scale <= 1 for scale in scales):
        raise ValueError(f"expected at least one scale, each in (0, 1], got {scales}")
    h, w = first.shape[2:]
    flow = first.new_zeros(len(first), 2, h, w)
    for scale in scales:
        size = max(round(scale * h), 1), max(round(scale * w), 1)
        a, b = (F.interpolate(frame, size, mode="bilinear", antialias=True) for frame in (first, second))
        flow = resize_flow(flow, size)
        flow = flow + network(a, warp(b, flow))
    return resize_flow(flow, (h, w))
