"""The exercises of 9.1 and 9.2 accept right answers and refuse the usual wrong ones."""

import math

import pytest
import torch

from aigc_lib.metrics.images import memorisation_test
from aigc_lib.teaching import exercises


def is_right(exercise_id, answer):
    return exercises.all_exercises()[exercise_id].is_right(answer)


def alarms(n, m, rate):
    return n * max(1, math.floor(rate * (m + 1))) / (m + 1)


def test_each_of_m_plus_one_ranks_is_equally_likely():
    assert is_right("9.1-false-alarms", alarms)
    assert is_right("9.1-false-alarms", lambda n, m, rate: alarms(1, m, rate) * n)


@pytest.mark.parametrize(
    "answer",
    [
        lambda n, m, rate: n * rate,  # the rate is a bound, kept only where m allows it
        lambda n, m, rate: n * math.floor(rate * (m + 1)) / (m + 1),  # without "at least 1"
        lambda n, m, rate: n * max(1, math.floor(rate * m)) / m,
        lambda n, m, rate: 0,
    ],
)
def test_wrong_numbers_of_alarms_fail(answer):
    assert not is_right("9.1-false-alarms", answer)


def test_the_formula_is_what_the_test_for_copies_does():
    numbers, flagged = torch.Generator().manual_seed(0), []
    for _ in range(60):
        fresh, training, held_out = (torch.randn(n, 2, generator=numbers) for n in (50, 200, 99))
        flagged.append(memorisation_test(fresh, training, held_out, false_positive_rate=0.05).n_memorised)
    counts = torch.tensor(flagged, dtype=torch.float64)
    error = counts.std() / math.sqrt(len(counts))
    assert abs(counts.mean() - alarms(50, 99, 0.05)) < 4 * error


def test_as_many_steps_as_samples():
    assert is_right("9.2-break-even", lambda k, sample_rate: k / sample_rate)


@pytest.mark.parametrize(
    "answer", [lambda k, sample_rate: sample_rate / k, lambda k, sample_rate: k, lambda k, sample_rate: k * sample_rate]
)
def test_wrong_lengths_fail(answer):
    assert not is_right("9.2-break-even", answer)
