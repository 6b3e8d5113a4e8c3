"""A/B tests keep the error rates that they were designed for, and agree with the textbooks' numbers."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from aigc_lib.dissemination.experiments import (
    boundary_of_looks,
    chance_of_false_alarm,
    compare_means,
    compare_proportions,
    size_for_means,
    size_for_proportions,
)


def numbers(seed=0):
    return np.random.default_rng(seed)


def share_is(events, probability, sigmas=4):
    """Whether the share of True among independent events fits the probability."""
    error = math.sqrt(probability * (1 - probability) / len(events))
    return abs(events.mean() - probability) <= sigmas * error


# two proportions

COUNTS = st.tuples(st.integers(0, 500), st.integers(1, 500)).map(lambda pair: (min(pair), max(pair)))


@given(COUNTS, COUNTS)
def test_the_test_of_proportions_is_pearsons_chi_squared(a, b):
    assume(0 < a[0] + b[0] < a[1] + b[1])
    table = [[a[0], a[1] - a[0]], [b[0], b[1] - b[0]]]
    expected = stats.chi2_contingency(table, correction=False).pvalue
    assert compare_proportions(*a, *b).p_value == pytest.approx(expected, abs=1e-9)


@given(COUNTS, COUNTS)
def test_the_interval_of_proportions_holds_the_estimate_and_mirrors(a, b):
    there, back = compare_proportions(*a, *b), compare_proportions(*b, *a)
    assert -1 - 1e-12 <= there.low <= there.difference <= there.high <= 1 + 1e-12
    assert there.low == pytest.approx(-back.high, abs=1e-12)
    assert there.p_value == pytest.approx(back.p_value)


def test_newcombes_own_example():
    """48 of 80 and 56 of 70: (0.0524, 0.3339) by method 10 (Newcombe 1998)."""
    outcome = compare_proportions(48, 80, 56, 70)
    assert outcome.difference == pytest.approx(0.2)
    assert (round(float(outcome.low), 4), round(float(outcome.high), 4)) == (0.0524, 0.3339)


def test_one_group_against_none_of_a_huge_one_is_the_wilson_interval():
    outcome = compare_proportions(0, 10**12, 7, 20)
    wilson = stats.binomtest(7, 20).proportion_ci(method="wilson")
    assert (float(outcome.low), float(outcome.high)) == pytest.approx(tuple(wilson), abs=1e-5)


def test_nobody_in_either_group_is_no_difference_with_an_interval():
    outcome = compare_proportions(0, 100, 0, 100)
    assert outcome.p_value == 1
    assert outcome.low < 0 < outcome.high


def test_false_positives_come_as_often_as_designed_and_a_planted_lift_is_covered():
    draws = numbers()
    a, b, same = (draws.binomial(3841, p, 10_000) for p in (0.10, 0.12, 0.10))
    assert share_is(compare_proportions(a, 3841, same, 3841).p_value < 0.05, 0.05)
    outcome = compare_proportions(a, 3841, b, 3841)
    assert share_is(outcome.p_value < 0.05, 0.8, sigmas=5)  # the size is for 0.8; the test is not quite normal
    assert share_is((outcome.low <= 0.02) & (outcome.high >= 0.02), 0.95)


# Welch

SAMPLES = st.lists(st.integers(-100, 100), min_size=2, max_size=12)


@pytest.mark.filterwarnings("ignore:Precision loss")  # scipy, of a group without any spread
@given(SAMPLES, SAMPLES, st.floats(0.5, 0.999))
def test_comparing_means_is_scipys_welch(a, b, confidence):
    assume(np.var(a) + np.var(b) > 0)
    outcome, scipys = compare_means(a, b, confidence=confidence), stats.ttest_ind(b, a, equal_var=False)
    interval = scipys.confidence_interval(confidence)
    assert outcome.p_value == pytest.approx(scipys.pvalue, abs=1e-9)
    assert (outcome.low, outcome.high) == pytest.approx(tuple(interval), rel=1e-6, abs=1e-6)


def test_many_experiments_at_once_are_each_their_own():
    draws = numbers()
    a, b = draws.exponential(1, (5, 40)), draws.exponential(2, (5, 60))
    together = compare_means(a, b)
    alone = [compare_means(x, y) for x, y in zip(a, b, strict=True)]
    assert np.allclose(together, np.array(alone).T)


def test_welch_keeps_its_level_where_students_test_does_not():
    draws = numbers()
    a, b = draws.normal(0, 1, (10_000, 40)), draws.normal(0, 4, (10_000, 10))
    assert share_is(compare_means(a, b).p_value < 0.05, 0.05)
    pooled = stats.ttest_ind(a, b, axis=1).pvalue < 0.05
    assert pooled.mean() > 0.2


# sizes


def test_sizes_are_those_of_rs_power_prop_test():
    """R's documentation solves 0.50 against 0.75 with power 0.90 to n = 76.7; 0.10 against 0.12 with 0.8 to 3841."""
    assert size_for_proportions(0.50, 0.75, power=0.90) == 77
    assert size_for_proportions(0.10, 0.12) == 3841


