"""Exercises of chapter 1: right answers pass, in whatever form; typical wrong ones do not."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigc_lib.teaching.exercises import all_exercises


def is_right(exercise_id, answer):
    return all_exercises()[exercise_id].is_right(answer)


def entropy(p):
    return 0.0 if p in (0, 1) else -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def sample(probabilities, u):
    total = 0.0
    for index, probability in enumerate(probabilities):
        total += probability
        if u < total:
            return index


def test_the_bank_holds_the_five_exercises_of_the_chapter():
    assert {name for name in all_exercises() if name.startswith("1.")} == {
        "1.2-two-symbol-entropy",
        "1.2-sample-by-cdf",
        "1.4-pole-radius",
        "1.7-fool-the-metric",
        "1.8-sample-size",
    }


def test_entropy_in_bits_is_right_and_so_is_numpys():
    assert is_right("1.2-two-symbol-entropy", entropy)
    assert is_right("1.2-two-symbol-entropy", lambda p: -sum(q * np.log2(q) for q in (p, 1 - p) if q > 0))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda p: entropy(p) * math.log(2),  # nats
        lambda p: -math.log2(p) if p else 0.0,  # the surprise of one symbol
        lambda p: 4 * p * (1 - p),  # right at 0, 1/2 and 1 only
        lambda p: entropy(p) if 0 < p < 1 else math.nan,  # the ends forgotten
    ],
)
def test_other_functions_are_not_the_entropy(wrong):
    assert not is_right("1.2-two-symbol-entropy", wrong)


def test_sampling_by_the_cumulative_distribution_is_right():
    assert is_right("1.2-sample-by-cdf", sample)
    assert is_right("1.2-sample-by-cdf", lambda p, u: np.argmax(np.cumsum(p) > u))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda p, u: np.searchsorted(np.cumsum(p), u),  # on a border it takes the symbol before
        lambda p, u: int(u * len(p)),  # all symbols alike
        lambda p, u: int(np.argmax(p)),  # always the commonest
        lambda p, u: len(p) - 1 - sample(p[::-1], u),  # from the other end
    ],
)
def test_other_ways_to_pick_are_not(wrong):
    assert not is_right("1.2-sample-by-cdf", wrong)


def test_the_pole_radius_shrinks_an_amplitude_to_a_thousandth():
    radius = math.exp(-math.log(1000) / (11_025 * 1.5))
    assert radius ** (11_025 * 1.5) == pytest.approx(1e-3)
    assert is_right("1.4-pole-radius", radius)
    assert is_right("1.4-pole-radius", 0.999582)


@pytest.mark.parametrize("wrong", [0.999, 0.9999, 1.0, 10 ** (-6 / (11_025 * 1.5)), math.exp(-1 / (11_025 * 1.5))])
def test_radii_of_other_speeds_are_wrong(wrong):
    assert not is_right("1.4-pole-radius", wrong)


@given(st.floats(1.05, 30).filter(lambda a: abs(a * a - 3) > 0.01))
def test_every_symmetric_triple_with_unit_variance_fools_the_metric(a):
    share = 1 / (2 * a * a)
    assert is_right("1.7-fool-the-metric", ([-a, 0, a], [share, 1 - 2 * share, share]))


@pytest.mark.parametrize(
    "wrong",
    [
        ([-math.sqrt(3), 0, math.sqrt(3)], [1 / 6, 2 / 3, 1 / 6]),  # the fourth moment is 3, too
        ([-2, 0, 2], [1 / 4, 1 / 2, 1 / 4]),  # variance 2
        ([-1, 0, 1], [1 / 2, 0, 1 / 2]),  # two values
        ([-1, 1], [1 / 2, 1 / 2]),
        ([-2, 0, 2], [1 / 8, 1 / 8, 1 / 8]),  # no probabilities
        ([-1, 1, 3], [0.6, 0.3, 0.1]),  # skewed
    ],
)
def test_triples_with_other_moments_do_not_fool_it(wrong):
    assert not is_right("1.7-fool-the-metric", wrong)


def test_the_sample_size_finds_the_lift_four_times_in_five():
    n = 14_850
    generator = np.random.default_rng(0)
    a, b = (generator.binomial(n, rate, size=20_000) / n for rate in (0.30, 0.315))
    found = np.abs(b - a) > 1.96 * np.sqrt(a * (1 - a) / n + b * (1 - b) / n)
    assert found.mean() == pytest.approx(0.80, abs=0.015)
    assert is_right("1.8-sample-size", n)


@pytest.mark.parametrize("wrong", [7_425, 29_700, 7_300, 3_712, 20_000])  # half, both sides together, without power, …
def test_other_sample_sizes_are_wrong(wrong):
    assert not is_right("1.8-sample-size", wrong)
