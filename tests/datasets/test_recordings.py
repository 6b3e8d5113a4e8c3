"""The recorded scale: real notes, cut where they begin, at the pitches they are labelled with."""

import numpy as np
import pytest

from aigc_lib import datasets
from aigc_lib.datasets.base import SPLITS
from aigc_lib.datasets.provenance import info

NOTES = [note for split in SPLITS for note in datasets.load("recorded-scale", split)]


def pitch_of(samples: np.ndarray, sample_rate: int) -> float:
    """Hertz: the lag of the highest autocorrelation between 200 and 600 Hz, an oracle without any model."""
    spectrum = np.fft.rfft(samples, 2 * len(samples))
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)
    lags = np.arange(sample_rate // 600, sample_rate // 200)
    return sample_rate / lags[correlation[lags].argmax()]


def test_the_scale_has_eight_notes_and_the_splits_share_none():
    keys = [note.key for note in NOTES]
    assert sorted(keys) == sorted(["C4", "D4", "E4", "F4", "G4", "A4", "B4", "C5"])
    counts = {split: len(datasets.load("recorded-scale", split)) for split in SPLITS}
    assert counts == dict(info("recorded-scale").counts)


@pytest.mark.parametrize("note", NOTES, ids=lambda note: note.key)
def test_a_note_sounds_at_the_pitch_of_its_label(note):
    frequency = pitch_of(note.audio.double().numpy(), note.sample_rate)
    semitones = 69 + 12 * np.log2(frequency / 440)
    assert abs(semitones - note.pitch) < 0.5


@pytest.mark.parametrize("note", NOTES, ids=lambda note: note.key)
def test_a_note_begins_with_its_attack_and_fades(note):
    assert 0.8 < len(note.audio) / note.sample_rate < 1.0
    assert note.audio.abs().max() <= 1
    energy = note.audio.double().square()
    third = len(energy) // 3
    assert energy[:third].mean() > 1.5 * energy[-third:].mean()


def test_the_licence_and_the_source_are_named():
    entry = datasets.load("recorded-scale").info
    assert entry.licence == "BSD-3-Clause"
    assert entry.files == ("music21/audioSearch/test_audio.wav",)
