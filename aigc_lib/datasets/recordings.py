"""Recorded notes: a C major scale that somebody played in front of a microphone, cut into its eight notes."""

from dataclasses import dataclass

import soundfile
import torch
from torch import Tensor

from aigc_lib.datasets.base import Items, split_groups
from aigc_lib.datasets.provenance import info
from aigc_lib.datasets.sources import verify

# Seconds from the start of the file: where the energy above 2 kHz rises most between frames of 2.5 ms.
_ONSETS = {"C4": 2.781, "D4": 3.687, "E4": 4.532, "F4": 5.428, "G4": 6.435, "A4": 7.356, "B4": 8.269, "C5": 9.152}
_PITCHES = dict(zip(_ONSETS, (60, 62, 64, 65, 67, 69, 71, 72), strict=True))
_END = 10.05
_MARGIN = 0.01  # seconds from the end of a note to the next onset


@dataclass(frozen=True, kw_only=True, eq=False)
class NoteItem:
    """One note and what is known of how it was played."""

    audio: Tensor  # (T,) float32 in [-1, 1], mono
    sample_rate: int  # hertz
    pitch: int  # MIDI number; 69 is the A of 440 Hz
    instrument: str | None = None
    velocity: int | None = None  # how hard it was struck, 1 to 127
    key: str  # unique and stable within the data set, such as "A4"


def recorded_scale(split: str) -> Items[NoteItem]:
    """The eight notes C4 to C5 of a scale played on struck strings, each about 0.9 s at 44.1 kHz.

    It is the recording that music21 carries to test its pitch detection; the instrument is not named there. Each note
    begins at its onset and ends shortly before the next one. The room is to be heard, and so is the note before.

    Returns:
        Items in the order in which they were played; key like "A4".
    """
    entry = info("recorded-scale")
    (path,) = verify(entry).values()
    samples, sample_rate = soundfile.read(path, dtype="float32")
    ends = [onset - _MARGIN for onset in list(_ONSETS.values())[1:]] + [_END]
    splits = split_groups(_ONSETS)
    items = [
        NoteItem(
            audio=torch.from_numpy(samples[round(onset * sample_rate) : round(end * sample_rate)].copy()),
            sample_rate=sample_rate,
            pitch=_PITCHES[key],
            key=key,
        )
        for (key, onset), end in zip(_ONSETS.items(), ends, strict=True)
        if splits[key] == split
    ]
    return Items(items, info=entry, split=split)
