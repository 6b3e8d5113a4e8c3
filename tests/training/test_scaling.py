"""The law of loss against size and data is found where it is known, and the family trains as stated."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import approx_fprime

from aigc_lib.training import scaling
from aigc_lib.training.scaling import BATCH, CONTEXT, Run, ScalingLaw, bootstrap, fit, interval, train_run

TRUTH = ScalingLaw(E=1.7, A=18, alpha=0.5, B=2300, beta=0.65)
SIZES = [(n, d) for n in (2e3, 7.5e3, 2.7e4, 1e5) for d in (2.5e5, 5e5, 1e6, 2e6, 4e6)]


def runs_of(law, noise=0.0, seed=0):
    factors = np.exp(noise * np.random.default_rng(seed).normal(size=len(SIZES)))
    return [Run(n, d, float(law(n, d)) * f) for (n, d), f in zip(SIZES, factors, strict=True)]


@pytest.mark.parametrize(
    "law",
    [TRUTH, ScalingLaw(E=1.0, A=400, alpha=0.34, B=410, beta=0.28), ScalingLaw(E=0.5, A=3, alpha=1.2, B=9, beta=0.2)],
)
def test_a_law_is_found_again_from_its_own_values(law):
    found = fit(runs_of(law))
    assert found.alpha == pytest.approx(law.alpha, rel=1e-3)
    assert found.beta == pytest.approx(law.beta, rel=1e-3)
    assert math.isclose(found.E, law.E, rel_tol=1e-2)
    assert found(1e6, 1e8) == pytest.approx(law(1e6, 1e8), rel=1e-2)


def test_the_law_is_the_formula():
    assert TRUTH(10_000, 1_000_000) == pytest.approx(1.7 + 18 / 100 + 2300 / math.exp(0.65 * math.log(1e6)))


def test_the_intervals_cover_known_exponents_about_as_often_as_they_say():
    covered = 0
    for seed in range(24):
        laws = bootstrap(runs_of(TRUTH, 0.005, seed), 60, generator=torch.Generator().manual_seed(seed))
        for name, true in (("alpha", 0.5), ("beta", 0.65)):
            low, high = interval(laws, lambda law, name=name: getattr(law, name))
            covered += low <= true <= high
    assert covered >= 38  # of 48; at 95 % fewer come with a chance below 0.1 %


def test_without_noise_the_bootstrap_has_nothing_to_vary():
    laws = bootstrap(runs_of(TRUTH), 5, generator=torch.Generator().manual_seed(0))
    assert max(law.alpha for law in laws) - min(law.alpha for law in laws) < 1e-3


def test_the_best_fit_has_no_slope_left():
    runs = runs_of(TRUTH, 0.01)
    found = fit(runs)
    n, d, loss = np.array(runs).T

    def cost(x):
        law = ScalingLaw(E=x[0], A=x[1] * 100, alpha=x[2], B=x[3] * 1e4, beta=x[4])
        return np.square(np.log(law(n, d) / loss)).sum()

    best = np.array([found.E, found.A / 100, found.alpha, found.B / 1e4, found.beta])
    assert np.abs(approx_fprime(best, cost, 1e-7)).max() < 1e-3


def test_runs_that_cannot_settle_a_law_are_refused():
    runs = runs_of(TRUTH)
    with pytest.raises(ValueError, match="three N and three D"):
        fit(runs[:4])
    with pytest.raises(ValueError, match="three N and three D"):
        fit([run for run in runs if run.n_parameters < 1e4])
    with pytest.raises(ValueError, match="positive"):
        fit([*runs, Run(2000, 1000, math.nan)])
    with pytest.raises(ValueError, match="repeat"):
        bootstrap(runs, 0, generator=torch.Generator())


@pytest.fixture(scope="module")
def tokens():
    """A text that repeats itself: what follows is known after a few characters."""
    return (torch.arange(40 * BATCH * (CONTEXT + 1)) % 7).view(-1, CONTEXT + 1)


def test_a_run_learns_counts_and_repeats_itself(tokens):
    state = torch.get_rng_state()
    run = train_run(8, 40, seed=0, train=tokens, held_out=tokens[:20])
    assert torch.equal(torch.get_rng_state(), state)
    assert run.n_tokens == 40 * BATCH * CONTEXT
    embedding, layer = 69 * 8, 3 * 8 * 8 + 8 * 8 + 2 * 4 * 8 * 8
    assert run.n_parameters >= embedding + 2 * layer
    assert run.loss < math.log(69) / 4
    assert run == train_run(8, 40, seed=0, train=tokens, held_out=tokens[:20])
    assert run.loss != train_run(8, 40, seed=1, train=tokens, held_out=tokens[:20]).loss


def test_more_steps_than_windows_are_refused(tokens):
    with pytest.raises(ValueError, match="n_steps"):
        train_run(8, 41, seed=0, train=tokens, held_out=tokens)


def test_windows_share_no_play_and_no_character():
    train, held_out = scaling.windows("train"), scaling.windows("validation")
    assert train.shape[1] == held_out.shape[1] == CONTEXT + 1
    assert len(held_out) == 500
    assert torch.equal(train, scaling.windows("train"))
    rows = {tuple(row) for row in train.tolist()}
    assert not any(tuple(row) in rows for row in held_out.tolist())
