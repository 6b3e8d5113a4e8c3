"""Exercises of 9.1 and 9.2: what counts as a copy, and what a sample costs."""

import math
from collections.abc import Callable

from aigc_lib.teaching.exercises import exercise


@exercise(
    "9.1-false-alarms",
    question="false_alarms(n, m, rate): how many of n fresh pictures the test for copies flags on average.",
    hint="The threshold is the r-th smallest of m held-out distances, r = floor(rate · (m + 1)), but at least 1. A "
    "fresh picture is as likely to take any of the m + 1 ranks among them.",
)
def false_alarms(answer: Callable[[int, int, float], float]) -> bool:
    cases = [(200, 1000, 0.001), (200, 1000, 0.01), (50, 99, 0.05), (1000, 30, 0.001)]
    return all(
        math.isclose(answer(n, m, rate), n * max(1, math.floor(rate * (m + 1))) / (m + 1), rel_tol=1e-9)
        for n, m, rate in cases
    )


@exercise(
    "9.2-break-even",
    question="break_even(k, sample_rate): seconds of sound for which k steps are as many runs as one a sample.",
    hint="How many runs does WaveNet need for s seconds? Set that equal to k; the k steps do not depend on s.",
)
def break_even(answer: Callable[[int, int], float]) -> bool:
    return all(
        math.isclose(answer(k, rate), k / rate, rel_tol=1e-9) for k, rate in [(50, 16_000), (1000, 24_000), (1, 8)]
    )
