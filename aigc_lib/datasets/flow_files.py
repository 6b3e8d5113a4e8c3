"""Optical flow as files, Middlebury's .flo and KITTI's 16-bit PNG, and as pictures.

Flow is (2, H, W) float32 in pixels, channel 0 right, channel 1 down.
"""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

FLO_MAGIC = 202021.25  # "PIEH" when read as text
FLO_UNKNOWN = 1e9  # Middlebury's mark for "nobody knows": anything larger
KITTI_ZERO, KITTI_STEPS = 2**15, 64  # the level that means no motion, and levels a pixel
KITTI_REACH = KITTI_ZERO / KITTI_STEPS  # pixels
# The colour wheel of Baker et al. 2011, "A database and evaluation methodology for optical flow": red, yellow, green,
# cyan, blue, magenta and red again, at these places of 55.
WHEEL_PLACES = (0, 15, 21, 25, 36, 49, 55)
WHEEL_COLORS = ((1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1), (1, 0, 0))


def read_flo(path: str | Path) -> Tensor:
    """Optical flow from a Middlebury .flo file: (2, H, W) float32 in pixels, channel 0 right, channel 1 down.

    Raises:
        ValueError: the file does not begin with the format's mark, or is shorter or longer than its size says.
    """
    content = Path(path).read_bytes()
    if len(content) < 12:
        raise ValueError(f"{path} has {len(content)} bytes; a .flo file begins with 12 bytes of mark, width and height")
    magic, width, height = struct.unpack("<fii", content[:12])
    if magic != FLO_MAGIC:
        raise ValueError(f"{path} begins with {magic}, not with {FLO_MAGIC}: it is not a .flo file")
    if width < 1 or height < 1 or len(content) != 12 + 8 * width * height:
        raise ValueError(
            f"{path} says {width}×{height}, which needs {12 + 8 * width * height} bytes, but it has {len(content)}"
        )
    flow = np.frombuffer(content, dtype="<f4", offset=12).reshape(height, width, 2)
    return torch.from_numpy(flow.transpose(2, 0, 1).astype(np.float32))


def write_flo(path: str | Path, flow: Tensor) -> None:
    """Write (2, H, W) flow as a Middlebury .flo file.

    Raises:
        ValueError: another shape.
    """
    if flow.ndim != 3 or flow.shape[0] != 2:
        raise ValueError(f"expected flow of shape (2, H, W), got {tuple(flow.shape)}")
    _, height, width = flow.shape
    values = flow.detach().cpu().float().numpy().transpose(1, 2, 0).astype("<f4")
    Path(path).write_bytes(struct.pack("<fii", FLO_MAGIC, width, height) + values.tobytes())


def read_kitti(path: str | Path) -> tuple[Tensor, Tensor]:
    """Optical flow from a KITTI PNG: (2, H, W) float32 in pixels, in steps of 1/64, and (H, W) bool where it is known.

    Red and green hold 64 · flow + 2¹⁵, right and down; blue is not zero where flow is known. Elsewhere it is zero.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or no PNG with three channels of 16 bits.
    """
    try:
        with av.open(str(path), format="png_pipe", options={"err_detect": "explode"}) as file:
            frame = next(file.decode(video=0))
    except FileNotFoundError:
        raise
    except (av.FFmpegError, StopIteration) as error:
        raise ValueError(f"{path} is no PNG, or a damaged one: {error}") from error
    if frame.format.name != "rgb48be":
        found = frame.format.name
        raise ValueError(f"{path} holds {found} pixels; KITTI's flow has three channels of 16 bits (rgb48be)")
    right, down, known = frame.to_ndarray().astype(np.int32).transpose(2, 0, 1)
    valid = torch.from_numpy(known != 0)
    flow = torch.from_numpy(np.stack([right, down]) - KITTI_ZERO).float() / KITTI_STEPS
    return torch.where(valid, flow, 0.0), valid


def write_kitti(path: str | Path, flow: Tensor, valid: Tensor | None = None) -> None:
    """Write (2, H, W) flow as a KITTI PNG, rounded to 1/64 of a pixel.

    Args:
        valid: (H, W) bool, where flow is known; None: everywhere.

    Raises:
        ValueError: other shapes, or known flow beyond ±512 pixels, which the format cannot hold.
    """
    if flow.ndim != 3 or flow.shape[0] != 2 or (valid is not None and valid.shape != flow.shape[1:]):
        shapes = tuple(flow.shape), None if valid is None else tuple(valid.shape)
        raise ValueError(f"expected flow (2, H, W) and valid (H, W), got {shapes[0]} and {shapes[1]}")
    known = np.ones(flow.shape[1:], bool) if valid is None else valid.cpu().numpy()
    levels = np.rint(np.where(known, flow.detach().cpu().double().numpy(), 0) * KITTI_STEPS) + KITTI_ZERO
    if not ((levels >= 0) & (levels < 2 * KITTI_ZERO)).all():
        largest = flow.abs()[:, torch.from_numpy(known)].max().item()
        raise ValueError(f"KITTI's format holds flow from -{KITTI_REACH:g} to {KITTI_REACH:g} pixels, got {largest:g}")
    pixels = np.stack([*levels, known]).transpose(1, 2, 0).astype(np.uint16)
    encoder = av.CodecContext.create("png", "w")
    encoder.height, encoder.width, encoder.pix_fmt, encoder.time_base = *known.shape, "rgb48be", Fraction(1)
    packets = encoder.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb48be"))
    Path(path).write_bytes(b"".join(map(bytes, packets)))


def flow_colors(flow: Tensor, *, longest: float | None = None) -> Tensor:
    """Flow as colours, as Middlebury shows it: the hue is the direction (red right, cyan-blue left), white is rest.

    Args:
        flow: (B, 2, H, W) in pixels. Where nobody knows it, as `read_flo` returns it or NaN, the colour is black.
        longest: the length in pixels that has full colour; longer flow is darkened. None takes the longest there is.

    Returns:
        (B, 3, H, W) in [-1, 1].

    Raises:
        ValueError: another shape, or `longest` not above 0.
    """
    if flow.ndim != 4 or flow.shape[1] != 2:
        raise ValueError(f"expected flow (B, 2, H, W), got {tuple(flow.shape)}")
    if longest is not None and longest <= 0:
        raise ValueError(f"longest must be above 0 pixels, got {longest}")
    right, down = flow.detach().cpu().double().numpy().transpose(1, 0, 2, 3)  # (B, H, W) each
    known = np.hypot(right, down) < FLO_UNKNOWN  # and not NaN
    right, down = np.where(known, right, 0), np.where(known, down, 0)
    length = np.hypot(right, down)
    length = length / (longest or length.max() or 1.0)
    place = (np.arctan2(-down, -right) / np.pi + 1) / 2 * WHEEL_PLACES[-1]
    hue = np.stack([np.interp(place, WHEEL_PLACES, channel) for channel in zip(*WHEEL_COLORS, strict=True)], axis=1)
    length, known = length[:, None], known[:, None]
    colors = np.where(length <= 1, 1 - length * (1 - hue), 0.75 * hue) * known
    return torch.from_numpy(2 * colors - 1).float()
