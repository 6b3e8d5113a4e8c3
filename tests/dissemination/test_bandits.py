"""Bandits keep the books they should, explore as the formulas say, and lose as much as theory allows."""

import math
from itertools import repeat

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from torch.distributions import Bernoulli, kl_divergence

from aigc_lib.dissemination.bandits import LinUCB, ThompsonSampling, growth, lai_robbins, play
from aigc_lib.dissemination.platform import Platform, PlatformConfig

MEANS = torch.tensor([0.6, 0.45, 0.3, 0.1], dtype=torch.float64)


def numbers(seed=0):
    return torch.Generator().manual_seed(seed)


def same_every_round(means, n_rounds, n_runs):
    return repeat((None, means.expand(n_runs, -1)), n_rounds)


class Always:
    """Shows one variant."""

    def __init__(self, variant, n_runs):
        self.variants = torch.full((n_runs,), variant)

    def choose(self, contexts):
        return self.variants

    def update(self, chosen, rewards, contexts):
        assert set(rewards.tolist()) <= {0.0, 1.0}


# Regret --------------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.data())
def test_a_fixed_choice_loses_its_gap_every_round(means, data):
    variant = data.draw(st.integers(0, len(means) - 1))
    means = torch.tensor(means, dtype=torch.float64)
    regret = play(Always(variant, 3), same_every_round(means, 7, 3), generator=numbers())
    gap = (means.max() - means[variant]).item()
    assert torch.allclose(regret, gap * torch.arange(1, 8, dtype=torch.float64)[:, None].expand(7, 3))


@settings(deadline=None)
@given(st.lists(st.integers(1, 99), min_size=2, max_size=6))
def test_the_lai_robbins_constant_is_the_sum_of_gaps_over_divergences(means):
    means = torch.tensor(means, dtype=torch.float64) / 100
    best = means.max()
    divergences = kl_divergence(Bernoulli(probs=means), Bernoulli(probs=best.expand(len(means))))
    terms = [(best - m) / d for m, d in zip(means, divergences, strict=True) if m < best]
    assert lai_robbins(means) == pytest.approx(float(sum(terms)), rel=1e-9)


def test_the_best_variant_alone_costs_nothing_and_a_certain_one_is_found_at_no_price():
    assert lai_robbins(torch.tensor([0.3])) == 0
    assert lai_robbins(torch.tensor([1.0, 0.5])) == 0  # one failure of the other one tells


@pytest.mark.parametrize("means", [[], [[0.1, 0.2]], [0.1, 1.2], [float("nan"), 0.1]])
def test_the_constant_needs_probabilities(means):
    with pytest.raises(ValueError, match=r"expected means \(A,\) in \[0, 1\]"):
        lai_robbins(torch.tensor(means))


def test_without_rounds_there_is_no_regret_to_speak_of():
    with pytest.raises(ValueError, match="at least one round"):
        play(Always(0, 3), [], generator=numbers())


# Thompson sampling ---------------------------------------------------------------------------------------------------


def test_a_variant_is_shown_with_the_probability_that_it_is_the_best():
    n_runs, wins, losses = 40_000, (3.0, 5.0), (4.0, 9.0)
    policy = ThompsonSampling(n_runs, 2, generator=numbers())
    policy.wins[:], policy.losses[:] = torch.tensor(wins), torch.tensor(losses)
    one, two = (stats.beta(1 + w, 1 + m) for w, m in zip(wins, losses, strict=True))
    truth, _ = integrate.quad(lambda x: one.pdf(x) * two.cdf(x), 0, 1)
    share = (policy.choose() == 0).double().mean().item()
    assert share == pytest.approx(truth, abs=4 * math.sqrt(truth * (1 - truth) / n_runs))


def test_the_posterior_counts_what_was_seen():
    policy = ThompsonSampling(2, 3, generator=numbers())
    policy.update(torch.tensor([0, 2]), torch.tensor([1.0, 0.25]))
    assert policy.wins.tolist() == [[1, 0, 0], [0, 0, 0.25]]
    assert policy.losses.tolist() == [[0, 0, 0], [0, 0, 0.75]]


