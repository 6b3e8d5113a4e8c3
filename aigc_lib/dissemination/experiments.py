"""A/B tests: is B better than A, how sure is that, how many are needed, and what looking too early does to it.

Every function works on arrays of experiments at once, so that its error rates can be measured by repeating it.
Differences are B − A.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special


class Comparison(NamedTuple):
    """Outcome of a two-sided test; every entry has the shape of the experiments."""

    difference: NDArray  # B − A
    low: NDArray  # confidence interval of the difference
    high: NDArray
    p_value: NDArray


def compare_proportions(
    successes_a: Any, n_a: Any, successes_b: Any, n_b: Any, *, confidence: float = 0.95
) -> Comparison:
    """Two-proportion z test (pooled, without continuity correction), and Newcombe's interval of p_b − p_a.

    The squared z is Pearson's χ² of the 2×2 table. The interval joins the Wilson intervals of both proportions
    (Newcombe 1998, Statistics in Medicine 17, 873–890, method 10); unlike p̂ ± z · error it is sound near 0 and 1.

    Args:
        successes_a, n_a, successes_b, n_b: whole numbers, 0 ≤ successes ≤ n, n ≥ 1; shapes that broadcast. Each unit
            (a user, say) counts once: several impressions of one user are not independent.
        confidence: of the interval, in (0, 1).

    Raises:
        ValueError: counts or confidence out of range.
    """
    k_a, n_a, k_b, n_b = (np.asarray(x, dtype=float) for x in (successes_a, n_a, successes_b, n_b))
    for k, n in ((k_a, n_a), (k_b, n_b)):
        if not ((n >= 1) & (k >= 0) & (k <= n) & (k % 1 == 0) & (n % 1 == 0)).all():
            raise ValueError(f"expected whole counts with 0 ≤ successes ≤ n and n ≥ 1, got {k} of {n}")
    z = -special.ndtri((1 - _in_unit("confidence", confidence)) / 2)
    a, b, pooled = k_a / n_a, k_b / n_b, (k_a + k_b) / (n_a + n_b)
    error = np.sqrt(pooled * (1 - pooled) * (1 / n_a + 1 / n_b))
    with np.errstate(invalid="ignore"):
        score = np.where(error > 0, np.abs(b - a) / error, 0.0)  # nobody or everybody in both: no difference
    (low_a, high_a), (low_b, high_b) = _wilson(k_a, n_a, z), _wilson(k_b, n_b, z)
    below, above = np.hypot(b - low_b, high_a - a), np.hypot(high_b - b, a - low_a)
    return Comparison(b - a, b - a - below, b - a + above, 2 * special.ndtr(-score))


def compare_means(a: Any, b: Any, *, confidence: float = 0.95) -> Comparison:
    """Welch's t test (1947, Biometrika 34): means of two samples whose variances may differ, such as watch times.

    Args:
        a, b: (…, N) and (…, M), N and M ≥ 2, along the last axis one number for each unit.
        confidence: of the interval, in (0, 1).

    Raises:
        ValueError: fewer than two units, values that are not finite, two samples without any variance, or
            confidence out of range.
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if min(a.ndim, b.ndim) < 1 or min(a.shape[-1], b.shape[-1]) < 2:
        raise ValueError(f"expected at least 2 units in each group, got shapes {a.shape} and {b.shape}")
    v_a, v_b = a.var(axis=-1, ddof=1) / a.shape[-1], b.var(axis=-1, ddof=1) / b.shape[-1]
    if not (np.isfinite(v_a + v_b) & (v_a + v_b > 0)).all():
        raise ValueError("expected finite values that vary in at least one group: there is no standard error")
    error = np.sqrt(v_a + v_b)
    freedom = (v_a + v_b) ** 2 / (v_a**2 / (a.shape[-1] - 1) + v_b**2 / (b.shape[-1] - 1))  # Welch–Satterthwaite
    difference = b.mean(axis=-1) - a.mean(axis=-1)
    reach = -special.stdtrit(freedom, (1 - _in_unit("confidence", confidence)) / 2) * error
    p_value = 2 * special.stdtr(freedom, -np.abs(difference) / error)
    return Comparison(difference, difference - reach, difference + reach, p_value)


