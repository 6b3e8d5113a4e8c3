"""Exercises of chapter 8: flows and scores, scaling, kinds of tasks, model collapse."""

import math
from collections.abc import Callable, Mapping

from aigc_lib.teaching.exercises import exercise

_KINDS = dict.fromkeys((1, 4, 6, 10), "generative") | dict.fromkeys((2, 5, 8), "discriminative")
_KINDS |= dict.fromkeys((3, 7, 9), "decision")


@exercise(
    "8.1-score-of-a-flow",
    question="score(x, t, velocity): the score of p_t at x from the velocity of flow matching, 0 < t < 1.",
    hint="Given x_1, the density of x_t is a Gaussian of standard deviation 1 − t; its score is a multiple of x_0. "
    "Take its mean given x_t. And since x_t = x_0 + t (x_1 − x_0), that mean follows from x and the velocity.",
)
def score_of_a_flow(answer: Callable[[float, float, float], float]) -> bool:
    cases = ((0.3, 0.2, -1.0), (-1.5, 0.5, 0.7), (2.0, 0.9, 1.1), (0.0, 0.6, 2.0))
    return all(math.isclose(answer(x, t, u), (t * u - x) / (1 - t), abs_tol=1e-9) for x, t, u in cases)


@exercise(
    "8.1-compute-optimal",
    question="growth(alpha, beta): the power of the compute C = 6ND by which the best number of parameters grows.",
    hint="Put D = C / (6N) into the law and set the derivative by N to zero: two powers of N balance. Which power of C "
    "does that leave? With α = β both have to grow alike.",
)
def compute_optimal(answer: Callable[[float, float], float]) -> bool:
    cases = ((0.34, 0.28), (0.5, 0.5), (0.1, 0.9), (1.0, 0.25))
    return all(math.isclose(answer(a, b), b / (a + b), abs_tol=1e-9) for a, b in cases)


@exercise(
    "8.2-kinds-of-tasks",
    question="Ten tasks of customer service, virtual reality and recommendation: which kind is each?",
    hint="Ask of each: could two different answers both be right, as draws (generative)? Is there one right answer "
    "that somebody could look up (discriminative)? Or is something chosen for what it leads to (decision)?",
)
def kinds_of_tasks(answer: Mapping[int, str]) -> bool:
    return dict(answer) == _KINDS


@exercise(
    "8.3-half-life",
    question="half_life(n): generations after which the mean variance of a refitted Gaussian is one half.",
    hint="Set (8.3-2) to one half and solve for g. With n = 2 a single generation is enough.",
)
def half_life(answer: Callable[[int], float]) -> bool:
    return all(math.isclose(answer(n), math.log(0.5) / math.log1p(-1 / n), rel_tol=1e-9) for n in (2, 10, 100, 5000))


@exercise(
    "8.3-kept-variance",
    question="kept(n, m): the mean variance at which n own and m new real draws a generation settle.",
    hint="N = n + m and r = n / N in (8.3-3). Test it at the ends: no own draws leave 1 − 1/N, no real ones leave 0.",
)
def kept_variance(answer: Callable[[int, int], float]) -> bool:
    def right(n: int, m: int) -> float:
        r, total = n / (n + m), n + m
        kappa = 1 - 1 / (total * (1 + r))
        return kappa * (1 - r) / (1 - kappa * r)

    return all(
        math.isclose(answer(n, m), right(n, m), rel_tol=1e-9) for n, m in ((100, 25), (99, 1), (10, 90), (0, 50))
    )
