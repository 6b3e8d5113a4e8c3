"""Reading and resizing pictures: the few operations that all image data sets share."""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


def read_rgb(source: Path | Image.Image, *, background: int = 255) -> np.ndarray:
    """A picture as (3, H, W) uint8; grey is repeated, transparency is laid on grey level `background`.

    The orientation that a camera wrote into the file is applied.
    """
    picture = Image.open(source) if isinstance(source, Path) else source
    with picture:
        rgba = ImageOps.exif_transpose(picture).convert("RGBA")
    below = Image.new("RGBA", rgba.size, (background, background, background, 255))
    return np.asarray(Image.alpha_composite(below, rgba).convert("RGB")).transpose(2, 0, 1)


def area_resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Shrink (..., H, W) to (..., height, width): each new pixel is the mean of the area that it covers.

    Fractions of pixels count as fractions, so the mean of the whole picture stays what it was. Nothing is cropped;
    where the proportions differ, the picture is stretched.

    Args:
        pixels: uint8 or float. uint8 stays uint8, rounded.

    Raises:
        ValueError: the new size is larger than the old one.
    """
    old_height, old_width = pixels.shape[-2:]
    if not (1 <= height <= old_height and 1 <= width <= old_width):
        raise ValueError(f"area_resize only shrinks: from {old_height}×{old_width}, asked for {height}×{width}")
    resized = _area_weights(old_height, height) @ pixels.astype(np.float32) @ _area_weights(old_width, width).T
    return np.rint(resized).astype(np.uint8) if pixels.dtype == np.uint8 else resized


@cache
def _area_weights(old: int, new: int) -> np.ndarray:
    """(new, old) float32: the share of old pixel j in new pixel i; rows sum to one."""
    edges = np.arange(new + 1) * (old / new)
    j = np.arange(old)
    overlap = np.minimum(edges[1:, None], j + 1) - np.maximum(edges[:-1, None], j)
    return (np.clip(overlap, 0.0, None) * (new / old)).astype(np.float32)
