"""Exercises of chapter 1: entropy, sampling, poles, what the Fréchet distance cannot see, sizes of experiments."""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np

from aigc_lib.teaching.exercises import exercise

SAMPLE_RATE = 11_025  # Hz, of the note in section 1.4
SECONDS = 1.5
RATE, LIFT = 0.30, 0.015


@exercise(
    "1.2-two-symbol-entropy",
    question="entropy(p) in bits of a source of two symbols with probabilities p and 1 − p",
    hint="Average the surprise −log₂ of both symbols. p log p tends to 0 with p, although log p does not.",
)
def two_symbol_entropy(answer: Callable[[float], float]) -> bool:
    interior = all(
        math.isclose(answer(p), -p * math.log2(p) - (1 - p) * math.log2(1 - p), abs_tol=1e-6)
        for p in (0.5, 0.25, 0.9, 0.01)
    )
    return interior and all(abs(answer(p)) < 1e-6 for p in (0.0, 1.0))


@exercise(
    "1.2-sample-by-cdf",
    question="sample(probabilities, u): the index that uniform u in [0, 1) picks from the list",
    hint="Add the probabilities up from the left. Which is the first partial sum that is larger than u?",
)
def sample_by_cdf(answer: Callable[[Sequence[float], float], int]) -> bool:
    # Sums of eighths are exact, so the borders are unambiguous; a symbol of probability 0 must never come up.
    lists = ([0.5, 0.25, 0.25], [0.0, 0.125, 0.0, 0.875], [1.0], [0.25, 0.25, 0.25, 0.25])
    points = np.arange(16) / 16
    return all(
        int(answer(probabilities, float(u))) == int(np.searchsorted(np.cumsum(probabilities), u, side="right"))
        for probabilities in lists
        for u in points
    )


@exercise(
    "1.4-pole-radius",
    question="radius of the pole whose vibration falls by 60 dB in 1.5 s at 11,025 samples a second",
    hint="Each sample multiplies the amplitude by r. After how many samples should r to that power be a thousandth?",
)
def pole_radius(answer: float) -> bool:
    # 1 − r is compared: nearly every number below 1 is close to r itself.
    return math.isclose(1 - answer, 1 - 10 ** (-3 / (SAMPLE_RATE * SECONDS)), rel_tol=0.01)


@exercise(
    "1.7-fool-the-metric",
    question="three values with probabilities > 0 whose moments are 0, 1, 0 as of N(0, 1), but the fourth is not 3",
    hint="Make it symmetric, (−a, 0, a), and mean and third moment are right. The variance ties a to the probability.",
)
def fool_the_metric(answer: tuple[Sequence[float], Sequence[float]]) -> bool:
    values, probabilities = (np.asarray(side, dtype=float) for side in answer)
    if values.shape != (3,) or probabilities.shape != (3,) or len(np.unique(values)) < 3 or (probabilities <= 0).any():
        return False
    total, mean, variance, third, fourth = (float(probabilities @ values**power) for power in range(5))
    wanted = np.allclose([total, mean, variance, third], [1, 0, 1, 0], atol=1e-6)
    return bool(wanted) and abs(fourth - 3) > 1e-3


@exercise(
    "1.8-sample-size",
    question="viewers a version to find a lift from 30 % to 31.5 % with 80 % power in a two-sided test at 5 %",
    hint="The lift has to be 1.960 + 0.842 standard errors of the difference; under the root of (1.10) stands n.",
)
def sample_size(answer: float) -> bool:
    quantiles = NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.80)
    variance = RATE * (1 - RATE) + (RATE + LIFT) * (1 - RATE - LIFT)
    return math.isclose(answer, quantiles**2 * variance / LIFT**2, rel_tol=0.03)
