"""Estimates from a log hit the truth, with the spread that theory says, as long as the log overlaps."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lib.dissemination.off_policy import doubly_robust, inverse_propensity, overlap, self_normalised

# A world of two kinds of user and three actions, small enough to enumerate.
LOGGED = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]], dtype=torch.float64)
TARGET = torch.tensor([[0.1, 0.1, 0.8], [0.5, 0.5, 0.0]], dtype=torch.float64)
CHANCE = torch.tensor([[0.1, 0.4, 0.7], [0.6, 0.2, 0.3]], dtype=torch.float64)  # of a click
TRUTH = (TARGET * CHANCE).sum(1).mean().item()
GUESS = CHANCE + torch.tensor([[0.1, -0.1, -0.2], [0.1, 0.0, 0.3]], dtype=torch.float64)  # a poor model


def log(n, seed):
    """Kinds, actions, clicks of n requests under the old policy."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randint(2, (n,), generator=generator)
    actions = torch.multinomial(LOGGED[kinds], 1, generator=generator)[:, 0]
    clicks = torch.rand(n, generator=generator, dtype=torch.float64) < CHANCE[kinds, actions]
    return kinds, actions, clicks.double()


def estimates(n, seed, model=GUESS):
    kinds, actions, clicks = log(n, seed)
    parts = clicks, LOGGED[kinds, actions], TARGET[kinds, actions]
    value = (TARGET * model).sum(1)[kinds]
    return inverse_propensity(*parts), self_normalised(*parts), doubly_robust(*parts, model[kinds, actions], value)


def variance_of_one(model):
    """Exact variance of one request's term of the doubly robust estimate, by enumeration; a model of 0 makes it IPS."""
    terms = []
    for kind, action, click in product(range(2), range(3), (0, 1)):
        chance = CHANCE[kind, action] if click else 1 - CHANCE[kind, action]
        weight = TARGET[kind, action] / LOGGED[kind, action]
        term = (TARGET[kind] @ model[kind]) + weight * (click - model[kind, action])
        terms.append((0.5 * LOGGED[kind, action] * chance, term))
    mean = sum(p * x for p, x in terms)
    assert mean.item() == pytest.approx(TRUTH, abs=1e-12)  # unbiased, whatever the model
    return sum(p * (x - mean) ** 2 for p, x in terms).item()


@pytest.fixture(scope="module")
def runs():
    return [estimates(400, seed) for seed in range(1000)]


@pytest.mark.parametrize(("which", "model"), [(0, torch.zeros(2, 3, dtype=torch.float64)), (2, GUESS)])
def test_estimates_are_unbiased_with_the_variance_of_theory(runs, which, model):
    values = torch.tensor([run[which].value for run in runs])
    variance = variance_of_one(model) / 400
    assert abs(values.mean().item() - TRUTH) < 4 * math.sqrt(variance / 1000)
    assert values.var().item() == pytest.approx(variance, rel=4 * math.sqrt(2 / 1000))
    claimed = torch.tensor([run[which].standard_error for run in runs])
    assert claimed.square().mean().item() == pytest.approx(variance, rel=0.05)


def test_the_self_normalised_estimate_is_nearly_unbiased_and_knows_its_error(runs):
    values = torch.tensor([run[1].value for run in runs])
    claimed = torch.tensor([run[1].standard_error for run in runs])
    assert abs(values.mean().item() - TRUTH) < 0.01
    assert values.std().item() == pytest.approx(claimed.square().mean().sqrt().item(), rel=0.12)


def test_even_a_poor_model_helps_and_a_perfect_one_helps_more():
    nothing, poor, perfect = (variance_of_one(model) for model in (torch.zeros_like(GUESS), GUESS, CHANCE))
    assert perfect < poor < nothing


def test_without_a_model_doubly_robust_is_ips():
    ips, _, dr = estimates(50, 0, model=torch.zeros(2, 3, dtype=torch.float64))
    assert dr == ips


@given(st.floats(-5, 5))
def test_a_constant_reward_is_exact_when_self_normalised(reward):
    kinds, actions, _ = log(50, 3)
    rewards = torch.full((50,), reward, dtype=torch.float64)
    estimate = self_normalised(rewards, LOGGED[kinds, actions], TARGET[kinds, actions])
    assert estimate.value == pytest.approx(reward)
    assert estimate.standard_error == pytest.approx(0, abs=1e-9)


def test_evaluating_the_old_policy_itself_is_the_plain_mean():
    kinds, actions, clicks = log(200, 4)
    same = LOGGED[kinds, actions]
    assert inverse_propensity(clicks, same, same).value == pytest.approx(clicks.mean().item())
    report = overlap(LOGGED[kinds], LOGGED[kinds], actions)
    assert report == pytest.approx((0, 1, 200))


def test_what_the_log_never_shows_is_reported_and_missing_from_ips():
    blind = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.2, 0.6]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    kinds = torch.arange(20_000) % 2
    actions = torch.multinomial(blind[kinds], 1, generator=generator)[:, 0]
    report = overlap(blind[kinds], TARGET[kinds], actions)
    assert report.unsupported == pytest.approx(0.8 / 2)
    assert report.largest_weight == pytest.approx(2.5)
    clicks = (torch.rand(20_000, generator=generator, dtype=torch.float64) < CHANCE[kinds, actions]).double()
    estimate = inverse_propensity(clicks, blind[kinds, actions], TARGET[kinds, actions])
    missing = 0.8 * 0.7 / 2  # of the truth: share of the decisions times what they earn
    assert abs(estimate.value - (TRUTH - missing)) < 4 * estimate.standard_error
    assert TRUTH - estimate.value > 10 * estimate.standard_error  # and the error bar does not know


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_the_effective_size_is_between_one_and_the_length_of_the_log(seed):
    kinds, actions, _ = log(30, seed)
    assert 1 <= overlap(LOGGED[kinds], TARGET[kinds], actions).effective_size <= 30


ONES = torch.ones(3, dtype=torch.float64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: inverse_propensity(ONES[:1], ONES[:1], ONES[:1]), "N ≥ 2"),
        (lambda: inverse_propensity(ONES, ONES[:2], ONES), "N ≥ 2"),
        (lambda: inverse_propensity(ONES, 0 * ONES, ONES), "logged"),
        (lambda: inverse_propensity(ONES, ONES, 2 * ONES), "target"),
        (lambda: inverse_propensity(ONES / 0, ONES, ONES), "finite"),
        (lambda: self_normalised(ONES, ONES, 0 * ONES), "says nothing"),
        (lambda: doubly_robust(ONES, ONES, ONES, ONES, ONES[:2]), "predictions"),
        (lambda: overlap(LOGGED, TARGET, torch.zeros(3, dtype=torch.int64)), "actions"),
        (lambda: overlap(LOGGED, 2 * TARGET, torch.zeros(2, dtype=torch.int64)), "add up to 1"),
        (lambda: overlap(TARGET, LOGGED, torch.tensor([0, 2])), "never takes"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
