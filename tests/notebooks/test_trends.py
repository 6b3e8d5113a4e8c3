"""The mathematics of sections 8.0 to 8.3, tested apart from the cells that show it."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from scipy.special import digamma

from aigc_lib.paths import data_dir
from aigc_lib.training.scaling import BATCH, CONTEXT, Run, fit
from tests.notebooks.rules import ROOT, Chapter

BETAS = np.linspace(0.002, 0.2, 50)
KEPT = np.cumprod(1 - BETAS)


def test_385_people_a_group_see_ten_points_with_a_chance_of_80_percent():
    n = np.arange(386)
    either = stats.binom.pmf(n, 385, 0.6)[:, None] * stats.binom.pmf(n, 385, 0.5)
    p, q = n[:, None] / 385, n / 385
    error = np.sqrt((p * (1 - p) + q * (1 - q)) / 385)
    seen = np.divide(abs(p - q), error, out=np.zeros_like(error), where=error > 0) > stats.norm.ppf(0.975)
    assert (either * seen).sum() == pytest.approx(0.8, abs=0.01)  # all 148,996 outcomes, no normal approximation


@pytest.mark.parametrize("t", [2, 20, 50])
def test_the_step_back_is_what_the_joint_gaussian_says(t):
    before, here = KEPT[t - 2], KEPT[t - 1]
    shared = math.sqrt(1 - BETAS[t - 1]) * (1 - before)  # covariance of z_{t−1} and z_t, given x
    variance = 1 - before - shared**2 / (1 - here)
    assert variance == pytest.approx((1 - before) / (1 - here) * BETAS[t - 1])
    weight_of_x = math.sqrt(before) - shared / (1 - here) * math.sqrt(here)
    assert weight_of_x == pytest.approx(math.sqrt(before) * BETAS[t - 1] / (1 - here))
    ratios = before / (1 - before) - here / (1 - here)
    assert weight_of_x**2 / (2 * variance) == pytest.approx(ratios / 2)  # (8.1-3)


def test_the_weighted_errors_add_up_to_the_likelihood():
    s, snr = 0.5, np.geomspace(1e4, 1e-4, 200_001)
    information = integrate.trapezoid(s**2 / (1 + s**2 * snr[::-1]), snr[::-1]) / 2
    assert information == pytest.approx(0.5 * math.log((1 + s**2 * 1e4) / (1 + s**2 * 1e-4)), abs=1e-4)


def test_the_expected_noise_is_the_score_scaled():
    kept, step = 0.6, 1e-5
    q = stats.norm(np.sqrt(kept) * np.array([-1, 1]), np.sqrt(1 - kept))

    def log_q(z):
        return math.log(np.dot([0.3, 0.7], q.pdf(z)))

    for z in (-1.2, 0.1, 0.9):
        weights = np.array([0.3, 0.7]) * q.pdf(z)
        noise = (z - math.sqrt(kept) * np.array([-1, 1])) / math.sqrt(1 - kept)
        score = (log_q(z + step) - log_q(z - step)) / (2 * step)
        assert weights @ noise / weights.sum() == pytest.approx(-math.sqrt(1 - kept) * score, abs=1e-6)


def test_the_deterministic_path_solves_its_equation():
    s, beta = 0.3, 4.0

    def variance(t):
        return 1 + (s**2 - 1) * math.exp(-beta * t)

    path = integrate.solve_ivp(lambda t, z: -beta / 2 * (z - z / variance(t)), (0, 1), [0.7], rtol=1e-10, atol=1e-12)
    assert path.y[0, -1] == pytest.approx(0.7 * math.sqrt(variance(1)) / s, rel=1e-7)


def test_the_velocity_of_gaussians_is_the_regression():
    rng, t, mean, width = np.random.default_rng(0), 0.3, 2.0, 1.5
    noise, data = rng.normal(size=400_000), mean + width * rng.normal(size=400_000)
    slope, level = np.polyfit((1 - t) * noise + t * data, data - noise, 1)
    variance = (1 - t) ** 2 + t**2 * width**2
    expected = (t * width**2 - (1 - t)) / variance
    assert slope == pytest.approx(expected, abs=4 * math.sqrt(width**2 / variance / variance / 400_000))
    assert level == pytest.approx(mean - expected * t * mean, abs=0.02)


def test_guided_paths_with_no_guidance_end_in_the_class_and_with_guidance_beyond_the_sharpened_density():
    def end_of_median(w):
        def velocity(t, x):
            var = (1 - t) ** 2 + (0.8 * t) ** 2
            u = np.array([c + (0.64 * t - (1 - t)) / var * (x[0] - t * c) for c in (-1, 1)])
            right = 1 / (1 + math.exp(-2 * t * x[0] / var))
            return [(1 + w) * u[1] - w * ((1 - right) * u[0] + right * u[1])]

        return integrate.solve_ivp(velocity, (0, 1), [0.0], rtol=1e-9).y[0, -1]

    x = np.linspace(-6, 8, 20_001)
    sharpened = stats.norm.pdf(x, 1, 0.8) ** 3 / (stats.norm.pdf(x, 1, 0.8) + stats.norm.pdf(x, -1, 0.8)) ** 2
    median = np.interp(0.5, np.cumsum(sharpened) / sharpened.sum(), x)
    assert end_of_median(0) == pytest.approx(1, abs=1e-6)
    assert end_of_median(2) > median + 0.4


def test_one_generation_multiplies_the_variance_by_chi_square_over_n():
    samples = np.random.default_rng(0).normal(size=(40_000, 10))
    estimates = samples.var(axis=1)
    assert stats.kstest(10 * estimates, stats.chi2(9).cdf).pvalue > 1e-4
    drift = digamma(4.5) + math.log(2 / 10)
    assert np.log(estimates).mean() == pytest.approx(drift, abs=4 * np.log(estimates).std() / 200)


def test_the_fixed_point_of_mixing_holds_for_chains_that_draw_every_sample():
    rng, own, real = np.random.default_rng(0), 8, 4
    mean, variance, seen = np.zeros(20_000), np.ones(20_000), []
    for generation in range(60):
        draws = mean[:, None] + np.sqrt(variance)[:, None] * rng.normal(size=(20_000, own))
        draws = np.concatenate([draws, rng.normal(size=(20_000, real))], axis=1)
        mean, variance = draws.mean(axis=1), draws.var(axis=1)
        if generation >= 30:
            seen.append(variance.mean())
    r, total = own / (own + real), own + real
    kappa = 1 - 1 / (total * (1 + r))
    assert np.mean(seen) == pytest.approx(kappa * (1 - r) / (1 - kappa * r), abs=0.005)


def test_keeping_all_data_multiplies_by_one_less_a_square():
    rng, n = np.random.default_rng(1), 6
    kept = rng.normal(size=(30_000, n))
    for _ in range(7):
        fresh = kept.mean(axis=1, keepdims=True) + kept.std(axis=1, keepdims=True) * rng.normal(size=(30_000, n))
        kept = np.concatenate([kept, fresh], axis=1)
    expected = np.prod(1 - 1 / (n * np.arange(1, 9) ** 2.0))
    variance = kept.var(axis=1)
    assert variance.mean() == pytest.approx(expected, abs=4 * variance.std() / math.sqrt(30_000))


def test_the_volume_of_a_fitted_gaussian_shrinks_by_the_wishart_formula():
    draws = torch.randn(4000, 20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    centred = draws - draws.mean(dim=1, keepdim=True)
    volume = torch.logdet(centred.mT @ centred / 20)
    expected = sum(digamma((20 - i) / 2) + math.log(2 / 20) for i in range(1, 4))
    assert volume.mean() == pytest.approx(expected, abs=4 * volume.std().item() / math.sqrt(4000))


def test_sorting_by_click_rate_is_the_best_order():
    rng = np.random.default_rng(0)
    rates, looks = rng.random(5), np.sort(rng.random(5))[::-1]
    assert (looks * np.sort(rates)[::-1]).sum() >= max((looks * rng.permutation(rates)).sum() for _ in range(2000))


def test_the_stored_sweep_is_whole_and_its_losses_are_plausible():
    stored = json.loads((data_dir() / "scaling.json").read_text(encoding="utf-8"))
    assert (ROOT / stored["command"].split()[1]).is_file()
    assert {"torch", "aigc-lib", "python"} <= set(stored["versions"])
    for run in stored["runs"]:
        assert run["n_tokens"] == run["n_steps"] * BATCH * CONTEXT
        assert 1 < run["loss"] < math.log(69)
    of_width = {run["width"]: run["n_parameters"] for run in stored["runs"]}
    assert sorted(of_width.values()) == [of_width[width] for width in sorted(of_width)]
    law = fit([Run(r["n_parameters"], r["n_tokens"], r["loss"]) for r in stored["runs"] if r["n_steps"] >= 240])
    assert 1.4 < law.E < min(run["loss"] for run in stored["runs"])


def test_the_chapter_labels_the_opinion_and_tests_what_can_be_tested():
    cells = {cell.id: cell for cell in Chapter(ROOT / "notebooks" / "08_trends.ipynb").cells}
    assert "opinion" in cells["trends-opinion-text"].source
    assert "n_people" in cells["trends-opinion-check"].source
