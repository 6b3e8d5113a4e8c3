"""The exercises of chapter 8 on flows, scaling, tasks and data accept right answers and refuse the usual wrong ones."""

import math

import numpy as np
import pytest

from aigc_lib.teaching import exercises

KINDS = {1: "generative", 2: "discriminative", 3: "decision", 4: "generative", 5: "discriminative"}
KINDS |= {6: "generative", 7: "decision", 8: "discriminative", 9: "decision", 10: "generative"}


def is_right(exercise_id, answer):
    return exercises.all_exercises()[exercise_id].is_right(answer)


def kept(n, m):
    r, total = n / (n + m), n + m
    kappa = 1 - 1 / (total * (1 + r))
    return kappa * (1 - r) / (1 - kappa * r)


RIGHT = {
    "8.1-score-of-a-flow": lambda x, t, u: (t * u - x) / (1 - t),
    "8.1-compute-optimal": lambda a, b: b / (a + b),
    "8.2-kinds-of-tasks": KINDS,
    "8.3-half-life": lambda n: math.log(0.5) / math.log(1 - 1 / n),
    "8.3-kept-variance": kept,
}


@pytest.mark.parametrize("exercise_id", RIGHT)
def test_the_right_answer_is_accepted(exercise_id):
    assert is_right(exercise_id, RIGHT[exercise_id])


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("8.1-score-of-a-flow", lambda x, t, u: -(x - t * u)),  # the noise, not divided by its scale
        ("8.1-score-of-a-flow", lambda x, t, u: (x + (1 - t) * u) / t),  # the guess of the data
        ("8.1-score-of-a-flow", lambda x, t, u: u),
        ("8.1-compute-optimal", lambda a, b: a / (a + b)),  # that of the data
        ("8.1-compute-optimal", lambda a, b: 0.5),  # right for α = β alone
        ("8.2-kinds-of-tasks", KINDS | {9: "generative"}),  # recommendation does not generate
        ("8.2-kinds-of-tasks", KINDS | {8: "decision"}),
        ("8.2-kinds-of-tasks", {1: "generative"}),
        ("8.3-half-life", lambda n: n / 2),
        ("8.3-half-life", lambda n: n * math.log(2)),  # the limit of large n
        ("8.3-kept-variance", lambda n, m: m / (n + m)),
        ("8.3-kept-variance", lambda n, m: 1 - 1 / (n + m)),
    ],
)
def test_the_usual_wrong_answers_are_refused(exercise_id, answer):
    assert not is_right(exercise_id, answer)


def test_the_score_of_a_flow_is_that_of_the_gaussian():
    mean, width, t, x = 2.0, 1.5, 0.7, 0.4
    variance = (1 - t) ** 2 + (t * width) ** 2
    velocity = mean + (t * width**2 - (1 - t)) / variance * (x - t * mean)
    assert RIGHT["8.1-score-of-a-flow"](x, t, velocity) == pytest.approx(-(x - t * mean) / variance)


def test_the_best_size_grows_by_that_power_of_the_compute():
    sizes = np.geomspace(1e3, 1e12, 200_001)
    best = [sizes[(400 / sizes**0.34 + 410 / (c / 6 / sizes) ** 0.28).argmin()] for c in (1e16, 1e20)]
    assert math.log(best[1] / best[0], 1e4) == pytest.approx(RIGHT["8.1-compute-optimal"](0.34, 0.28), abs=1e-3)
