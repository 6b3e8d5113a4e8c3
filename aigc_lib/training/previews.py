"""Pictures of a run on its way, as files for people."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] to bytes, rounded to the nearest level."""
    return ((images.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def from_uint8(images: Tensor) -> Tensor:
    """Bytes to images in [-1, 1]."""
    return images.float() / 127.5 - 1


def save_image_grid(images: Tensor, path: Path, *, n_columns: int | None = None, margin: int = 2) -> None:
    """Write (B, C, H, W) uint8 images as one picture, row by row, as square as B allows.

    Raises:
        ValueError: not a .png or .webp file, not uint8, not 1 or 3 channels, or no image at all.
    """
    if path.suffix.lower() not in (".png", ".webp"):
        raise ValueError(f"pictures go into a .png or .webp file, got {path.name!r}")
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or len(images) == 0:
        raise ValueError(f"expected uint8 (B ≥ 1, 1 or 3, H, W), got {images.dtype} {tuple(images.shape)}")
    n, channels, height, width = images.shape
    columns = n_columns or int(n**0.5 + 0.999)
    rows = -(-n // columns)
    grid = torch.full((channels, rows * (height + margin) + margin, columns * (width + margin) + margin), 255)
    for i, image in enumerate(images):
        y, x = margin + i // columns * (height + margin), margin + i % columns * (width + margin)
        grid[:, y : y + height, x : x + width] = image
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = grid.to(torch.uint8).permute(1, 2, 0).numpy()
    Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels).save(path)
