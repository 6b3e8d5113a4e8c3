"""Distances, the audit and the filters agree with other libraries, closed forms and brute force."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

from aigc_lib.metrics.images import frechet_distance, frechet_distance_of
from aigc_lib.trust import inspection
from aigc_lib.trust.inspection import (
    Finding,
    findings,
    inspect_audio,
    inspect_copies,
    inspect_images,
    inspect_text,
    inspect_video,
    text_numbers,
)
from aigc_lib.trust.quality import audit_groups, density_coverage, frechet_bias, frechet_limit, kernel_distance

NAN = float("nan")


def numbers(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=numbers(seed), dtype=torch.float64)


def faults(found):
    return {each.fault for each in found}


# Distances -----------------------------------------------------------------------------------------------------------


class Flat(torch.nn.Module):
    """Lets torchmetrics measure given features."""

    num_features = 5

    def forward(self, x):
        return x.flatten(1)[:, :5]


def test_the_frechet_distance_of_given_features_is_that_of_torchmetrics():
    real, fake = normal(60, 3, 2, 2), 1.3 * normal(50, 3, 2, 2, seed=1) + 0.2
    metric = FrechetInceptionDistance(feature=Flat(), normalize=True, input_img_size=(3, 2, 2)).set_dtype(torch.float64)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    pair = (x.flatten(1)[:, :5] for x in (real, fake))
    # With normalize=True torchmetrics turns pictures into bytes unless the network is of one's own.
    assert frechet_distance_of(*pair) == pytest.approx(metric.compute().item(), rel=1e-6)


@pytest.mark.parametrize("n", [2, 30])
def test_the_cubic_kernel_distance_is_that_of_torchmetrics(n):
    real, fake = normal(n, 6), normal(n, 6, seed=1) + 0.5  # theirs takes sets of one size only
    assert kernel_distance(real, fake) == pytest.approx(poly_mmd(real, fake).item(), rel=1e-9)


def test_the_gaussian_kernel_distance_by_brute_force():
    real, fake, width = normal(5, 2), normal(7, 2, seed=1), 0.8

    def k(a, b):
        return math.exp(-float((a - b).square().sum()) / (2 * width**2))

    def mean(pairs):
        values = [k(a, b) for a, b in pairs]
        return sum(values) / len(values)

    def within(rows):
        return mean([(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j])

    truth = within(real) + within(fake) - 2 * mean([(a, b) for a in real for b in fake])
    assert kernel_distance(real, fake, bandwidth=width) == pytest.approx(truth, abs=1e-12)


def test_the_excess_in_one_dimension_is_the_closed_form():
    """(σ̂₁ − σ̂₂)² has the bias −2 σ₁ σ₂ (c² − 1) with c = E σ̂/σ; the means add σ₁²/n + σ₂²/m."""
    n, m, s1, s2 = 400, 300, 0.7, 1.9
    c = [math.sqrt(2 / (k - 1)) * math.exp(math.lgamma(k / 2) - math.lgamma((k - 1) / 2)) for k in (n, m)]
    exact = s1**2 / n + s2**2 / m + 2 * s1 * s2 * (1 - c[0] * c[1])
    ours = frechet_bias(torch.tensor([[s1**2]]), torch.tensor([[s2**2]]), n, m)
    assert ours == pytest.approx(exact, rel=5e-3)


def test_the_excess_is_what_sampling_gives():
    roots = normal(2, 3, 3) / 2
    covs = roots @ roots.mT
    zero = torch.zeros(3)
    truth = frechet_distance(zero, covs[0], zero, covs[1])
    excess = []
    for i in range(1500):
        first, second = normal(2, 200, 3, seed=100 + i) @ roots.mT
        excess.append(frechet_distance_of(first, second[:150]) - truth)
    error = np.std(excess) / math.sqrt(len(excess))
    expected = frechet_bias(*covs, 200, 150)
    assert np.mean(excess) == pytest.approx(expected, abs=4 * error)
    assert expected > 6 * error  # so that no bias at all would fail


def test_extrapolation_takes_the_excess_off():
    limits = [
        frechet_limit(normal(400, 6, seed=2 * i), normal(400, 6, seed=2 * i + 1), generator=numbers(i))
        for i in range(30)
    ]
    height = np.array([each.limit for each in limits])
    assert abs(height.mean()) < 4 * height.std() / math.sqrt(30) + 0.01  # the next order, 1/n², stays
    whole = np.array([each.distances[0] for each in limits])
    excess = frechet_bias(torch.eye(6), torch.eye(6), 400, 400)
    assert whole.mean() == pytest.approx(excess, abs=4 * whole.std() / math.sqrt(30))
    assert excess > 8 * abs(height.mean())
    assert limits[0].sizes.tolist() == [400, 200, 133, 100]
    slope = np.mean([each.slope for each in limits])
    assert slope == pytest.approx(400 * frechet_bias(torch.eye(6), torch.eye(6), 400, 400), rel=0.15)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_density_and_coverage_by_brute_force(seed, k):
    real, fake = normal(9, 2, seed=seed), normal(6, 2, seed=seed + 1)
    radii = [sorted(float((a - b).norm()) for b in real)[k] for a in real]
    inside = [[float((a - f).norm()) < radius for f in fake] for a, radius in zip(real, radii, strict=True)]
    density, coverage = density_coverage(real, fake, k)
    assert density == pytest.approx(sum(map(sum, inside)) / (k * 6))
    assert coverage == pytest.approx(sum(map(any, inside)) / 9)


@pytest.mark.parametrize("wrong", [torch.zeros(3), torch.zeros(1, 2), torch.full((5, 2), NAN), torch.zeros(5, 3)])
def test_distances_need_rows_that_fit(wrong):
    with pytest.raises(ValueError, match=r"expected rows|finite"):
        kernel_distance(wrong, torch.zeros(5, 2))


def test_misuse_of_the_distances_is_refused():
    rows = torch.zeros(9, 2)
    for misuse in (
        lambda: kernel_distance(rows, rows, bandwidth=0),
        lambda: density_coverage(rows, rows, 0),
        lambda: density_coverage(rows, rows, 9),
        lambda: frechet_bias(torch.eye(2), torch.eye(3), 9, 9),
        lambda: frechet_limit(rows, rows, n_parts=5, generator=numbers()),
    ):
        with pytest.raises(ValueError, match=r"expected|must be"):
            misuse()


# Audit ---------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=2, max_size=6), st.floats(0.5, 0.99))
def test_the_intervals_are_scipys_wilson_at_the_shared_level(groups, confidence):
    x, n = zip(*((k, max(1, k + rest)) for k, rest in groups), strict=True)
    audit = audit_groups(x, n, confidence=confidence)
    for i, (k, total) in enumerate(zip(x, n, strict=True)):
        truth = stats.binomtest(k, total).proportion_ci(1 - (1 - confidence) / len(x), method="wilson")
        assert (audit.low[i], audit.high[i]) == pytest.approx(tuple(truth), abs=1e-9)
    assert audit.gap == pytest.approx(max(audit.shares) - min(audit.shares))


def test_p_values_are_twice_fishers_smaller_tail():
    x, n = [3, 18, 20], [20, 20, 25]
    audit = audit_groups(x, n)
    for i in range(3):
        others = [sum(x) - x[i], sum(n) - n[i]]
        square = [[x[i], n[i] - x[i]], [others[0], others[1] - others[0]]]
        tails = [stats.fisher_exact(square, alternative=side).pvalue for side in ("less", "greater")]
        assert audit.p_values[i] == pytest.approx(min(1, 3 * 2 * min(tails)), rel=1e-9)
        assert audit.flagged[i] == (6 * min(tails) <= 0.05)
    assert set(audit.flagged) == {True, False}


@pytest.mark.parametrize("rate", [0.5, 0.97])
def test_a_fair_generator_is_seldom_blamed_and_an_unfair_one_found(rate):
    rng, n = np.random.default_rng(0), np.full(8, 50)
    alarms = np.mean([audit_groups(rng.binomial(n, rate), n).flagged.any() for _ in range(600)])
    assert alarms < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 600)
    rates = np.full(8, rate)
    rates[0] -= 0.4
    assert np.mean([audit_groups(rng.binomial(n, rates), n).flagged[0] for _ in range(200)]) > 0.9


@pytest.mark.parametrize(
    ("x", "n"),
    [([1], [2]), ([3, 1], [2, 2]), ([0, 0], [0, 1]), ([0.5, 1], [2, 2]), ([1, 1], [2, 2, 2]), ([-1, 0], [1, 1])],
)
def test_an_audit_needs_counts(x, n):
    with pytest.raises(ValueError, match="expected"):
        audit_groups(x, n)


# Filters -------------------------------------------------------------------------------------------------------------


def test_a_finding_is_a_number_outside_its_bounds_and_nan_is_outside():
    found = findings({"a": torch.tensor([1.0, 2.0, NAN]), "unknown": torch.tensor([9.0])}, {"a": (0, 1)})
    assert found[0] == Finding(1, "a", 2.0, 0, 1)
    assert [each.index for each in found] == [1, 2]


def picture():
    return torch.rand(2, 3, 16, 16, generator=numbers()) * 1.8 - 0.9


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda x: x.index_fill(2, torch.tensor([3]), NAN), "not finite"),
        (lambda x: x.index_fill(2, torch.tensor([3]), math.inf), "not finite"),
        (lambda x: x * 0 + 0.3, "contrast"),
        (lambda x: x.sign(), "midtones"),
        (lambda x: x * 255, "range"),
    ],
)
def test_broken_pictures_are_found_and_whole_ones_pass(spoil, fault):
    assert inspect_images(picture()) == []
    found = inspect_images(spoil(picture()))
    assert fault in faults(found)
    assert {each.index for each in found} == {0, 1}


def sound():
    t = torch.arange(16_000, dtype=torch.float64) / 16_000
    return (0.4 * torch.sin(2 * math.pi * 220 * t) + 0.01 * normal(16_000))[None]


def at(x, place, value):
    x = x.clone()
    x[:, place] = value
    return x


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda x: x * 0, "level"),
        (lambda x: (4 * x).clamp(-1, 1) / 3, "clipped"),
        (lambda x: x + 0.1, "offset"),
        (lambda x: at(x, 700, NAN), "not finite"),
        (lambda x: at(x, 700, 3.0), "range"),
        (lambda x: at(sound() * 0.2, 8000, 0.9), "click"),
        (lambda x: torch.cat([x[:, :8000] * 0 + x[:, :8000], -x[:, 8000:] + 0.6], 1).clamp(-1, 1), "offset"),
        (lambda x: x[:, :800], "seconds"),
        (lambda x: x[:, :0], "seconds"),
    ],
)
def test_broken_sounds_are_found_and_whole_ones_pass(spoil, fault):
    assert inspect_audio(sound(), 16_000) == []
    assert fault in faults(inspect_audio(spoil(sound()), 16_000))


def film():
    """A bright bar that moves by a pixel a frame."""
    frames = torch.full((20, 1, 16, 32), -0.5)
    for i in range(20):
        frames[i, :, :, i : i + 8] = torch.linspace(-0.4, 0.8, 8)
    return frames


@pytest.mark.parametrize(
    ("spoil", "seconds", "fault"),
    [
        (lambda x: x[:1].expand(20, -1, -1, -1), None, "frozen"),
        (lambda x: x * 0 - 1, None, "black"),
        (lambda x: (x + 0.4 * (-1) ** torch.arange(20).view(-1, 1, 1, 1)).clamp(-1, 1), None, "flicker"),
        (lambda x: x[:2].repeat(10, 1, 1, 1), None, "flicker"),
        (lambda x: x, 2.5, "sound"),
        (lambda x: x[:0], None, "frames"),
        (lambda x: x * NAN, None, "not finite"),
    ],
)
def test_broken_films_are_found_and_whole_ones_pass(spoil, seconds, fault):
    assert inspect_video(film(), 10, 2.0) == []
    assert fault in faults(inspect_video(spoil(film()), 10, seconds))


PROSE = "".join(chr(97 + int(i)) for i in torch.randint(26, (900,), generator=numbers(3)))


@pytest.mark.parametrize(
    ("text", "fault"),
    [("so say we all, " * 20, "loop"), ("fine\ufffd", "not text"), ("a\x07b", "not text"), ("  \n", "length")],
)
def test_broken_texts_are_found_and_whole_ones_pass(text, fault):
    assert inspect_text(["To be, or not to be: 是或不是。\n", PROSE]) == []
    assert [each.fault for each in inspect_text([PROSE, text]) if each.index == 1][0:] != []
    assert fault in faults(inspect_text([text]))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 120), st.integers(0, 700))
def test_the_longest_copy_is_measured(length, start):
    text = "0123456789" + PROSE[start : start + length] + "ABCDEFGHIJ"
    copied = text_numbers([text], PROSE)["copied"].item()
    assert copied == (length if length >= 40 else 0)


def test_copies_are_found_by_distance():
    training, rows = normal(20, 4), normal(4, 4, seed=1)
    rows[1], rows[3] = training[7] + 1e-4, rows[2] + 1e-4
    found = inspect_copies(rows, training, bound=1e-2)
    assert {(each.index, each.fault) for each in found} == {(1, "memorised"), (3, "repeated")}
    with pytest.raises(ValueError, match="bound must be above 0"):
        inspect_copies(rows, training, bound=0)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(0, 99), st.sampled_from([NAN, math.inf, -math.inf, 1e30, 1e-300, 0.0]))
def test_no_broken_medium_raises(length, seed, value):
    x = normal(2, length, seed=seed)
    x[0, 0] = value
    inspect_audio(x, 8000)
    inspect_images(x[:, None, None])
    inspect_video(x.T[:, None, None], 25, 1.0)
    assert ("not finite" in faults(inspect_audio(x, 8000))) == (not math.isfinite(value))


def test_misuse_of_the_filters_is_refused():
    for misuse in (
        lambda: inspect_images(torch.zeros(3, 8, 8)),
        lambda: inspect_images(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)),
        lambda: inspect_images(torch.zeros(0, 3, 8, 8)),
        lambda: inspect_audio(torch.zeros(100), 16_000),
        lambda: inspect_audio(torch.zeros(1, 100), 0),
        lambda: inspect_video(torch.zeros(2, 1, 8, 8), 0),
        lambda: inspect_text("one text"),
        lambda: inspect_text([]),
    ):
        with pytest.raises(ValueError, match=r"expected|must be"):
            misuse()


def test_every_number_has_bounds():
    assert set(inspection.image_numbers(picture())) == set(inspection.IMAGE_BOUNDS)
    assert set(inspection.audio_numbers(sound(), 16_000)) == set(inspection.AUDIO_BOUNDS)
    assert set(inspection.video_numbers(film(), 10, 2.0)) == set(inspection.VIDEO_BOUNDS)
    assert set(text_numbers([PROSE], PROSE)) == set(inspection.TEXT_BOUNDS)
