"""Quality control: distances between distributions that say how sure they are, and an audit of groups.

It stands on `metrics.images`: Fréchet distance, precision and recall, memorisation. Here is what those leave open.

- `frechet_bias`, `frechet_limit`: how much too large a Fréchet distance from n samples is, and what remains without.
- `kernel_distance`: an unbiased rival. `density_coverage`: precision and recall that one outlier does not spoil.
- `audit_groups`: which group of the asked fares worse or better than the rest, at a stated rate of false alarms.

Single broken outputs are found by `trust.inspection`.

References
    Chong & Forsyth 2020, arXiv:1911.07023 (the bias of the Fréchet distance, extrapolation to n → ∞)
    Bińkowski et al. 2018, arXiv:1801.01401 (kernel distance with a cubic kernel, its unbiased estimate)
    Naeem et al. 2020, arXiv:2002.09797 (density and coverage)
    Wilson 1927, Journal of the American Statistical Association 22 (interval of a share)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from aigc_lib.metrics.images import frechet_distance_of

# --- distances -------------------------------------------------------------------------------------------------------


def frechet_bias(cov1: Tensor, cov2: Tensor, n: int, m: int) -> float:
    """Mean excess of the Fréchet distance of fitted Gaussians over the true one, to first order in 1/n and 1/m.

    tr Σ₁/n + tr Σ₂/m + ½ (1/(n − 1) + 1/(m − 1)) Σ_ij (1 + δ_ij) s_i s_j / (s_i + s_j), where the s_i are the square
    roots of the eigenvalues of Σ₁Σ₂: derived in chapter 8 for samples that are normal themselves. For two standard
    normal distributions and m = n it is about D (D + 5) / (2n).

    Args:
        cov1, cov2: (D, D), the true covariances, positive semi-definite.
        n, m: numbers of samples, at least 2 and well above D: below, the expansion does not hold.

    Raises:
        ValueError: shapes that differ, fewer than 2 samples.
    """
    if cov1.ndim != 2 or cov1.shape != cov2.shape or cov1.shape[0] != cov1.shape[1] or min(n, m) < 2:
        raise ValueError(
            f"expected covariances (D, D) and n, m ≥ 2, got {tuple(cov1.shape)}, {tuple(cov2.shape)}, {n}, {m}"
        )
    cov1, cov2 = cov1.double(), cov2.double()
    s = torch.linalg.eigvals(cov1 @ cov2).real.clamp(min=0).sqrt()
    pairs = s[:, None] * s / (s[:, None] + s).clamp(min=torch.finfo(s.dtype).tiny)
    spread = (pairs.sum() + pairs.trace()) / 2
    return (cov1.trace() / n + cov2.trace() / m + spread * (1 / (n - 1) + 1 / (m - 1))).item()


class FrechetLimit(NamedTuple):
    """A line fitted to Fréchet distances over 1/n: its height at 1/n = 0, its slope, and its points."""

    limit: float
    slope: float
    sizes: Tensor  # (K,) int64
    distances: Tensor  # (K,) float64


def frechet_limit(real: Tensor, fake: Tensor, *, n_parts: int = 4, generator: torch.Generator) -> FrechetLimit:
    """Fréchet distance for infinitely many samples, extrapolated (Chong & Forsyth 2020, section 4).

    Differs from the paper: *both* sets are cut, so that the biases of both go; and for each k up to `n_parts` they are
    cut into k parts without overlap, whose mean distance has the bias of n = N/k samples and uses all N.

    Args:
        real, fake: (N, D) and (M, D), shuffled here; of the larger one only as many rows as the other has are used.
        n_parts: K, at least 2; N / K should still be well above D.

    Raises:
        ValueError: n_parts < 2, fewer than two rows a part, or as `frechet_distance_of`.
    """
    largest = min(len(real), len(fake))
    if n_parts < 2 or largest < 2 * n_parts:
        raise ValueError(f"expected n_parts ≥ 2 and two rows a part, got {n_parts} and {largest} rows")
    real, fake = (rows[torch.randperm(len(rows), generator=generator)[:largest]] for rows in (real, fake))
    parts = torch.arange(1, n_parts + 1)
    sizes = largest // parts
    distances = torch.tensor(
        [
            sum(frechet_distance_of(real[i * n : (i + 1) * n], fake[i * n : (i + 1) * n]) for i in range(k)) / k
            for k, n in zip(parts.tolist(), sizes.tolist(), strict=True)
        ],
        dtype=torch.float64,
    )
    # The variance of a distance that is mostly bias goes like 1/n² = k²/N², and that of the mean of k like k/N².
    slope, limit = np.polyfit(1 / sizes.numpy(), distances.numpy(), 1, w=1 / parts.sqrt().numpy())
    return FrechetLimit(float(limit), float(slope), sizes, distances)


def kernel_distance(real: Tensor, fake: Tensor, *, bandwidth: float | None = None) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy; it may be negative.

    Means of k over pairs of different real rows, plus the same of fake ones, less twice the mean over mixed pairs.
    Without a bandwidth k(x, y) = (xᵀy / D + 1)³, the kernel of KID, which compares moments up to the third and nothing
    else; with one k = exp(−|x − y|² / (2 bandwidth²)), which is zero for equal distributions only.

    Args:
        real, fake: (N, D) and (M, D), at least 2 rows each.

    Raises:
        ValueError: not such rows, or a bandwidth ≤ 0.
    """
    real, fake = two_sets(real, fake, at_least=2)
    if bandwidth is not None and not bandwidth > 0:
        raise ValueError(f"bandwidth must be above 0, got {bandwidth}")

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        if bandwidth is None:
            return (x @ y.T / x.shape[1] + 1) ** 3
        return torch.exp(-torch.cdist(x, y).square() / (2 * bandwidth**2))

    def within(x: Tensor) -> Tensor:
        values = kernel(x, x)
        return (values.sum() - values.trace()) / (len(x) * (len(x) - 1))

    return (within(real) + within(fake) - 2 * kernel(real, fake).mean()).item()


