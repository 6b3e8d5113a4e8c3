"""How far a sequence of symbols is from those it should have been."""

from collections.abc import Sequence
from dataclasses import dataclass

import jiwer


@dataclass(frozen=True, kw_only=True)
class ErrorRates:
    """Shares, 0 is perfect: wrong symbols (edits a reference symbol), and sequences with any error."""

    symbols: float
    sequences: float


def error_rates(answers: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> ErrorRates:
    """Error rates of answers of which each may have several right forms; the closest one counts.

    Phonemes of words give the phoneme and word error rates of grapheme-to-phoneme conversion (PER and WER as in
    Yolchuyeva et al. 2019, arXiv:2004.06338); words of sentences give the word and sentence error rates of speech
    recognition.

    Args:
        answers: N sequences of symbols, none of which contains a blank.
        references: for each at least one right sequence, none empty.

    Raises:
        ValueError: not as many as answers, or none.
    """
    if len(answers) != len(references) or not answers or not all(references):
        raise ValueError(
            f"expected at least one answer, each with references, got {len(answers)} and {len(references)}"
        )
    edits = length = wrong = 0
    for answer, right in zip(answers, references, strict=True):
        distances = [(_edits(reference, answer), len(reference)) for reference in right]
        closest, size = min(distances, key=lambda pair: pair[0] / pair[1])
        edits, length, wrong = edits + closest, length + size, wrong + (closest > 0)
    return ErrorRates(symbols=edits / length, sequences=wrong / len(answers))


def _edits(reference: Sequence[str], answer: Sequence[str]) -> int:
    out = jiwer.process_words(" ".join(reference), " ".join(answer))
    return out.substitutions + out.deletions + out.insertions
