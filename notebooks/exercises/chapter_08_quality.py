"""Exercises of section 8.5, quality control: questions and answers."""

import math
from collections.abc import Callable

from aigc_lib.teaching.exercises import exercise

_PAIRS = ((1.0, 1.0, 100), (2.0, 0.5, 50), (0.3, 3.0, 1000))


@exercise(
    "8.5-excess",
    question="excess_of_distance(s1, s2, n): the mean excess of a one-dimensional Fréchet distance, to first order.",
    hint="The distance is the squared difference of the means plus that of the deviations. The fitted means add their "
    "two variances; of the deviations' square only the mixed term has a bias, for a fitted deviation is σ(1 − 1/(4n)).",
)
def excess(answer: Callable[[float, float, int], float]) -> bool:
    return all(math.isclose(answer(a, b, n), (a * a + b * b + a * b) / n, rel_tol=0.03) for a, b, n in _PAIRS)


@exercise(
    "8.5-rare-share",
    question="rare_share(w, r, c): the share of rare items after a filter that keeps r of them and c of the others.",
    hint="Bayes: what is kept is w r rare and (1 − w) c others. If r = c, nothing changes.",
)
def rare_share(answer: Callable[[float, float, float], float]) -> bool:
    cases = ((0.1, 0.5, 1.0), (0.3, 0.9, 0.2), (0.5, 0.4, 0.4))
    return all(math.isclose(answer(w, r, c), w * r / (w * r + (1 - w) * c), abs_tol=1e-9) for w, r, c in cases)
