"""Instrument notes, and whole tunes, played from scores by a soundfont: pitch and instrument are known exactly."""

import importlib.util
import io

import numpy as np
import soundfile
import torch
from scipy.signal import resample_poly
from torch import Tensor

from aigc_lib.datasets.base import Items, MissingDataPackage, split_groups
from aigc_lib.datasets.cache import prepared
from aigc_lib.datasets.provenance import info
from aigc_lib.datasets.recordings import NoteItem
from aigc_lib.datasets.sources import install_command, verify

# The instruments with their programmes in General MIDI, counted from 0.
INSTRUMENTS = {
    "piano": 0, "marimba": 12, "organ": 19, "guitar": 24, "violin": 40, "trumpet": 56, "clarinet": 71, "flute": 73,
}  # fmt: skip
PITCHES = range(48, 85)  # MIDI numbers, C3 to C6: 131 to 1,047 hertz
VELOCITIES = (50, 80, 110)  # how hard a note is struck, of 127
_PLAYED = [(pitch, velocity) for pitch in PITCHES for velocity in VELOCITIES]
RATES = (8_000, 16_000, 24_000)
_HELD, _APART = 0.8, 2.0  # seconds until the key is let go, and to the next note: a thousandth of the peak is left


def notes(split: str, sample_rate: int = 16_000) -> Items[NoteItem]:
    """Single notes of one second: eight instruments, 37 pitches (C3 to C6), three velocities; 888 in all.

    The key is let go after 0.8 s. All notes of an instrument are scaled by one factor, by which the loudest sample of
    all reaches 0.9: soft notes stay soft. The notes that an instrument plays at one pitch lie in one split, so held out
    is what was never heard together, while every instrument and nearly every pitch occurs in training.

    Args:
        sample_rate: 8,000, 16,000 or 24,000 hertz; the soundfont is rendered at 48,000, filtered and resampled.

    Returns:
        Items in the order of instrument, pitch and velocity; key like "violin/69/80".
    """
    if sample_rate not in RATES:
        raise ValueError(f"expected a sample rate of {', '.join(map(str, RATES))} hertz, got {sample_rate}")
    entry = info("notes")
    verify(entry)

    def build() -> dict[str, np.ndarray]:
        return {instrument: _single_notes(instrument, sample_rate) for instrument in INSTRUMENTS}

    arrays = prepared(entry, build, sample_rate=sample_rate)
    groups = split_groups(f"{instrument}/{pitch}" for instrument in INSTRUMENTS for pitch in PITCHES)
    items = (
        NoteItem(
            audio=torch.from_numpy(wave.astype(np.float32) / 2**15),
            sample_rate=sample_rate,
            pitch=pitch,
            instrument=instrument,
            velocity=velocity,
            key=f"{instrument}/{pitch}/{velocity}",
        )
        for instrument in INSTRUMENTS
        for (pitch, velocity), wave in zip(_PLAYED, arrays[instrument], strict=True)
        if groups[f"{instrument}/{pitch}"] == split
    )
    return Items(items, info=entry, split=split)


def _single_notes(instrument: str, sample_rate: int) -> np.ndarray:
    """(37 · 3, sample_rate) int16."""
    rows = [(_APART * i, _HELD, pitch, velocity) for i, (pitch, velocity) in enumerate(_PLAYED)]
    audio = _play(rows, instrument, sample_rate, seconds=_APART * len(rows))
    starts = [round(onset * sample_rate) for onset, *_ in rows]
    cut = np.stack([audio[start : start + sample_rate] for start in starts])
    return np.rint(cut * (0.9 / np.abs(cut).max()) * (2**15 - 1)).astype(np.int16)


def play(notes: Tensor, instrument: str, sample_rate: int = 16_000, *, quarter: float = 0.5) -> Tensor:
    """A tune as sound: what an instrument makes of the notes of a `MusicItem`.

    Args:
        notes: (N, 4), onset and duration in quarter notes, MIDI pitch, voice; all voices are played.
        instrument: one of `INSTRUMENTS`.
        sample_rate: as in `notes`.
        quarter: seconds a quarter note lasts.

    Returns:
        (T,) float32, its loudest sample 0.9; it ends one second after the last note.

    Raises:
        ValueError: notes not (N ≥ 1, 4) or impossible, unknown instrument or sample rate.
    """
    if notes.ndim != 2 or notes.shape[1] != 4 or len(notes) == 0:
        raise ValueError(f"expected notes (N ≥ 1, 4), got {tuple(notes.shape)}")
    if instrument not in INSTRUMENTS:
        raise ValueError(f"unknown instrument {instrument!r}; there are: {', '.join(INSTRUMENTS)}")
    if sample_rate not in RATES:
        raise ValueError(f"expected a sample rate of {', '.join(map(str, RATES))} hertz, got {sample_rate}")
    onsets, lengths, pitches = notes[:, 0], notes[:, 1], notes[:, 2]
    fit = notes.isfinite().all() and (onsets >= 0).all() and (lengths > 0).all()
    if not (fit and ((pitches >= 0) & (pitches <= 127)).all() and quarter > 0):
        raise ValueError(
            "expected onsets of at least 0, durations and a quarter above 0 and MIDI pitches of 0 to 127, got notes "
            f"from {notes.amin(dim=0).tolist()} to {notes.amax(dim=0).tolist()} and a quarter of {quarter} seconds"
        )
    rows = [(onset * quarter, length * quarter, int(pitch), 90) for onset, length, pitch, _ in notes.tolist()]
    end = max(onset + length for onset, length, _, _ in rows) + 1
    audio = _play(rows, instrument, sample_rate, seconds=end)
    return torch.from_numpy((audio * (0.9 / np.abs(audio).max())).astype(np.float32))


def _play(
    rows: list[tuple[float, float, int, int]], instrument: str, sample_rate: int, *, seconds: float
) -> np.ndarray:
    """(onset, duration in seconds, pitch, velocity) → mono sound from second 0 on, so many seconds."""
    if any(importlib.util.find_spec(name) is None for name in ("midirenderer", "pretty_midi")):
        raise MissingDataPackage(
            f"playing notes needs midirenderer and pretty_midi. Run: {install_command(dict(info('notes').packages))}"
        )
    import pretty_midi
    from midirenderer import render_wave_from

    score = pretty_midi.PrettyMIDI(resolution=960)
    part = pretty_midi.Instrument(INSTRUMENTS[instrument])
    part.notes = [pretty_midi.Note(velocity, pitch, onset, onset + length) for onset, length, pitch, velocity in rows]
    score.instruments.append(part)
    file = io.BytesIO()
    score.write(file)
    (soundfont,) = verify(info("notes")).values()
    wave, rate = soundfile.read(io.BytesIO(render_wave_from(soundfont.read_bytes(), file.getvalue())), dtype="float32")
    wave = resample_poly(wave.mean(axis=1), 1, rate // sample_rate)[: round(seconds * sample_rate)]
    return np.pad(wave, (0, round(seconds * sample_rate) - len(wave)))
