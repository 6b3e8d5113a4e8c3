"""Pairs of frames with true optical flow: made ones in any number, and one real pair.

Flow is in pixels, channel 0 right, channel 1 down, from the first frame to the second: the point at (x, y) of the first
frame is at (x + flow[0], y + flow[1]) of the second.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from aigc_lib.datasets.base import FlowItem, Items, OnDemand, from_bytes, split_of, stable_hash
from aigc_lib.datasets.images import emoji_files, emoji_group, photographs
from aigc_lib.datasets.pixels import area_resize, read_rgb
from aigc_lib.datasets.provenance import info
from aigc_lib.datasets.sources import verify

PAIRS = {"train": 2000, "validation": 200, "test": 200}
SIZES = (72, 48, 32, 24, 16, 12)  # the widths in pixels that emoji are kept in, so that drawing them small is not noisy


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A flat picture somewhere in the frame, and how it moves. Points are (x, y, 1) in frame pixels."""

    texture: Tensor  # (4, h, w): colours in [0, 1] multiplied by opacity, and opacity
    to_texture: Tensor  # (3, 3) float64: a point of the first frame -> where it lies in the texture
    motion: Tensor  # (3, 3) float64: a point of the first frame -> where it is in the second

    def at(self, points: Tensor, *, moved: bool = False) -> Tensor:
        """(4, H, W) colour and opacity at (3, H, W) points of the first frame, or of the second if `moved`."""
        matrix = self._from_second if moved else self.to_texture
        height, width = self.texture.shape[-2:]
        # Texture pixels to [-1, 1], as grid_sample wants them; outside it gives zero, that is: clear.
        to_grid = torch.tensor([[2 / (width - 1), 0, -1], [0, 2 / (height - 1), -1]], dtype=matrix.dtype)
        grid = torch.einsum("ij,jhw->hwi", to_grid @ matrix, points).float()
        return F.grid_sample(self.texture[None], grid[None], align_corners=True)[0]

    def box(self, *, moved: bool) -> tuple[Tensor, Tensor]:
        """Two corners (x, y) in the first frame, or in the second if `moved`, beyond which the layer is clear."""
        height, width = self.texture.shape[-2:]
        corners = torch.tensor([[-1, width, -1, width], [-1, -1, height, height], [1] * 4], dtype=torch.float64)
        places = self._to_first @ corners
        places = (self.motion @ places if moved else places)[:2]
        return places.amin(dim=1), places.amax(dim=1)

    @cached_property
    def _from_second(self) -> Tensor:
        """A point of the second frame -> where it lies in the texture."""
        return self.to_texture @ torch.linalg.inv(self.motion)

    @cached_property
    def _to_first(self) -> Tensor:
        """A point of the texture -> where it lies in the first frame."""
        return torch.linalg.inv(self.to_texture)


class MovingObjects(OnDemand[FlowItem]):
    """Emoji that move over a photograph that moves: every item is made when it is asked for, always the same."""

    def __init__(
        self, split: str, *, resolution: int, n: int, seed: int, motion: float, n_objects: int, cutouts: float
    ):
        super().__init__(n, self._pair, info=info("moving-objects"), split=split)
        self.resolution, self.seed = resolution, seed
        self.motion, self.n_objects, self.cutouts = motion, n_objects, cutouts

    def _pair(self, index: int) -> FlowItem:
        generator = torch.Generator().manual_seed(stable_hash(self.info.name, self.seed, self.split, index) >> 1)
        return compose(self._layers(generator), self.resolution, key=f"{self.split}/{self.seed}/{index}")

    @cached_property
    def _backgrounds(self) -> list[Tensor]:
        """Photographs of this split, shrunk so that their shorter side is at most four frames long."""
        textures = []
        for item in photographs(self.split):
            pixels = ((item.image + 1) / 2).numpy()
            shrink = min(1.0, 4 * self.resolution / min(pixels.shape[1:]))
            pixels = area_resize(pixels, *(round(side * shrink) for side in pixels.shape[1:]))
            textures.append(torch.cat([torch.from_numpy(pixels), torch.ones(1, *pixels.shape[1:])]))
        return textures

    @cached_property
    def _objects(self) -> list[np.ndarray]:
        """The emoji of this split as (4, 72, 72) uint8, red, green, blue and opacity."""
        files = [path for name, path in verify(self.info).items() if not name.startswith("skimage/")]
        chosen = [path for key, path in emoji_files(files).items() if split_of(emoji_group(key)) == self.split]
        return [np.asarray(Image.open(path).convert("RGBA")).transpose(2, 0, 1) for path in chosen]

    def _layers(self, generator: torch.Generator) -> list[Layer]:
        size, motion = self.resolution, self.motion

        def uniform(low: float, high: float) -> float:
            return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()

        def pick(n: int) -> int:
            return int(torch.randint(n, (), generator=generator))

        def anywhere(largest: float) -> tuple[float, float]:
            return uniform(-largest * motion, largest * motion), uniform(-largest * motion, largest * motion)

        texture = self._backgrounds[pick(len(self._backgrounds))]
        height, width = texture.shape[-2:]
        middle = (size - 1) / 2
        # The frame's corner is 0.71 frames from its middle; 0.9 leaves room for the background's own motion.
        margin = (0.9 + (motion - 1) / 16) * size
        centre = uniform(margin, width - 1 - margin), uniform(margin, height - 1 - margin)
        layers = [
            Layer(
                texture=texture,
                to_texture=_move(*centre) @ _turn(uniform(-0.3, 0.3), 1.0) @ _move(-middle, -middle),
                motion=_about(middle, middle, uniform(-0.05, 0.05), uniform(0.96, 1.04), anywhere(size / 16)),
            )
        ]
        for _ in range(1 + pick(self.n_objects)):
            width = uniform(size / 5, size / 2)
            texture = _emoji_texture(self._objects[pick(len(self._objects))], width)
            if self.cutouts and uniform(0, 1) < self.cutouts:
                photograph, side = self._backgrounds[pick(len(self._backgrounds))], texture.shape[-1]
                top, left = (pick(length - side) for length in photograph.shape[-2:])
                texture = texture[3:] * photograph[:, top : top + side, left : left + side]
            x, y = uniform(0, size - 1), uniform(0, size - 1)
            half = (texture.shape[-1] - 1) / 2
            layers.append(
                Layer(
                    texture=texture,
                    to_texture=_move(half, half) @ _turn(uniform(-0.5, 0.5), 2 * half / width) @ _move(-x, -y),
                    motion=_about(x, y, uniform(-0.25, 0.25), uniform(0.88, 1.14), anywhere(size / 8)),
                )
            )
        return layers