class DensityCoverage(NamedTuple):
    """Density is near 1 for equal distributions and may exceed it; coverage is from 0 to 1."""

    density: float
    coverage: float


def density_coverage(real: Tensor, fake: Tensor, k: int = 5) -> DensityCoverage:
    """Density and coverage (Naeem et al. 2020, equations 3 and 4), both from balls around *real* rows alone.

    Density: how many real balls hold a generated row, on average over these, divided by k. Coverage: the share of real
    balls that hold one. An outlier's ball counts once among N, where precision and recall take the union of all balls.

    Args:
        real, fake: (N, D) and (M, D); more than k real rows.

    Raises:
        ValueError: not such rows, or k < 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    real, fake = two_sets(real, fake, at_least=k + 1)
    radii = torch.cdist(real, real).kthvalue(k + 1, dim=1).values  # the nearest row of all is the row itself
    inside = torch.cdist(real, fake) < radii[:, None]  # (N, M)
    return DensityCoverage(inside.sum(0).double().mean().item() / k, inside.any(1).double().mean().item())


def two_sets(real: Tensor, fake: Tensor, *, at_least: int) -> tuple[Tensor, Tensor]:
    """Two sets of features as float64 rows on the CPU; ValueError says what is wrong with them."""
    shapes = f"{tuple(real.shape)} and {tuple(fake.shape)}"
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1] or len(real) < at_least or len(fake) < 2:
        raise ValueError(f"expected rows (N ≥ {at_least}, D) and (M ≥ 2, D), got {shapes}")
    real, fake = real.detach().double().cpu(), fake.detach().double().cpu()
    if not (real.isfinite().all() and fake.isfinite().all()):
        raise ValueError("features must be finite; find the broken items with inspect_images first")
    return real, fake


# --- audit -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class GroupAudit:
    """Shares of successes by group, (G,) each.

    Args:
        shares: successes over trials.
        low, high: Wilson intervals that hold for all groups at once with the stated confidence (Bonferroni).
        p_values: of each group against all others together, Bonferroni-adjusted, at most 1.
        flagged: p_values ≤ 1 − confidence.
        gap: largest share less the smallest one: with success = "got what was asked", that of equal opportunity.
    """

    shares: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p_values: np.ndarray
    flagged: np.ndarray
    gap: float


def audit_groups(successes: Sequence[int], trials: Sequence[int], *, confidence: float = 0.95) -> GroupAudit:
    """Does any group succeed more rarely or more often than the rest?

    Each group is tested against all others by Fisher's exact test (twice the smaller tail of the hypergeometric
    distribution), so that a generator which treats all alike has *any* group flagged with probability at most
    1 − confidence, at every sample size.

    Args:
        successes, trials: (G ≥ 2,) counts, such as items recognised as what was asked, and items made.

    Raises:
        ValueError: counts that are not such, or confidence not in (0, 1).
    """
    x, n = np.asarray(successes), np.asarray(trials)
    if x.ndim != 1 or x.shape != n.shape or len(x) < 2 or not all(np.issubdtype(c.dtype, np.integer) for c in (x, n)):
        raise ValueError(f"expected counts (G ≥ 2,) as integers, got {x.dtype} {x.shape} and {n.dtype} {n.shape}")
    if (n < 1).any() or (x < 0).any() or (x > n).any() or not 0 < confidence < 1:
        raise ValueError(f"expected 0 ≤ successes ≤ trials, trials ≥ 1 and confidence in (0, 1), got {x}, {n}")
    shares = x / n
    z = stats.norm.isf((1 - confidence) / (2 * len(x)))
    middle = (x + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * np.sqrt(n * shares * (1 - shares) + z**2 / 4)
    tails = stats.hypergeom(n.sum(), x.sum(), n)
    p_values = np.minimum(1, 2 * len(x) * np.minimum(tails.cdf(x), tails.sf(x - 1)))
    return GroupAudit(
        shares=shares,
        low=np.clip(middle - half, 0, shares),
        high=np.clip(middle + half, shares, 1),
        p_values=p_values,
        flagged=p_values <= 1 - confidence,
        gap=float(shares.max() - shares.min()),
    )
