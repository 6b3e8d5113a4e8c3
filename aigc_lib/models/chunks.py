"""Long sound in pieces: what a network of bounded reach makes of a whole mel spectrogram, at the memory of a part."""

from collections.abc import Callable

import torch
from torch import Tensor


def in_chunks(
    synthesise: Callable[..., Tensor], *frames: Tensor, hop: int, chunk_frames: int, context_frames: int
) -> Tensor:
    """`synthesise(*frames)`, computed `chunk_frames` at a time with `context_frames` more on either side of each.

    Equal to the whole, ends included, if no sample depends on frames further away than the context: then what an
    inner end of a chunk gets wrong lies in the part that is thrown away.

    Args:
        synthesise: (…, F) tensors → (B, F · hop).
        frames: tensors whose last axis is F frames or a whole multiple of it.
        hop: samples a frame.
        chunk_frames: at least 1; memory grows with chunk_frames + 2 · context_frames.

    Raises:
        ValueError: chunk_frames below 1.
    """
    if chunk_frames < 1:
        raise ValueError(f"chunk_frames must be at least 1, got {chunk_frames}")
    total = min(each.shape[-1] for each in frames)
    steps = [each.shape[-1] // total for each in frames]
    pieces = []
    for begin in range(0, total, chunk_frames):
        end = min(begin + chunk_frames, total)
        left, right = max(begin - context_frames, 0), min(end + context_frames, total)
        part = synthesise(*(each[..., left * n : right * n] for each, n in zip(frames, steps, strict=True)))
        pieces.append(part[:, (begin - left) * hop : (end - left) * hop].clone())
    return torch.cat(pieces, dim=1)
