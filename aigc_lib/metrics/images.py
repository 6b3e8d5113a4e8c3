"""How good generated images are: Fréchet distance, precision and recall, modes covered, memorisation, path length.

All of them compare *features* (N, D): rows from `features(network, images)`, or flattened pixels. A number means
something only beside the network's name and the number of images. Everything is computed in float64 on the CPU.

References
    Heusel et al. 2017, arXiv:1706.08500 (Fréchet distance between feature distributions)
    Kynkäänniemi et al. 2019, arXiv:1904.06991 (improved precision and recall)
    Meehan et al. 2020, arXiv:2004.05675 (a test for data copying)
    Karras et al. 2019, arXiv:1812.04948 (perceptual path length)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from scipy.stats import mannwhitneyu
from torch import Tensor, nn

from aigc_lib.metrics.features import check_images, feature_network, features

__all__ = [
    "MemorisationTest",
    "ModeCoverage",
    "PrecisionRecall",
    "check_images",
    "feature_network",
    "features",
    "frechet_distance",
    "frechet_distance_of",
    "memorisation_test",
    "modes_covered",
    "moments",
    "perceptual_path_length",
    "precision_recall",
]

_CHUNK = 500  # rows of a distance matrix at once: 500 × 10,000 in float64 are 40 MB


def _rows(values: Tensor, name: str, *, at_least: int = 1) -> Tensor:
    """`values` as finite float64 rows (N, D) on the CPU; ValueError says what is wrong with them."""
    if not isinstance(values, Tensor) or values.dim() < 2 or values[:1].numel() == 0:
        got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"expected {name} as a tensor (N, D) with N >= {at_least} rows, got {got}")
    if len(values) < at_least:
        raise ValueError(f"expected at least {at_least} rows of {name}, got {len(values)}")
    rows = values.detach().flatten(1).to("cpu", torch.float64)
    if not rows.isfinite().all():
        raise ValueError(f"{name} hold NaN or infinity in {int((~rows.isfinite()).any(1).sum())} of {len(rows)} rows")
    return rows


def _same_width(first: Tensor, second: Tensor, names: str) -> None:
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"{names} must have one size D, got {first.shape[1]} and {second.shape[1]}")


# --- Fréchet distance ------------------------------------------------------------------------------------------------


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and unbiased covariance (D, D) of features (N, D) with N >= 2, in float64."""
    rows = _rows(features, "features", at_least=2)
    return rows.mean(0), rows.T.cov().reshape(rows.shape[1], rows.shape[1])


def _square_root(covariance: Tensor, name: str) -> Tensor:
    """The symmetric square root of a positive semi-definite matrix."""
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    if eigenvalues[0] < -1e-5 * eigenvalues[-1].abs():  # more than the rounding of a float32 covariance
        raise ValueError(f"{name} must be positive semi-definite, got the eigenvalue {eigenvalues[0]:.3g}")
    return (vectors * eigenvalues.clamp(min=0).sqrt()) @ vectors.T