def moving_objects(
    split: str,
    resolution: int = 64,
    n: int | None = None,
    seed: int = 0,
    *,
    motion: float = 1.0,
    n_objects: int = 4,
    cutouts: float = 0.0,
) -> MovingObjects:
    """Pairs with exact flow: emoji move over a photograph that moves, each by an affine map.

    Photographs and emoji of one split are not used in another. Item i of a seed is the same whatever `n` is. Emoji move
    by up to an eighth of the frame in each direction, turn by up to 14 degrees and grow or shrink by up to 14 percent;
    the background moves half as far, turns by up to 3 degrees and scales by up to 4 percent. A pixel belongs to the
    uppermost layer that is more than half opaque there.

    Args:
        resolution: height and width, 32 to 256.
        n: length of this split; None gives 2,000, 200 and 200.
        seed: another one gives other pairs.
        motion: how far everything moves, as a multiple of the above; up to 3.
        n_objects: from one to so many emoji.
        cutouts: share of the emoji that are outlines only, filled with a piece of a photograph.

    Returns:
        A data set of `FlowItem`s whose frames are (3, resolution, resolution). Every pixel is either valid or occluded.
    """
    if not 32 <= resolution <= 256:
        raise ValueError(f"expected a resolution from 32 to 256, got {resolution}")
    if n is not None and n < 1:
        raise ValueError(f"expected n of at least 1, got {n}")
    if not 0 <= motion <= 3 or n_objects < 1 or not 0 <= cutouts <= 1:
        given = f"got {motion}, {n_objects} and {cutouts}"
        raise ValueError(f"expected motion from 0 to 3, n_objects of at least 1 and cutouts from 0 to 1, {given}")
    return MovingObjects(
        split,
        resolution=resolution,
        n=n or PAIRS[split],
        seed=seed,
        motion=motion,
        n_objects=n_objects,
        cutouts=cutouts,
    )


def compose(layers: list[Layer], size: int, *, key: str) -> FlowItem:
    """Draw layers, lowest first, into both frames; the lowest must be opaque and cover them."""
    axis = torch.arange(size, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)])  # (3, H, W)
    frames = [torch.zeros(3, size, size), torch.zeros(3, size, size)]
    owner = torch.zeros(size, size, dtype=torch.int64)
    for i, layer in enumerate(layers):
        for frame, moved in zip((0, 1), (False, True), strict=True):
            low, high = (corner.clamp(0, size).tolist() for corner in layer.box(moved=moved))
            x, y = (slice(int(start), math.ceil(end)) for start, end in zip(low, high, strict=True))
            colour = layer.at(points[:, y, x], moved=moved)
            frames[frame][:, y, x] = colour[:3] + (1 - colour[3]) * frames[frame][:, y, x]
            if not moved:
                owner[y, x][colour[3] > 0.5] = i

    targets = torch.empty_like(points)  # (3, H, W): where each point went
    for i, layer in enumerate(layers):
        targets[:, owner == i] = layer.motion @ points[:, owner == i]
    hidden = ((targets[:2] < 0) | (targets[:2] > size - 1)).any(dim=0)
    for i, layer in enumerate(layers):
        low, high = (corner[:, None, None] for corner in layer.box(moved=True))
        below = (i > owner) & ((low < targets[:2]) & (targets[:2] < high)).all(dim=0)
        hidden[below] |= layer.at(targets[:, below][:, None], moved=True)[3, 0] > 0.5
    return FlowItem(
        first=2 * frames[0] - 1,
        second=2 * frames[1] - 1,
        flow=(targets - points)[:2].float(),
        valid=~hidden,
        occluded=hidden,
        key=key,
    )


