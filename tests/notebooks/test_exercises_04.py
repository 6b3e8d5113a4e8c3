"""The exercises of chapter 4: right answers pass, the mistakes that learners make do not."""

import math

import pytest
import torch
from scipy.stats import wasserstein_distance

from aigc_lib.teaching.exercises import all_exercises, submit

LOG_2 = math.log(2)


def is_right(exercise_id, answer):
    return all_exercises()[exercise_id].is_right(answer)


def logit(p, q, share):
    return math.log(p * share / (q * (1 - share)))


def sorted_distance(x, y):
    return (x.sort().values - y.sort().values).abs().mean()


def power_iteration(weight, n_iterations=200):
    v = torch.ones(weight.shape[1])
    for _ in range(n_iterations):
        u = weight @ v / (weight @ v).norm()
        v = weight.T @ u / (weight.T @ u).norm()
    return u @ weight @ v


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("4.0-baseline", lambda m: m**2 + 3),
        ("4.1-disjoint-supports", (LOG_2, 0, 0.3, 1)),
        ("4.1-disjoint-supports", [0.6931, 0.0, torch.tensor(0.3), 1.0]),
        ("4.1-unequal-odds", logit),
        ("4.1-wasserstein-by-sorting", sorted_distance),
        ("4.1-wasserstein-by-sorting", lambda x, y: wasserstein_distance(x, y)),
        ("4.1-spectral-norm", power_iteration),
        ("4.1-spectral-norm", lambda weight: torch.linalg.svdvals(weight)[0]),
        ("4.1-batch-of-one", (0, "ValueError")),
        ("4.1-batch-of-one", (0.0, ValueError)),
    ],
)
def test_right_answers_pass(exercise_id, answer):
    assert is_right(exercise_id, answer)


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("4.0-baseline", lambda m: m**2 + 1),  # the mean of f, which is the usual guess
        ("4.0-baseline", lambda m: 0.0),
        ("4.1-disjoint-supports", (LOG_2, 1, 0.3, 1)),  # JSD that feels the distance
        ("4.1-disjoint-supports", (2 * LOG_2, 0, 0.3, 1)),  # 2 JSD, which stands in the value of the game
        ("4.1-disjoint-supports", (LOG_2, 0, 0.09, 0.6)),  # squared way
        ("4.1-unequal-odds", lambda p, q, share: math.log(p / q)),  # the odds forgotten
        ("4.1-unequal-odds", lambda p, q, share: p * share / (p * share + q * (1 - share))),  # D instead of its logit
        ("4.1-unequal-odds", lambda p, q, share: logit(p, q, 1 - share)),
        ("4.1-wasserstein-by-sorting", lambda x, y: (x - y).abs().mean()),
        ("4.1-wasserstein-by-sorting", lambda x, y: (x.mean() - y.mean()).abs()),
        ("4.1-wasserstein-by-sorting", lambda x, y: sorted_distance(x, y) ** 2),
        ("4.1-spectral-norm", lambda weight: weight.norm()),  # Frobenius
        ("4.1-spectral-norm", lambda weight: weight.abs().max()),
        ("4.1-spectral-norm", lambda weight: power_iteration(weight, 1)),
        ("4.1-spectral-norm", lambda weight: power_iteration(weight) ** 2),  # the eigenvalue of WᵀW
        ("4.1-batch-of-one", (1.4, "ValueError")),
        ("4.1-batch-of-one", (0, "RuntimeError")),
    ],
)
def test_typical_mistakes_do_not(exercise_id, answer):
    assert not is_right(exercise_id, answer)


@pytest.mark.parametrize("exercise_id", [each for each in all_exercises() if each.startswith(("4.0-", "4.1-"))])
@pytest.mark.parametrize("answer", [3, "text", len, (1, 2, 3, 4, 5)], ids=str)
def test_nonsense_gets_a_hint_and_no_exception(capsys, exercise_id, answer):
    submit(exercise_id, answer)
    assert "Hint: " in capsys.readouterr().out
