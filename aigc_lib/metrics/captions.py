"""How well captions are timed, and speech found, where the true times are known."""

from collections.abc import Sequence

import jiwer
import torch
from torch import Tensor

from aigc_lib.datasets.timed_speech import Span
from aigc_lib.metrics.audio import words_of


def start_errors(heard: Sequence[Span], truth: Sequence[Span]) -> Tensor:
    """By how many seconds the words that were heard right begin too late, (N,); the two are matched as for WER.

    Of a span with several words, such as "well-known", the first is compared.

    Raises:
        ValueError: the truth has no words.
    """
    (first, starts), (second, true_starts) = _words(heard), _words(truth)
    if not second:
        raise ValueError("the truth has no words to compare with")
    chunks = jiwer.process_words(" ".join(second), " ".join(first)).alignments[0] if first else []
    pairs = [
        (starts[chunk.hyp_start_idx + i], true_starts[chunk.ref_start_idx + i])
        for chunk in chunks
        if chunk.type == "equal"
        for i in range(chunk.hyp_end_idx - chunk.hyp_start_idx)
    ]
    return torch.tensor([got - right for got, right in pairs if None not in (got, right)], dtype=torch.float64)


def _words(spans: Sequence[Span]) -> tuple[list[str], list[float | None]]:
    """Words as recognisers write them, and when those begin that begin a span."""
    words: list[str] = []
    starts: list[float | None] = []
    for span in spans:
        pieces = words_of(span.text)
        words += pieces
        starts += [span.start, *[None] * (len(pieces) - 1)][: len(pieces)]
    return words, starts


def detection(
    found: Sequence[tuple[float, float]], truth: Sequence[tuple[float, float]], duration: float
) -> tuple[float, float]:
    """Precision and recall of stretches of time, in frames of 10 ms up to `duration` seconds.

    Nothing found is found without error: precision 1.

    Raises:
        ValueError: the truth is empty.
    """
    got, right = (_frames(stretches, duration) for stretches in (found, truth))
    if not right.any():
        raise ValueError("nothing is to be found: the truth has no stretch within the duration")
    both = (got & right).sum().item()
    return both / got.sum().item() if got.any() else 1.0, both / right.sum().item()


def _frames(stretches: Sequence[tuple[float, float]], duration: float) -> Tensor:
    frames = torch.zeros(round(100 * duration), dtype=torch.bool)
    for start, end in stretches:
        frames[round(100 * start) : round(100 * end)] = True
    return frames
