"""The exercises of chapter 4 accept right answers and refuse the usual wrong ones."""

import math

import pytest
import torch

from aigc_lib.teaching import exercises


def power_iteration(weight):
    v = torch.randn(weight.shape[1], generator=torch.Generator().manual_seed(3))
    for _ in range(200):
        u = torch.nn.functional.normalize(weight @ v, dim=0)
        v = torch.nn.functional.normalize(weight.T @ u, dim=0)
    return u @ weight @ v


def is_right(exercise_id, answer):
    return exercises.all_exercises()[exercise_id].is_right(answer)


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("4.0-baseline", lambda m: m * m + 3),
        ("4.1-disjoint-supports", (math.log(2), 0, 0.3, 1)),
        ("4.1-unequal-odds", lambda p, q, share: math.log(p * share) - math.log(q * (1 - share))),
        ("4.1-wasserstein-by-sorting", lambda x, y: (x.sort().values - y.sort().values).abs().mean()),
        ("4.1-spectral-norm", power_iteration),
        ("4.1-spectral-norm", lambda w: torch.linalg.svdvals(w).max()),
        ("4.1-batch-of-one", (0, "ValueError")),
        ("4.1-batch-of-one", (0.0, ValueError)),
    ],
)
def test_right_answers_pass(exercise_id, answer):
    assert is_right(exercise_id, answer)


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("4.0-baseline", lambda m: m * m + 1),  # the mean of f
        ("4.1-disjoint-supports", (1, 0, 0.3, 1)),  # in bits
        ("4.1-disjoint-supports", (math.log(2), 0, 0.09, 0.6)),  # the squared distance
        ("4.1-unequal-odds", lambda p, q, share: math.log(p / q)),
        ("4.1-unequal-odds", lambda p, q, share: p * share / (p * share + q * (1 - share))),  # no logit
        ("4.1-wasserstein-by-sorting", lambda x, y: (x - y).abs().mean()),
        ("4.1-wasserstein-by-sorting", lambda x, y: (x.mean() - y.mean()).abs()),
        ("4.1-spectral-norm", lambda w: w.norm()),  # Frobenius
        ("4.1-batch-of-one", (0, "RuntimeError")),
        ("4.1-batch-of-one", (1, "ValueError")),
    ],
)
def test_wrong_answers_do_not_pass(exercise_id, answer):
    assert not is_right(exercise_id, answer)
