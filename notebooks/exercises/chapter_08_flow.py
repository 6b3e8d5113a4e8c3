"""Exercises of chapter 8, section 8.1: flow matching and its solvers."""

import math
from collections.abc import Callable

from aigc_lib.teaching.exercises import exercise


@exercise(
    "8.1-one-euler-step",
    question="one_euler_step(noise, m, s): where one Euler step carries a noise value when the data are N(m, s²).",
    hint="At t = 0 a noise value says nothing about the data, so the mean of x₁ − x₀ given x₀ is easy. The step is 1.",
)
def one_euler_step(answer: Callable[[float, float, float], float]) -> bool:
    cases = [(0.0, 0.7, 0.3), (-1.3, 0.7, 0.3), (2.0, -4.0, 1.0), (0.5, 0.25, 3.0)]
    return all(math.isclose(answer(noise, m, s), m, abs_tol=1e-9) for noise, m, s in cases)


@exercise(
    "8.1-one-midpoint-step",
    question="spread(s): standard deviation after one midpoint step when the data are N(m, s²) and should have got s.",
    hint="Half an Euler step carries x to (x + m)/2. Put that into the velocity of a Gaussian, with t = 1/2, and move "
    "x by all of it. What multiplies x in the result? For s = 1 it has to be 1.",
)
def one_midpoint_step(answer: Callable[[float], float]) -> bool:
    return all(math.isclose(answer(s), 2 * s**2 / (1 + s**2), rel_tol=1e-9) for s in (0.1, 0.3, 1.0, 2.5))
