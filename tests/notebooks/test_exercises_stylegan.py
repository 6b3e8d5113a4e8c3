"""The exercises of StyleGAN in chapters 3 and 4: right answers pass, the mistakes that learners make do not."""

import math

import pytest
import torch

from aigc_lib.teaching.exercises import all_exercises


def is_right(exercise_id, answer):
    return all_exercises()[exercise_id].is_right(answer)


def lengths(J, *, fourth_powers=True):
    gram = J.T @ J
    return gram.trace(), 2 * (gram.square().sum() if fourth_powers else gram.trace() ** 2)


def slerp(z1, z2, t, *, careful=True):
    angle = torch.arccos((z1 @ z2 / z1.norm() / z2.norm()).clamp(-1, 1))
    if careful and angle < 1e-4:
        return torch.lerp(z1, z2, t)
    return (((1 - t) * angle).sin() * z1 + (t * angle).sin() * z2) / angle.sin()


def lazy_adam(eta, beta1, beta2, k):
    c = k / (k + 1)
    return c * eta, beta1**c, beta2**c


RIGHT = [
    ("3.4.2-layers", lambda R: 2 * (R.bit_length() - 1) - 2),
    ("3.4.2-upright", lambda seen, p: (seen - p / 4) / (1 - p)),
    ("3.4.2-flicker", lambda step, noise: (step**2 + 2 * noise) / (4 * step**2 + 2 * noise)),
    ("4.8-first-step", lambda eta, n, rate: (eta * rate / math.sqrt(n), eta * rate)),
    ("4.8-lazy-adam", lazy_adam),
    ("4.8-lengths", lengths),
    ("4.8-truncation", lambda psi, S: (1 - psi) ** 2 * S.trace()),
    ("4.8-slerp", slerp),
    ("4.8-weighted-sum", lambda kappa: (kappa + 1) / (2 * kappa + 1)),
]
WRONG = [
    ("3.4.2-layers", lambda R: 2 * (R.bit_length() - 1) - 3),  # the last picture forgotten
    ("3.4.2-upright", lambda seen, p: seen / (1 - p)),  # some are turned all the way round
    ("3.4.2-flicker", lambda step, noise: (step**2 + noise) / (2 * step**2 + noise)),  # a random walk
    ("4.8-first-step", lambda eta, n, rate: (eta, eta)),  # the stored weight
    ("4.8-first-step", lambda eta, n, rate: (eta * rate / math.sqrt(n), eta)),
    ("4.8-lazy-adam", lambda eta, beta1, beta2, k: (eta / k, beta1**k, beta2**k)),
    ("4.8-lazy-adam", lambda eta, beta1, beta2, k: (eta, beta1, beta2)),
    ("4.8-lengths", lambda J: lengths(J, fourth_powers=False)),
    ("4.8-truncation", lambda psi, S: (1 - psi**2) * S.trace()),
    ("4.8-truncation", lambda psi, S: (1 - psi) * S.trace()),
    ("4.8-slerp", torch.lerp),
    ("4.8-slerp", lambda z1, z2, t: slerp(z1, z2, t, careful=False)),  # 0/0 where both are one
    ("4.8-slerp", lambda z1, z2, t: torch.lerp(z1, z2, t) / torch.lerp(z1, z2, t).norm() * z1.norm()),  # uneven speed
    ("4.8-slerp", lambda z1, z2, t: slerp(z1 / z1.norm(), z2 / z2.norm(), t)),  # the length is lost
    ("4.8-weighted-sum", lambda kappa: 2 / 3),
]


def test_every_exercise_has_an_answer_here():
    assert {each for each in all_exercises() if each.startswith(("3.4.2-", "4.8-"))} == {each for each, _ in RIGHT}


@pytest.mark.parametrize(("exercise_id", "answer"), RIGHT)
def test_right_answers_pass(exercise_id, answer):
    assert is_right(exercise_id, answer)


@pytest.mark.parametrize(("exercise_id", "answer"), WRONG)
def test_typical_mistakes_do_not(exercise_id, answer):
    assert not is_right(exercise_id, answer)