def frechet_distance(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> float:
    """Fréchet distance of two Gaussians, squared as in Heusel et al. (2017, eq. 6).

        |mean1 - mean2|² + tr(cov1 + cov2 - 2 (cov1 cov2)^½)

    The product of two covariances is not symmetric. Its root has the trace of (√cov1 cov2 √cov1)^½, the square roots
    of that symmetric matrix's eigenvalues, which are the singular values of √cov1 √cov2: no general matrix root is
    needed, and nothing turns complex when a covariance is singular.

    Args:
        mean1, mean2: (D,).
        cov1, cov2: (D, D), symmetric and positive semi-definite.

    Returns:
        The distance, at least 0, in squared units of the features.

    Raises:
        ValueError: shapes that do not fit, NaN, or a covariance that is not symmetric positive semi-definite.
    """
    mean1, cov1, mean2, cov2 = (torch.as_tensor(x).to("cpu", torch.float64) for x in (mean1, cov1, mean2, cov2))
    size = len(mean1) if mean1.dim() == 1 else 0
    shapes = [tuple(x.shape) for x in (mean1, cov1, mean2, cov2)]
    if size == 0 or shapes != [(size,), (size, size)] * 2:
        raise ValueError(f"expected means (D,) and covariances (D, D) of one size D, got {shapes}")
    if not all(x.isfinite().all() for x in (mean1, cov1, mean2, cov2)):
        raise ValueError("means and covariances must be finite; check the features for NaN")
    for name, covariance in (("cov1", cov1), ("cov2", cov2)):
        if (covariance - covariance.T).abs().max() > 1e-5 * covariance.abs().max():
            raise ValueError(f"{name} must be symmetric")
    cross = torch.linalg.svdvals(_square_root(cov1, "cov1") @ _square_root(cov2, "cov2")).sum()
    distance = (mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * cross
    return max(0.0, distance.item())  # rounding may leave -1e-10


def frechet_distance_of(features_a: Tensor, features_b: Tensor) -> float:
    """Fréchet distance of Gaussians fitted to two sets of features, (N, D) and (M, D).

    Fitting makes it too large by an amount that grows with D and falls with N: compare only numbers from equally many
    images, and give the value for real against real beside it.

    Raises:
        ValueError: fewer than 2 rows, NaN, or different D.
    """
    moments_a, moments_b = moments(features_a), moments(features_b)
    return frechet_distance(*moments_a, *moments_b)


# --- precision and recall --------------------------------------------------------------------------------------------


def _squared_distances(first: Tensor, second: Tensor) -> Tensor:
    """Squared Euclidean distances (N, M) by one matrix product; what is zero but for rounding is zero."""
    sizes = first.square().sum(1)[:, None] + second.square().sum(1)
    squares = torch.addmm(sizes, first, second.T, alpha=-2)
    return squares.masked_fill_(squares < 1e-13 * sizes, 0.0)


def _squared_radii(rows: Tensor, k: int) -> Tensor:
    """Squared distance (N,) from each row to its k-th nearest other row."""
    radii = []
    for start in range(0, len(rows), _CHUNK):
        squares = _squared_distances(rows[start : start + _CHUNK], rows)
        squares[torch.arange(len(squares)), start + torch.arange(len(squares))] = 0.0  # a row is its own neighbour 0
        radii.append(squares.topk(k + 1, largest=False).values[:, -1])
    return torch.cat(radii)


def _share_inside(rows: Tensor, manifold: Tensor, squared_radii: Tensor) -> float:
    """Share of `rows` that lie in at least one ball around a row of `manifold`."""
    inside = [(_squared_distances(chunk, manifold) <= squared_radii).any(1) for chunk in rows.split(_CHUNK)]
    return torch.cat(inside).double().mean().item()


class PrecisionRecall(NamedTuple):
    """Both from 0 to 1. Precision falls with bad images, recall with missing ones."""

    precision: float
    recall: float


def precision_recall(real_features: Tensor, fake_features: Tensor, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall (Kynkäänniemi et al. 2019, eq. 1–3).

    The manifold of a set is the union of balls around its members, each reaching its k-th nearest other member.
    Precision is the share of generated images on the real manifold, recall the share of real images on the generated
    one. Equal distributions do not score 1: give the value for real against real beside the result, and compare only
    numbers from equally many images and the same k.

    Args:
        real_features, fake_features: (N, D) and (M, D), each with more than k rows.

    Raises:
        ValueError: k < 1, too few rows for k, NaN, or different D.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    real = _rows(real_features, "real features", at_least=k + 1)
    fake = _rows(fake_features, "fake features", at_least=k + 1)
    _same_width(real, fake, "real and fake features")
    return PrecisionRecall(
        precision=_share_inside(fake, real, _squared_radii(real, k)),
        recall=_share_inside(real, fake, _squared_radii(fake, k)),
    )


# --- modes -----------------------------------------------------------------------------------------------------------


class ModeCoverage(NamedTuple):
    """How many of the modes got their share, and how the samples fall over them."""

    covered: int
    histogram: Tensor  # (n_classes,) shares, sum 1


def modes_covered(labels: Tensor, n_classes: int, minimum: float | None = None) -> ModeCoverage:
    """Count the modes (classes) that hold at least the share `minimum` of the samples.

    Args:
        labels: (N,) integers in [0, n_classes), such as a classifier's verdict on generated images.
        minimum: smallest share that counts, in (0, 1/n_classes]; by default a fifth of the fair share, 1/(5 n_classes).

    Raises:
        ValueError: no labels, labels that are not integers in range, a minimum out of range.
    """
    minimum = 1 / (5 * n_classes) if minimum is None else minimum
    if not 0 < minimum <= 1 / n_classes:
        raise ValueError(f"minimum must be in (0, 1/{n_classes}], got {minimum}")
    if labels.dim() != 1 or len(labels) == 0 or labels.is_floating_point():
        raise ValueError(f"expected labels as integers (N,) with N >= 1, got {labels.dtype} {tuple(labels.shape)}")
    if labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(f"labels must be in [0, {n_classes}), got {int(labels.min())} to {int(labels.max())}")
    histogram = torch.bincount(labels.cpu(), minlength=n_classes).double() / len(labels)
    return ModeCoverage(int((histogram >= minimum).sum()), histogram)


# --- memorisation ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class MemorisationTest:
    """Which samples are too close to a training image, and whether the sample as a whole is.

    Args:
        memorised: (N,) bool, relative distance below `threshold`.
        nearest: (N,) index of the training image nearest to each generated one.
        distances: (N,) Euclidean distance to it.
        relative: (N,) the same, divided by that training image's own distance to its nearest different fellow.
        held_out_relative: (M,) relative distances of images that training never saw: what closeness is natural.
        threshold: the order statistic of `held_out_relative` that keeps the false positive rate.
        z: Mann–Whitney statistic of `relative` against `held_out_relative` in standard deviations. About 0 when
            generated images are as far from the training set as fresh ones; below -3 the generator copies; above 3 its
            images are farther from the training set than real ones (underfitting).
        p_value: probability of a z this low if nothing is copied.
    """

    memorised: Tensor
    nearest: Tensor
    distances: Tensor
    relative: Tensor
    held_out_relative: Tensor
    threshold: float
    z: float
    p_value: float

    @property
    def n_memorised(self) -> int:
        return int(self.memorised.sum())


def _nearest(rows: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    """Distance to, and index of, the nearest row of `train` for each row: (N,) and (N,)."""
    index = torch.cat([_squared_distances(chunk, train).argmin(1) for chunk in rows.split(_CHUNK)])
    return torch.linalg.vector_norm(rows - train[index], dim=1), index


def _spacing(train: Tensor) -> Tensor:
    """Distance (N,) from each row to the nearest row that differs from it."""
    squares = [_squared_distances(chunk, train) for chunk in train.split(_CHUNK)]
    spacing = torch.cat([s.masked_fill_(s == 0, torch.inf).amin(1) for s in squares]).sqrt()
    if spacing.isinf().any():
        raise ValueError("train must hold at least two different images")
    return spacing


def memorisation_test(
    fake: Tensor, train: Tensor, held_out: Tensor, *, false_positive_rate: float = 0.001
) -> MemorisationTest:
    """Are generated images closer to the training set than images that training never saw?

    Closeness is relative: the distance to the nearest training image, over the distance from that image to its own
    nearest fellow. Plain distances miss most copies, because a fresh simple image (a stroke, a 1) is closer to its
    neighbour than a slightly turned copy of an intricate one is to its original.

    A sample counts as memorised when its relative distance is below the r-th smallest of the M held-out images,
    r = floor(false_positive_rate · (M + 1)), but at least 1. A fresh sample of the same distribution is flagged with
    probability r / (M + 1), because all ranks are equally likely: with the default and M = 1,000 that is one in 1,001.
    The sample as a whole is judged as Meehan et al. (2020) do, by a Mann–Whitney test against the held-out images,
    relative distances taking the place of their cells. Run both on pixels and on features.

    Args:
        fake, train, held_out: images (N, C, H, W) or features (N, D), all of one size. Held-out images must come
            from the distribution of the training images and share none with them.
        false_positive_rate: in (0, 1).

    Raises:
        ValueError: empty, NaN, different sizes, a rate out of range, no two different training images, or held-out
            images that are copies of training images.
    """
    if not 0 < false_positive_rate < 1:
        raise ValueError(f"false_positive_rate must be in (0, 1), got {false_positive_rate}")
    fake, train, held_out = (_rows(x, n) for x, n in ((fake, "fake"), (train, "train"), (held_out, "held_out")))
    _same_width(fake, train, "fake and train")
    _same_width(held_out, train, "held_out and train")
    spacing = _spacing(train)
    distances, nearest = _nearest(fake, train)
    held_out_distances, held_out_nearest = _nearest(held_out, train)
    relative, held_out_relative = distances / spacing[nearest], held_out_distances / spacing[held_out_nearest]
    rank = max(1, int(false_positive_rate * (len(held_out) + 1)))
    threshold = held_out_relative.kthvalue(rank).values.item()
    if threshold == 0:
        raise ValueError(f"{int((held_out_distances == 0).sum())} held-out images are copies of training images")
    # The normal approximation with the tie correction; an exact distribution would take minutes and change nothing.
    u, p_value = mannwhitneyu(relative, held_out_relative, alternative="less", method="asymptotic")
    n, m = len(fake), len(held_out)
    return MemorisationTest(
        memorised=relative < threshold,
        nearest=nearest,
        distances=distances,
        relative=relative,
        held_out_relative=held_out_relative,
        threshold=threshold,
        z=float((u - n * m / 2) / (n * m * (n + m + 1) / 12) ** 0.5),
        p_value=float(p_value),
    )


# --- perceptual path length ------------------------------------------------------------------------------------------


@torch.no_grad()
def perceptual_path_length(
    render: Callable[[Tensor], Tensor],
    first: Tensor,
    second: Tensor,
    *,
    network: str | nn.Module,
    between: Callable[[Tensor, Tensor, Tensor], Tensor] = torch.lerp,
    step: float = 1e-3,
    generator: torch.Generator,
) -> Tensor:
    """How fast images change along paths through the latent space, (N,): ‖φ(g(t + ε)) − φ(g(t))‖² / ε² at random t.

    Karras et al. (2019, section 4.1) with the squared distance of features φ instead of LPIPS. As ε falls it tends to
    ‖∂φ(g)/∂t‖²; the default is small enough for that and large enough for float32. Few paths hold much of the mean.

    Args:
        render: points (B, …) → images (B, C, H, W) in [-1, 1], always from the same noise.
        first, second: (N, …), the ends of the paths.
        network: as for `features`.
        between: the point at t (N, 1, …) on the paths: `torch.lerp`, or `slerp` for points that are normal noise.
        step: ε.

    Raises:
        ValueError: ends of different shapes.
    """
    if first.shape != second.shape or first.ndim < 2:
        raise ValueError(f"expected ends of one shape (N, …), got {tuple(first.shape)} and {tuple(second.shape)}")
    t = torch.rand(len(first), generator=generator).view(-1, *[1] * (first.ndim - 1)).to(first) * (1 - step)
    here, there = (features(network, render(between(first, second, time)).clamp(-1, 1)) for time in (t, t + step))
    return (there - here).square().sum(dim=1) / step**2
