"""Made sounds: as long as they say, silent afterwards, of their kind by ear of a spectrum, and never twice the same."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lib import datasets
from aigc_lib.datasets.effects import AMBIENCES, EFFECTS, KINDS, LONGEST, SAMPLE_RATE, SHORTEST, WINDOW
from aigc_lib.datasets.provenance import info

N = 10 * len(KINDS)


@pytest.fixture(scope="module")
def sounds():
    return datasets.load("effects", "validation", n=N)


def of(sounds, kind):
    return [item for item in sounds if item.kind == kind]


def hertz(audio):
    """Where half of the power lies below."""
    power = torch.fft.rfft(audio).abs().square().cumsum(0)
    return (power < power[-1] / 2).sum().item() * SAMPLE_RATE / len(audio)


def test_every_kind_has_a_chinese_name_and_comes_as_often_as_the_others(sounds):
    assert all(name > "一" for name in (EFFECTS | AMBIENCES).values())
    assert [item.kind for item in sounds] == 10 * list(KINDS)
    assert sounds.labels.bincount().tolist() == [10] * len(KINDS)
    assert sum(dict(info("effects").counts).values()) == 4800


def test_an_effect_is_silent_after_its_end_and_heard_nearly_until_then(sounds):
    for item in sounds:
        assert item.audio.shape == (WINDOW,)
        assert item.audio.isfinite().all()
        assert item.audio.abs().max() == pytest.approx(0.9, abs=1e-4)
        end = round(item.seconds * SAMPLE_RATE)
        assert not item.audio[end + 1 :].any()
        assert item.audio[: end // 2].square().mean() > 1e-5
        assert item.audio[end // 2 : end * 3 // 4].square().mean() > 1e-7, item.key


def test_durations_are_spread_evenly_over_their_logarithm(sounds):
    seconds = torch.tensor([item.seconds for item in sounds if item.kind in EFFECTS])
    assert SHORTEST <= seconds.min() < 0.3
    assert 0.9 < seconds.max() <= LONGEST
    # u = log₄(4·seconds) is even on [0, 1]: mean ½ with standard error √(1/12/100) = 0.029.
    assert (4 * seconds).log().mean().item() / torch.tensor(4.0).log().item() == pytest.approx(0.5, abs=4 * 0.029)
    assert all(item.seconds == pytest.approx(1.024) for item in sounds if item.kind in AMBIENCES)


def test_a_zap_falls_and_a_drop_rises(sounds):
    for kind, sign in (("zap", -1), ("drop", 1)):
        for item in of(sounds, kind):
            n = round(item.seconds * SAMPLE_RATE)
            early, late = hertz(item.audio[n // 20 : n // 5]), hertz(item.audio[n // 2 : n * 4 // 5])
            assert sign * (late - early) > 0, item.key


def test_a_coin_is_two_tones_the_second_a_fourth_or_fifth_above(sounds):
    for item in of(sounds, "coin"):
        first, second = hertz(item.audio[:640]), hertz(item.audio[1760:])
        assert 1.15 < second / first < 1.65, item.key


def test_knocks_are_several_and_a_step_is_heel_and_toe(sounds):
    def strokes(audio):
        power = audio.unfold(0, 256, 256).square().mean(dim=1)
        return int(((power[1:] > 3 * power[:-1]) & (power[1:] > 0.02 * power.max())).sum())

    long = [item for item in of(sounds, "knock") if item.seconds > 0.5]
    assert long
    assert all(2 <= strokes(item.audio) <= 5 for item in long)


def test_ambiences_do_not_end_and_each_lies_where_it_should(sounds):
    middle = {kind: torch.tensor([hertz(item.audio) for item in of(sounds, kind)]).median() for kind in AMBIENCES}
    assert middle["engine"] < 400 < 2000 < middle["rain"]
    assert middle["wind"] < middle["rain"]
    for kind in ("rain", "wind", "waves", "engine"):
        for item in of(sounds, kind):
            powers = item.audio.unfold(0, WINDOW // 8, WINDOW // 8).square().mean(dim=1)
            assert powers.min() > 0.005 * powers.max()


def test_sounds_of_a_kind_differ(sounds):
    for kind in KINDS:
        spectra = torch.stack([torch.fft.rfft(item.audio).abs() for item in of(sounds, kind)])
        spectra = torch.nn.functional.normalize(spectra, dim=1)
        alike = spectra @ spectra.T - 2 * torch.eye(len(spectra))
        assert alike.max() < 0.99, kind


@given(index=st.integers(0, 44), n=st.integers(45, 60))
@settings(deadline=None, max_examples=5)
def test_an_item_is_the_same_whatever_n_is_and_another_in_another_split_or_seed(index, n):
    one, again = (datasets.load("effects", "test", n=k)[index] for k in (45, n))
    assert torch.equal(one.audio, again.audio)
    assert (one.seconds, one.key) == (again.seconds, again.key)
    for other in (
        datasets.load("effects", "train", n=45)[index],
        datasets.load("effects", "test", n=45, seed=1)[index],
    ):
        assert not torch.equal(one.audio, other.audio)
        assert one.key != other.key


def test_no_items_are_refused():
    with pytest.raises(ValueError, match="n of at least 1, got 0"):
        datasets.load("effects", n=0)