@settings(max_examples=30, deadline=None)
@given(st.floats(0.05, 2), st.floats(0.2, 3), st.floats(0.2, 3), st.floats(0.5, 0.99))
def test_the_size_for_means_has_the_power_it_was_made_for(difference, sd_a, sd_b, power):
    n = size_for_means(difference, sd_a, sd_b, power=power)

    def chance(n):
        return stats.norm.cdf(abs(difference) / math.sqrt((sd_a**2 + sd_b**2) / n) - stats.norm.ppf(0.975))

    assert chance(n) >= power - 1e-9
    assert n == 1 or chance(n - 1) < power


# looks


def test_one_look_is_the_plain_test():
    assert chance_of_false_alarm(1, 1.5) == pytest.approx(2 * stats.norm.sf(1.5), abs=1e-12)
    assert boundary_of_looks(1) == pytest.approx(stats.norm.ppf(0.975), abs=1e-9)


def test_two_looks_are_a_bivariate_normal():
    """The two z have correlation √½."""
    both = stats.multivariate_normal(cov=[[1, 0.5**0.5], [0.5**0.5, 1]])
    inside = both.cdf([1.96, 1.96], lower_limit=[-1.96, -1.96])
    assert chance_of_false_alarm(2, 1.96) == pytest.approx(1 - inside, abs=1e-6)


@pytest.mark.parametrize(("n_looks", "chance"), [(2, 0.083), (3, 0.107), (5, 0.142), (10, 0.193), (20, 0.248)])
def test_false_alarms_are_those_of_armitage(n_looks, chance):
    """Armitage, McPherson and Rowe (1969), two-sided at 5 %."""
    assert round(chance_of_false_alarm(n_looks, stats.norm.ppf(0.975)), 3) == chance


@pytest.mark.parametrize(("n_looks", "boundary"), [(2, 2.178), (5, 2.413), (10, 2.555)])
def test_boundaries_are_those_of_pocock(n_looks, boundary):
    """Pocock (1977), two-sided at 5 %."""
    assert round(boundary_of_looks(n_looks), 3) == boundary
    assert chance_of_false_alarm(n_looks, boundary_of_looks(n_looks)) == pytest.approx(0.05, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 30), st.floats(1.5, 3))
def test_another_look_never_makes_a_false_alarm_rarer(n_looks, boundary):
    chances = [chance_of_false_alarm(n, boundary) for n in (1, n_looks, n_looks + 1)]
    assert chances[0] <= chances[1] + 1e-12
    assert chances[1] < chances[2] < n_looks * chances[0] + chances[0]


def test_walks_that_are_drawn_raise_as_many_alarms():
    z = numbers().standard_normal((20_000, 10)).cumsum(axis=1) / np.sqrt(np.arange(1, 11))
    assert share_is((abs(z) > 1.96).any(axis=1), chance_of_false_alarm(10, 1.96))


# bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compare_proportions(5, 4, 1, 4), "whole counts"),
        (lambda: compare_proportions(1, 0, 1, 4), "whole counts"),
        (lambda: compare_proportions(0.5, 4, 1, 4), "whole counts"),
        (lambda: compare_proportions(1, 4, 1, 4, confidence=95), "confidence"),
        (lambda: compare_means([1.0], [1.0, 2.0]), "at least 2"),
        (lambda: compare_means([1.0, 1.0], [2.0, 2.0]), "vary"),
        (lambda: compare_means([1.0, math.nan], [2.0, 1.0]), "finite"),
        (lambda: size_for_proportions(0.1, 0.1), "not there"),
        (lambda: size_for_proportions(0.0, 0.1), "p_a"),
        (lambda: size_for_means(0.0, 1, 1), "difference"),
        (lambda: size_for_means(1.0, 1, 1, power=1.0), "power"),
        (lambda: chance_of_false_alarm(0, 1.96), "at least 1 look"),
        (lambda: boundary_of_looks(0), "at least 1 look"),
        (lambda: boundary_of_looks(2, alpha=0.0), "alpha"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