def size_for_proportions(p_a: float, p_b: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Units in each group so that the two-sided z test tells p_b from p_a with this probability.

        n = (z_{1−α/2} √(2 p̄ (1 − p̄)) + z_power √(p_a (1 − p_a) + p_b (1 − p_b)))² / (p_b − p_a)²

    Fleiss, Levin and Paik (2003), "Statistical Methods for Rates and Proportions", with p̄ the mean of both and
    without continuity correction: what R's power.prop.test solves. Rounded up.

    Raises:
        ValueError: a proportion, alpha or power is not in (0, 1), or p_a = p_b.
    """
    p_a, p_b = _in_unit("p_a", p_a), _in_unit("p_b", p_b)
    if p_a == p_b:
        raise ValueError(f"no number of units shows a difference that is not there: p_a = p_b = {p_a}")
    mean, z_alpha, z_power = (p_a + p_b) / 2, *_quantiles(alpha, power)
    root = z_alpha * np.sqrt(2 * mean * (1 - mean)) + z_power * np.sqrt(p_a * (1 - p_a) + p_b * (1 - p_b))
    return int(np.ceil((root / (p_b - p_a)) ** 2))


def size_for_means(difference: float, sd_a: float, sd_b: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Units in each group so that the two-sided test of means finds `difference` with this probability.

    n = (z_{1−α/2} + z_power)² (sd_a² + sd_b²) / difference², of large samples. Rounded up.

    Raises:
        ValueError: no difference, a standard deviation that is not positive, or alpha or power not in (0, 1).
    """
    if not difference or not min(sd_a, sd_b) > 0:
        raise ValueError(f"expected a difference and positive deviations, got {difference}, {sd_a} and {sd_b}")
    return int(np.ceil(sum(_quantiles(alpha, power)) ** 2 * (sd_a**2 + sd_b**2) / difference**2))


def chance_of_false_alarm(n_looks: int, boundary: float) -> float:
    """P(|z| > boundary at one look or more) without any difference, after each of `n_looks` equal parts of the data.

    The sum of the data so far walks with Gaussian steps; its density on |sum| ≤ boundary · √k is carried from look to
    look by Gauss–Legendre quadrature, as Armitage, McPherson and Rowe (1969, J. R. Stat. Soc. A 132, 235–244) did.

    Raises:
        ValueError: n_looks < 1 or boundary ≤ 0.
    """
    if n_looks < 1 or not 0 < boundary < np.inf:
        raise ValueError(f"expected at least 1 look and a positive boundary, got {n_looks} and {boundary}")
    nodes, weights = np.polynomial.legendre.leggauss(40 + 4 * int(boundary * np.sqrt(n_looks)))
    sums, mass = np.zeros(1), np.ones(1)  # of the walks without an alarm so far
    for look in range(1, n_looks + 1):
        reach = boundary * np.sqrt(look)
        step = np.exp(-((reach * nodes[:, None] - sums) ** 2) / 2) / np.sqrt(2 * np.pi)
        sums, mass = reach * nodes, reach * weights * (step @ mass)
    return float(1 - mass.sum())


def boundary_of_looks(n_looks: int, *, alpha: float = 0.05) -> float:
    """The same bound for |z| at every look that keeps the chance of a false alarm at `alpha` (Pocock 1977, Biometrika
    64, 191–199). The number of looks has to be fixed beforehand; Johari, Pekelis and Walsh (2015, arXiv:1512.04922)
    need not even that.

    Raises:
        ValueError: n_looks < 1 or alpha not in (0, 1).
    """
    once = -special.ndtri(_in_unit("alpha", alpha) / 2)
    each = -special.ndtri(alpha / n_looks / 2) if n_looks >= 1 else once  # Bonferroni is always enough
    return optimize.brentq(lambda z: chance_of_false_alarm(n_looks, z) - alpha, once - 1e-9, each + 1e-9)


def _wilson(k: NDArray, n: NDArray, z: float) -> tuple[NDArray, NDArray]:
    """Wilson's (1927) score interval of a proportion."""
    centre = (k + z**2 / 2) / (n + z**2)
    reach = z * np.sqrt(k * (n - k) / n + z**2 / 4) / (n + z**2)
    return centre - reach, centre + reach


def _quantiles(alpha: float, power: float) -> tuple[float, float]:
    return -special.ndtri(_in_unit("alpha", alpha) / 2), special.ndtri(_in_unit("power", power))


def _in_unit(name: str, value: float) -> float:
    if not 0 < value < 1:
        raise ValueError(f"{name} has to lie between 0 and 1, got {value}")
    return value
