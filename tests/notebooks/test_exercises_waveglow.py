"""The exercises of WaveGlow in chapters 3 and 4: right answers pass, the mistakes that learners make do not."""

import math

import pytest
import torch

from aigc_lib.teaching.exercises import all_exercises


def is_right(exercise_id, answer):
    return all_exercises()[exercise_id].is_right(answer)


def normalised(x, *, per_step=True):
    b, s = -x.mean((0, 2), keepdim=True), 1 / x.std((0, 2), keepdim=True)
    return s, b, (x.shape[2] if per_step else 1) * s.abs().log().sum().item()


RIGHT = [
    ("3.3.2-shapes", (64_000, 2_000, 64_000)),
    ("3.3.2-energy", lambda share: (1 - share) ** 2 + share**2),
    ("4.6-lu", lambda P, L, U, s: s.abs().log().sum().item()),
    ("4.6-actnorm", normalised),
    ("4.6-bits", 15 - 31_000 / 16_000 / math.log(2)),
    ("4.6-temperature", lambda T, N: N * (1 - T**2) / 2),
    ("4.6-reach", 24_480),
]
WRONG = [
    ("3.3.2-shapes", (64_000, 8_000, 64_000)),  # a step taken for a column
    ("3.3.2-energy", lambda share: 1.0),
    ("4.6-lu", lambda P, L, U, s: s.abs().sum().log().item()),
    ("4.6-lu", lambda P, L, U, s: torch.nan_to_num(s.log()).sum().item()),  # log of a negative number
    ("4.6-actnorm", lambda x: normalised(x, per_step=False)),
    ("4.6-bits", 15 + 31_000 / 16_000 / math.log(2)),
    ("4.6-bits", -31_000 / 16_000 / math.log(2)),  # the step's width forgotten
    ("4.6-temperature", lambda T, N: N * (1 - T) / 2),
    ("4.6-reach", 255 * 8),  # one coupling alone
]


def test_every_exercise_has_an_answer_here():
    assert {each for each in all_exercises() if each.startswith(("3.3.2-", "4.6-"))} == {each for each, _ in RIGHT}


@pytest.mark.parametrize(("exercise_id", "answer"), RIGHT)
def test_right_answers_pass(exercise_id, answer):
    assert is_right(exercise_id, answer)


@pytest.mark.parametrize(("exercise_id", "answer"), WRONG)
def test_typical_mistakes_do_not(exercise_id, answer):
    assert not is_right(exercise_id, answer)
