"""Exercises of chapter 10: what an arXiv number says, and why a narrow Parzen window says too much."""

import math
from collections.abc import Callable

from aigc_lib.teaching.exercises import exercise


@exercise(
    "10.1-arxiv-month",
    question="month(number): year and month of a new-style arXiv number as a pair, None for what cannot be one.",
    hint="Four digits, a dot, four digits (five since 2015). The first two digits are the year, the next two a month: "
    "which of 00 to 99 are months? The scheme began in April 2007.",
)
def arxiv_month(answer: Callable[[str], tuple[int, int] | None]) -> bool:
    right = {
        "1812.04948": (2018, 12),
        "1406.2661": (2014, 6),
        "0704.0001": (2007, 4),
        "2501.00001": (2025, 1),
        "1802.05933": (2018, 2),
    }
    impossible = ("1813.04948", "1800.04948", "1812.4948", "1406.02661", "0701.0001", "181204948", "abc", "")
    return all(tuple(answer(number)) == month for number, month in right.items()) and all(
        answer(number) is None for number in impossible
    )


@exercise(
    "10.3-parzen-bound",
    question="parzen_bound(n, d, width): the highest value of (10.3-1) anywhere, for n centres placed as you like.",
    hint="A sum of n terms, each at most the height of one Gaussian: where is that reached, and can all n reach it at "
    "the same point? Mind the 1/n in front.",
)
def parzen_bound(answer: Callable[[int, int, float], float]) -> bool:
    cases = [(1, 1, 1.0), (1, 784, 0.2), (10, 784, 0.2), (500, 3, 0.05)]
    return all(
        math.isclose(answer(n, d, width), -d / 2 * math.log(2 * math.pi * width**2), rel_tol=1e-6)
        for n, d, width in cases
    )
