"""What a flow network is compared with: classical methods, and how far things move in its training and in life."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from aigc_lib.datasets.base import FlowItem

METHODS = ("farneback", "tv-l1", "dis")
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def classical_flow(first: Tensor, second: Tensor, *, method: str) -> Tensor:
    """Optical flow by a method that learns nothing, on the brightness of the frames.

    | method | idea | by |
    | --- | --- | --- |
    | farneback | quadratic polynomials around each pixel, and how they moved (Farnebäck 2003) | OpenCV |
    | tv-l1 | least total variation plus ‖brightness difference‖₁ (Zach, Pock, Bischof 2007) | scikit-image |
    | dis | patches matched by inverse search, then refined (Kroeger et al. 2016, arXiv:1603.03590) | OpenCV |

    `estimate_flow(partial(classical_flow, method="tv-l1"), first, second, scales=(0.5,))` runs one at half the size.

    Args:
        first, second: (B, 1 or 3, H, W) in [-1, 1].
        method: one of `METHODS`, with its library's own settings; Farnebäck's has none, and gets wide windows.

    Returns:
        (B, 2, H, W) in pixels, channel 0 right, channel 1 down, from the first frame to the second.

    Raises:
        ValueError: an unknown method; frames of other or of different shapes.
        ModuleNotFoundError: OpenCV is not installed; the message says how to.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if first.ndim != 4 or first.shape != second.shape or first.shape[1] not in (1, 3):
        shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
        raise ValueError(f"expected two frames (B, 1 or 3, H, W) of one shape, got {shapes}")
    flows = [_flow(*pair, method) for pair in zip(_brightness(first), _brightness(second), strict=True)]
    return torch.from_numpy(np.stack(flows)).to(first)


def _flow(first: np.ndarray, second: np.ndarray, method: str) -> np.ndarray:
    """(2, H, W) for two pictures (H, W) in [0, 1]."""
    if method == "tv-l1":
        from skimage.registration import optical_flow_tvl1

        return optical_flow_tvl1(first, second)[::-1]  # rows come first there
    try:
        import cv2
    except ImportError as error:
        raise ModuleNotFoundError(f"method {method!r} needs OpenCV: pip install opencv-python-headless") from error
    frames = [np.rint(255 * frame).astype(np.uint8) for frame in (first, second)]
    if method == "dis":
        flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*frames, None)
    else:  # 5 levels, each half the one before; windows of 25, 3 iterations, polynomials over 7 pixels
        flow = cv2.calcOpticalFlowFarneback(*frames, None, 0.5, 5, 25, 3, 7, 1.5, 0)
    return flow.transpose(2, 0, 1)


def _brightness(frames: Tensor) -> np.ndarray:
    weights = frames.new_tensor(_LUMA if frames.shape[1] == 3 else (1.0,))
    grey = torch.einsum("bchw,c->bhw", frames, weights)
    return ((grey + 1) / 2).clamp(0, 1).cpu().float().numpy()


def displacements(items: Iterable[FlowItem], *, width: int | None = None) -> Tensor:
    """How far each pixel moves whose flow is known, hidden or not, (N,) in pixels.

    Args:
        width: as if every frame were shrunk to this width, so that pairs of different sizes can be compared; None
            leaves the lengths as they are.
    """
    lengths = []
    for item in items:
        scale = 1.0 if width is None else width / item.flow.shape[2]
        lengths.append(scale * torch.linalg.vector_norm(item.flow, dim=0)[item.valid | item.occluded])
    return torch.cat(lengths)