def _emoji_texture(rgba: np.ndarray, width: float) -> Tensor:
    """(4, h, w) with opacity multiplied in, in the smallest of `SIZES` that is not below `width`, in a clear frame."""
    pixels = rgba.astype(np.float32) / 255
    pixels = np.concatenate([pixels[:3] * pixels[3], pixels[3:]])
    size = min((size for size in SIZES if size >= width), default=SIZES[0])
    # One clear pixel around it: beyond the border, sampling fades out instead of stopping.
    return F.pad(torch.from_numpy(area_resize(pixels, size, size)), (1, 1, 1, 1))


def _move(x: float, y: float) -> Tensor:
    return torch.tensor([[1, 0, x], [0, 1, y], [0, 0, 1]], dtype=torch.float64)


def _turn(angle: float, scale: float) -> Tensor:
    """Turn by an angle in radians (from right to down, that is clockwise) and scale, both about the origin."""
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    return torch.tensor([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]], dtype=torch.float64)


def _about(x: float, y: float, angle: float, scale: float, shift: tuple[float, float]) -> Tensor:
    """Turn and scale about (x, y), then shift."""
    return _move(*shift) @ _move(x, y) @ _turn(angle, scale) @ _move(-x, -y)


def motorcycle(split: str, size: tuple[int, int] | None = None) -> Items[FlowItem]:
    """The Middlebury motorcycle: a real stereo pair with measured disparity, 741 by 500 pixels; a test pair only.

    The second camera stood to the right of the first, so everything moves left: flow is (-disparity, 0), 7 to 60 pixels
    in full size. It is unknown for 7 percent of the pixels. Of the known ones, `occluded` are those whose target lies
    outside the second picture or is taken by something more than a pixel of disparity nearer.

    Args:
        size: (height, width) to shrink the pictures to by area, without cropping (proportions may change). Flow is
            that of the original pixel nearest to the middle of the new one, so it is never mixed over an edge, times
            the ratio of the widths.

    Raises:
        ValueError: the split is not "test", or `size` is larger than the original.
    """
    if split != "test":
        raise ValueError(f"'motorcycle' is a single real pair, kept for testing: expected split 'test', got {split!r}")
    entry = info("motorcycle")
    files = {name.rsplit("_", 1)[1]: path for name, path in verify(entry).items()}
    first, second = read_rgb(files["left.png"]), read_rgb(files["right.png"])
    with np.load(files["disp.npz"], allow_pickle=False) as stored:
        disparity = stored["arr_0"]  # (500, 741), infinite where unknown

    height, width = disparity.shape
    if size is not None:
        first, second = area_resize(first, *size), area_resize(second, *size)
        rows, columns = (
            ((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(size, (height, width), strict=True)
        )
        disparity = disparity[np.ix_(rows, columns)] * (size[1] / width)
    known = np.isfinite(disparity)
    disparity = np.where(known, disparity, 0).astype(np.float32)
    visible = _visible(disparity, known)
    flow = np.stack([-disparity, np.zeros_like(disparity)])
    item = FlowItem(
        first=from_bytes(torch.from_numpy(first.copy())),
        second=from_bytes(torch.from_numpy(second.copy())),
        flow=torch.from_numpy(flow),
        valid=torch.from_numpy(visible),
        occluded=torch.from_numpy(known & ~visible),
        key="motorcycle",
    )
    return Items([item], info=entry, split=split)


def _visible(disparity: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(H, W) bool: known, inside the second picture, and not behind something that lands on the same pixel."""
    height, width = disparity.shape
    target = np.rint(np.arange(width) - disparity).astype(int)
    inside = known & (target >= 0)
    nearest = np.full((height, width), -np.inf, dtype=np.float32)
    row, column = np.nonzero(inside)
    np.maximum.at(nearest, (row, target[row, column]), disparity[row, column])
    visible = np.zeros_like(known)
    visible[row, column] = disparity[row, column] >= nearest[row, target[row, column]] - 1
    return visible
