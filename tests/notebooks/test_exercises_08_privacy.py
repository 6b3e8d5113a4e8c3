"""The exercises of section 8.4 accept right answers and refuse the usual wrong ones."""

import math

import pytest
from scipy import stats

from aigc_lib.teaching import exercises
from aigc_lib.trust.privacy import Budget, gaussian_sigma


def is_right(exercise_id, answer):
    return exercises.all_exercises()[exercise_id].is_right(answer)


def sigma(epsilon, delta, sensitivity=1.0):
    return gaussian_sigma(Budget(epsilon=epsilon, delta=delta), sensitivity)


def test_a_guess_is_right_with_at_most_the_factor_times_chance():
    assert is_right("8.4-guessed-secret", lambda e, d, n: min(1.0, math.exp(e) / 10**n + d))


@pytest.mark.parametrize(
    "answer",
    [
        lambda e, d, n: math.exp(e) / 10**n + d,  # may exceed 1
        lambda e, d, n: min(1.0, math.exp(e) / 10**n),  # without δ
        lambda e, d, n: min(1.0, e / 10**n + d),  # ε itself as the factor
        lambda e, d, n: 10**-n,  # as if nothing leaked
        lambda e, d, n: math.exp(e) / (1 + math.exp(e)),  # the bound of the AUC
    ],
)
def test_wrong_chances_of_a_guess_fail(answer):
    assert not is_right("8.4-guessed-secret", answer)


def test_k_answers_are_one_vector_that_moves_by_the_root_of_k():
    assert is_right("8.4-many-answers", lambda e, d, k: sigma(e, d, math.sqrt(k)))
    assert is_right("8.4-many-answers", lambda e, d, k: math.sqrt(k) * sigma(e, d))


@pytest.mark.parametrize(
    "answer",
    [
        lambda e, d, k: sigma(e, d),  # each on its own
        lambda e, d, k: k * sigma(e, d),  # as for the sum of absolute values
        lambda e, d, k: sigma(e / k, d / k),  # basic composition: private, but not the least
        lambda e, d, k: math.sqrt(2 * k * math.log(1.25 / d)) / e,  # textbook noise
    ],
)
def test_wrong_noises_for_many_answers_fail(answer):
    assert not is_right("8.4-many-answers", answer)


def test_the_right_noise_keeps_the_budget_of_the_whole_vector():
    """The privacy loss of k releases is the sum of theirs: normal with k times mean and variance."""
    k, noise = 4, sigma(1.0, 1e-5, 2.0)
    spread = math.sqrt(k) / noise
    loss = stats.norm(spread**2 / 2, spread)
    delta = loss.sf(1.0) - math.e * stats.norm(-(spread**2) / 2, spread).sf(1.0)
    assert delta == pytest.approx(1e-5, rel=1e-6)
