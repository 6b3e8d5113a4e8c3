"""Exercises of section 8.4: questions and answers."""

import math
from collections.abc import Callable

from aigc_lib.teaching.exercises import exercise
from aigc_lib.trust.privacy import Budget, gaussian_sigma


@exercise(
    "8.4-guessed-secret",
    question="chance(epsilon, delta, n_digits): the most probable that one guess of a secret in one record can be.",
    hint="Without the record every guess is right with probability 10 to the power −n. Let the event of (8.4-4) be "
    "that the guess is right. And no probability exceeds 1.",
)
def guessed_secret(answer: Callable[[float, float, int], float]) -> bool:
    cases = [(0.5, 1e-5, 4), (2.0, 1e-3, 2), (8.0, 1e-5, 4), (16.0, 1e-5, 4), (0.1, 0.2, 1)]
    return all(
        math.isclose(answer(e, d, n), min(1, math.exp(e) * 10**-n + d), rel_tol=1e-9, abs_tol=1e-15)
        for e, d, n in cases
    )


@exercise(
    "8.4-many-answers",
    question="noise_for(epsilon, delta, k): least standard deviation for k answers of sensitivity 1, private together.",
    hint="Together the k answers are one vector. How far can one record move a vector of k numbers, each by at most 1? "
    "`gaussian_sigma` takes that as its sensitivity.",
)
def many_answers(answer: Callable[[float, float, int], float]) -> bool:
    cases = [(1.0, 1e-5, 1), (1.0, 1e-5, 4), (0.3, 1e-6, 10), (8.0, 1e-3, 25)]
    return all(
        math.isclose(answer(e, d, k), gaussian_sigma(Budget(epsilon=e, delta=d), math.sqrt(k)), rel_tol=1e-6)
        for e, d, k in cases
    )
