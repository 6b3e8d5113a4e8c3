"""Onsets and beats where they are known: clicks at given times, and music that was rendered from a score."""

import pytest
import torch

from aigc_lib.applications.beats import onset_strength, onsets, tempo_and_beats
from aigc_lib.datasets.notes import play
from aigc_lib.metrics.events import detected

BEAT = 0.07  # seconds: how far a beat may be off, as is usual (MIREX)


def clicks(times, *, sample_rate=16_000, seconds=9.0):
    """Short bursts of noise in faint noise."""
    generator = torch.Generator().manual_seed(0)
    audio = 1e-4 * torch.randn(round(seconds * sample_rate), generator=generator)
    n = sample_rate // 20
    for time in times:
        burst = torch.randn(n, generator=generator).clamp(-1, 1) * torch.exp(-torch.arange(n) / (0.01 * sample_rate))
        audio[round(time * sample_rate) :][:n] += 0.8 * burst
    return audio


def tune(instrument, quarter):
    """Eighths over a bass of quarters, which begins one quarter late; and its 16 beats in seconds."""
    eighths = torch.tensor([60, 64, 67, 72, 65, 69, 72, 77, 62, 65, 69, 74, 60, 64, 67, 72] * 2)
    bass = torch.tensor([48, 48, 41, 41, 50, 50, 48, 48] * 2)
    notes = [(1 + i / 2, 0.5, pitch, 0) for i, pitch in enumerate(eighths.tolist())]
    notes += [(1 + i, 1, pitch, 1) for i, pitch in enumerate(bass.tolist())]
    return play(torch.tensor(notes), instrument, quarter=quarter), [(1 + i) * quarter for i in range(16)]


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_clicks_begin_when_they_begin(sample_rate):
    times = [0.5, 0.81, 1.3, 1.42, 2.77, 4.0, 6.05]
    found = onsets(clicks(times, sample_rate=sample_rate), sample_rate)
    torch.testing.assert_close(found, torch.tensor(times, dtype=torch.float64), atol=0.015, rtol=0)


def test_a_strength_is_between_0_and_1_and_its_clock_is_that_of_the_sound():
    strength, rate = onset_strength(clicks([3.0]), 16_000)
    assert rate == 100
    assert len(strength) == 900
    assert 0 <= strength.min() <= strength.max() <= 1
    assert strength.argmax().item() == pytest.approx(300, abs=1)


@pytest.mark.parametrize(("first", "step"), [(0.5, 0.5037), (0.11, 0.41), (1.0, 0.81)])
def test_even_clicks_are_beats(first, step):
    times = [first + i * step for i in range(int((8.5 - first) / step))]
    tempo, beats = tempo_and_beats(clicks(times), 16_000)
    assert tempo == pytest.approx(60 / step, rel=0.01)
    assert detected(beats, times, within=0.02).f1 > 0.95


def test_a_tempo_may_waver():
    steps = 0.5 * (1 + 0.06 * torch.sin(torch.arange(15) / 3))
    times = (0.4 + steps.cumsum(0)).tolist()
    assert detected(tempo_and_beats(clicks(times), 16_000)[1], times, within=0.03).f1 > 0.95


@pytest.mark.parametrize("instrument", ["piano", "marimba", "organ", "guitar", "clarinet"])
@pytest.mark.parametrize("quarter", [0.4, 0.5, 0.6])
def test_beats_of_rendered_music_are_those_of_its_score(instrument, quarter):
    audio, beats = tune(instrument, quarter)
    tempo, found = tempo_and_beats(audio, 16_000)
    assert tempo == pytest.approx(60 / quarter, rel=0.02)
    assert detected(found, beats, within=BEAT).f1 > 0.9


def test_onsets_of_struck_notes_are_those_of_the_score():
    audio, _ = tune("piano", 0.5)
    begins = [0.5 + i / 4 for i in range(32)]
    assert detected(onsets(audio, 16_000), begins, within=0.05).f1 > 0.95


def test_what_begins_later_has_its_beats_later():
    audio, _ = tune("piano", 0.5)
    later = torch.cat([torch.zeros(8000), audio])
    torch.testing.assert_close(tempo_and_beats(later, 16_000)[1], tempo_and_beats(audio, 16_000)[1] + 0.5)


def test_loudness_does_not_matter():
    audio, _ = tune("guitar", 0.5)
    torch.testing.assert_close(
        onset_strength(0.05 * audio, 16_000)[0], onset_strength(audio, 16_000)[0], atol=1e-3, rtol=0
    )


def test_a_steady_tone_has_no_beat():
    tone = 0.5 * torch.sin(2 * torch.pi * 440 * torch.arange(64_000) / 16_000)
    with pytest.raises(ValueError, match="no beat is to be heard"):
        tempo_and_beats(tone, 16_000)


@pytest.mark.parametrize("find", [onset_strength, onsets, tempo_and_beats])
def test_silence_has_nothing_to_find(find):
    with pytest.raises(ValueError, match="silent"):
        find(torch.zeros(64_000), 16_000)


@pytest.mark.parametrize(
    ("audio", "sample_rate", "said"),
    [
        (torch.zeros(2, 64_000), 16_000, r"mono sound \(T,\).*\(2, 64000\)"),
        (torch.zeros(64_000, dtype=torch.int16), 16_000, "floats"),
        (torch.zeros(64_000), 4_000, "8,000 hertz or more.*4000"),
        (torch.ones(100), 16_000, "at least 1600 samples"),
        (torch.full((64_000,), float("nan")), 16_000, "finite"),
    ],
)
def test_what_is_no_sound_is_refused(audio, sample_rate, said):
    with pytest.raises(ValueError, match=said):
        onset_strength(audio, sample_rate)


def test_a_beat_takes_three_seconds():
    with pytest.raises(ValueError, match=r"at least 3 s of sound.*got 2\.00 s"):
        tempo_and_beats(torch.ones(32_000), 16_000)
