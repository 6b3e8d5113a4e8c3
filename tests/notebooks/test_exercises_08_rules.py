"""The exercises of section 8.6 accept right answers and refuse the usual wrong ones."""

import math

import pytest
from scipy import stats

from aigc_lib.teaching import exercises
from aigc_lib.trust import marks


def is_right(exercise_id, answer):
    return exercises.all_exercises()[exercise_id].is_right(answer)


def test_the_threshold_solves_the_bound_for_the_score():
    assert is_right("8.6-threshold", lambda n, p: math.sqrt(2 * math.log(n / p)))
    assert is_right("8.6-threshold", lambda n, p: (2 * (math.log(n) - math.log(p))) ** 0.5)


@pytest.mark.parametrize(
    "answer",
    [
        lambda n, p: math.sqrt(2 * math.log(1 / p)),  # one place
        lambda n, p: math.sqrt(math.log(n / p)),  # without the 2
        lambda n, p: stats.norm.isf(p / n),  # the normal tail, not the bound
        lambda n, p: math.sqrt(2 * math.log(n * p)) if n * p > 1 else 0.0,
    ],
)
def test_wrong_thresholds_fail(answer):
    assert not is_right("8.6-threshold", answer)


def test_the_right_threshold_is_where_the_detector_begins_to_find():
    s = math.sqrt(2 * math.log(16_384 / marks.FALSE_POSITIVES))
    assert marks.Mark(s, 16_384 * math.exp(-((s + 1e-9) ** 2) / 2)).found
    assert not marks.Mark(s, 16_384 * math.exp(-((s - 1e-9) ** 2) / 2)).found


@pytest.mark.parametrize("answer", [3.4, 3, 3.7, 1e6 * stats.norm.sf(4.5)])
def test_about_three_honest_photographs_of_a_million_are_accused(answer):
    assert is_right("8.6-archive", answer) == (abs(answer - 3.398) < 0.34)


@pytest.mark.parametrize("answer", [0, 6.8, 1e6 * math.exp(-(4.5**2) / 2), 3.4e-6])
def test_other_numbers_of_accused_photographs_fail(answer):
    assert not is_right("8.6-archive", answer)
