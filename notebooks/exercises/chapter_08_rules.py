"""Exercises of section 8.6: questions and answers."""

import math
from collections.abc import Callable

from scipy import stats

from aigc_lib.teaching.exercises import exercise


@exercise(
    "8.6-threshold",
    question="threshold(n, p): the least score of a mark, if n places are tried and a share p may be found by chance.",
    hint="Each of the n places exceeds s at most exp(−s²/2) of the time, and any of them at most n times as often. Set "
    "that to p and solve for s.",
)
def threshold(answer: Callable[[int, float], float]) -> bool:
    asked = ((1, 0.5), (1, 1e-6), (16_384, 1e-6), (256, 1e-3))
    return all(math.isclose(answer(n, p), math.sqrt(2 * math.log(n / p)), rel_tol=1e-6) for n, p in asked)


@exercise(
    "8.6-archive",
    question="Of a million unmarked photographs, one place tried in each: how many score 4.5 or more? (to 10 %)",
    hint="The score is close to a standard normal number. One tail alone counts, and the bound of Hoeffding is larger.",
)
def archive(answer: float) -> bool:
    return math.isclose(answer, 1e6 * stats.norm.sf(4.5), rel_tol=0.1)