def test_equal_generators_make_equal_choices():
    one, two = (
        play(ThompsonSampling(20, 4, generator=numbers(3)), same_every_round(MEANS, 50, 20), generator=numbers(4))
        for _ in range(2)
    )
    assert torch.equal(one, two)


def test_regret_of_thompson_sampling_bends_and_approaches_the_constant_from_below():
    """The constant is a limit: at 2,000 rounds the slope is still below it, and above half of it."""
    policy = ThompsonSampling(200, 4, generator=numbers())
    regret = play(policy, same_every_round(MEANS, 2000, 200), generator=numbers(1))
    slope, half_width = growth(regret, power=False)
    assert (slope - half_width) / lai_robbins(MEANS) > 0.5
    assert (slope + half_width) / lai_robbins(MEANS) < 1
    assert regret[-1].mean() / regret[999].mean() < 1.3  # a policy that does not learn doubles it


# LinUCB --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def taught():
    """LinUCB after 60 random lessons in each of three runs, and the lessons."""
    generator = numbers(5)
    x = torch.randn(60, 3, 4, 5, generator=generator, dtype=torch.float64)  # (T, R, A, D)
    chosen = torch.randint(4, (60, 3), generator=generator)
    rewards = torch.rand(60, 3, generator=generator, dtype=torch.float64)
    policy = LinUCB(3, 5, width=0.7, ridge=2.0)
    for lesson in zip(chosen, rewards, x, strict=True):
        policy.update(*lesson)
    seen = x.gather(2, chosen[:, :, None, None].expand(-1, -1, 1, 5))[:, :, 0]  # (T, R, D)
    return policy, seen, rewards


def ridge(seen, rewards, strength):
    """Σ x xᵀ + λ I, and what solves the normal equations, for one run."""
    matrix = strength * torch.eye(seen.shape[1], dtype=torch.float64) + seen.T @ seen
    return matrix, torch.linalg.solve(matrix, seen.T @ rewards)


def test_the_weights_are_those_of_ridge_regression(taught):
    policy, seen, rewards = taught
    for run in range(3):
        assert torch.allclose(policy.weights[run], ridge(seen[:, run], rewards[:, run], 2.0)[1], atol=1e-10)


def test_the_variant_with_the_highest_upper_bound_is_shown(taught):
    policy, seen, rewards = taught
    contexts = torch.randn(3, 50, 5, generator=numbers(6), dtype=torch.float64)
    for run, shown in enumerate(policy.choose(contexts).tolist()):
        matrix, weights = ridge(seen[:, run], rewards[:, run], 2.0)
        bounds = [x @ weights + 0.7 * (x @ torch.linalg.inv(matrix) @ x).sqrt() for x in contexts[run]]
        assert shown == max(range(50), key=bounds.__getitem__)


def hardest(n_directions, n_rounds, n_runs, generator):
    """Two opposite variants, so close that T rounds only just tell which is the better one, in each direction."""
    gap = 2 * math.sqrt(n_directions / n_rounds)
    signs = 2 * torch.randint(2, (n_runs, n_directions), generator=generator) - 1
    for _ in range(n_rounds):
        direction = torch.randint(n_directions, (n_runs,), generator=generator)
        x = torch.eye(n_directions, dtype=torch.float64)[direction]
        better = gap / 2 * (x * signs).sum(dim=1)
        one = torch.ones(n_runs, 1, dtype=torch.float64)  # the intercept: without it the model would be wrong
        contexts = torch.stack([torch.cat([x, one], dim=1), torch.cat([-x, one], dim=1)], dim=1)
        yield contexts, torch.stack([0.5 + better, 0.5 - better], dim=1)


def test_on_the_hardest_problems_regret_grows_like_the_root_of_the_rounds():
    """Every horizon has a hardest problem of its own: over these, not along one curve, the exponent is one half.

    Only with a wide bound: at width 1 it is about 0.68, for now and then a run settles on the worse variant.
    """
    horizons, lost = (200, 400, 800, 1600), []
    for n_rounds in horizons:
        regret = play(LinUCB(100, 6, width=2.0), hardest(5, n_rounds, 100, numbers(7)), generator=numbers(8))
        lost.append(regret[-1].mean().item())
        assert 0.1 < lost[-1] / math.sqrt(5 * n_rounds) < 0.5  # the unit is what choosing at random loses
    exponent, _ = np.polyfit(np.log(horizons), np.log(lost), 1)
    assert exponent == pytest.approx(0.5, abs=0.05)


