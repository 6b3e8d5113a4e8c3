"""How well events are found in time: cuts of a film, onsets and beats of music."""

from collections.abc import Iterable
from typing import NamedTuple


class Detection(NamedTuple):
    """How many of those found are true, how many of the true ones are found, and the harmonic mean of the two."""

    precision: float  # 1 if nothing was found
    recall: float
    f1: float


def detected(found: Iterable[float], truth: Iterable[float], *, within: float) -> Detection:
    """Compare the times of events; each one counts once, so two found beside one true event are one error.

    Pairs are made from the earliest on: no other way to pair two sorted lists has more pairs.

    Args:
        found, truth: times in any order and any unit (numbers, or a tensor).
        within: the largest difference, inclusive, between an event that is found and the true one, in the same unit.

    Raises:
        ValueError: there is nothing to be found, or `within` is negative.
    """
    found, truth = (sorted(map(float, times)) for times in (found, truth))
    if not truth or not within >= 0:
        raise ValueError(f"expected at least one true event and within ≥ 0, got {len(truth)} and {within}")
    i = j = pairs = 0
    while i < len(found) and j < len(truth):
        if abs(found[i] - truth[j]) <= within:
            i, j, pairs = i + 1, j + 1, pairs + 1
        elif found[i] < truth[j]:
            i += 1
        else:
            j += 1
    return Detection(
        precision=pairs / len(found) if found else 1.0,
        recall=pairs / len(truth),
        f1=2 * pairs / (len(found) + len(truth)),
    )