def test_linucb_serves_every_taste_and_so_beats_the_best_variant_for_all():
    """On a platform whose clicks are logistic, not linear: nearly, not wholly, as good as the oracle."""
    platform = Platform(PlatformConfig(n_users=300, n_items=8, n_features=3), generator=numbers(9))
    relevance = platform.relevance(torch.arange(300))  # (U, A)

    def rounds(n_rounds, n_runs, generator):
        for _ in range(n_rounds):
            users = torch.randint(300, (n_runs,), generator=generator)
            pairs = (platform.tastes[users][:, None, :, None] * platform.features[:, None]).flatten(2)  # (R, A, 9)
            yield torch.cat([pairs, torch.ones_like(pairs[..., :1])], dim=2), relevance[users]

    regret = play(LinUCB(40, 10, width=0.5), rounds(1200, 40, numbers(10)), generator=numbers(11))
    one_for_all = (relevance.amax(dim=1) - relevance[:, relevance.mean(dim=0).argmax()]).mean()
    assert (regret[-1] - regret[-500]).mean() / 499 < 0.2 * one_for_all
    assert growth(regret, power=True).slope < 0.5


@pytest.mark.parametrize("contexts", [None, torch.zeros(2, 4, 6), torch.zeros(3, 4, 5), torch.zeros(2, 5)])
def test_contexts_of_another_shape_are_refused(contexts):
    with pytest.raises(ValueError, match=r"expected contexts \(2, variants, 5\), got"):
        LinUCB(2, 5).choose(contexts)


@pytest.mark.parametrize("rewards", [torch.zeros(3), torch.tensor([0.0, 1.5]), torch.tensor([float("nan"), 0])])
@pytest.mark.parametrize("policy", [LinUCB(2, 3), ThompsonSampling(2, 4, generator=numbers())])
def test_rewards_are_one_a_run_between_0_and_1(policy, rewards):
    with pytest.raises(ValueError, match=r"expected rewards \(2,\) in \[0, 1\]"):
        policy.update(torch.tensor([0, 1]), rewards, torch.zeros(2, 4, 3))


@pytest.mark.parametrize("sizes", [(0, 3), (3, 0)])
def test_policies_need_runs_and_something_to_choose(sizes):
    with pytest.raises(ValueError, match="at least one run"):
        ThompsonSampling(*sizes, generator=numbers())
    with pytest.raises(ValueError, match="at least one run"):
        LinUCB(*sizes)


@pytest.mark.parametrize("wrong", [{"width": -1.0}, {"ridge": 0.0}, {"width": math.inf}])
def test_width_and_ridge_are_finite(wrong):
    with pytest.raises(ValueError, match="expected a finite width"):
        LinUCB(2, 3, **wrong)


# Growth --------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(st.floats(0.1, 50), st.floats(1, 100))
def test_a_logarithm_has_its_factor_and_a_root_the_exponent_one_half(factor, constant):
    t = torch.arange(1, 301, dtype=torch.float64)[:, None].expand(-1, 20)
    assert growth(factor * t.log() + constant, power=False) == pytest.approx((factor, 0), abs=1e-9)
    assert growth(factor * t.sqrt(), power=True) == pytest.approx((0.5, 0), abs=1e-9)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    t = torch.arange(1, 101, dtype=torch.float64)[:, None]
    factors = 3 + torch.randn(400, 20, generator=numbers(12), dtype=torch.float64)  # of 400 experiments with 20 runs
    fits = [growth(row * t.log(), power=False) for row in factors]
    covered = sum(abs(fit.slope - 3) <= fit.half_width for fit in fits) / 400
    assert covered == pytest.approx(0.95, abs=0.045)  # 4 standard errors


@pytest.mark.parametrize(("shape", "fault"), [((19, 50), "20 ro"), ((50, 19), "20 ro"), ((50, 20), "lost nothing")])
def test_a_fit_needs_rounds_and_runs_and_for_a_power_losses(shape, fault):
    with pytest.raises(ValueError, match=fault):
        growth(torch.zeros(shape), power=True)
