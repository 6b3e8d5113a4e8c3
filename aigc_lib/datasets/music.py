"""Music as notes: Bach's chorales from MusicXML, O'Neill's and Ryan's tunes from ABC.

Both are read here, not by music21, whose corpus they come from: it takes minutes where this takes seconds. The tests
hold the notes against music21's own reading. Repeats are not played out and ornaments are left out.
"""

import inspect
import json
import xml.etree.ElementTree as ET
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from aigc_lib.datasets import abc_notation
from aigc_lib.datasets.base import DatasetInfo, Items, MusicItem, split_of
from aigc_lib.datasets.cache import prepared
from aigc_lib.datasets.provenance import info
from aigc_lib.datasets.sources import verify
from aigc_lib.datasets.text import sentence_groups

VOICES = ("Soprano", "Alto", "Tenor", "Bass")
STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A piece as it is cached: notes are rows of (onset, duration, pitch, voice), in quarter notes and MIDI numbers.

    `bars` are the places of all bar lines and of the start, those of upbeats and of split bars among them.
    """

    key: str
    title: str
    metre: str
    key_signature: int
    bars: list[float]
    notes: list[tuple[float, float, int, int]]


def bach(split: str) -> Items[MusicItem]:
    """Four-part chorales by J. S. Bach: soprano, alto, tenor and bass are voices 0 to 3.

    Instruments that double or accompany the choir are left out, and so are the few files that hold no four voices.
    Chorales that begin with the same melody, in whatever key, lie in one split.

    Returns:
        Items in the order of their keys ("bwv10.7"), which are also their titles.
    """
    entry = info("bach")
    files = verify(entry)

    def build() -> list[Piece]:
        progress = tqdm(files.items(), desc="reading chorales", leave=False)
        read = (read_musicxml(path, key=Path(name).stem) for name, path in progress)
        return [piece for piece in read if piece is not None]

    pieces = _prepared_pieces(entry, build)
    groups = [_incipit(piece) for piece in pieces]
    return _items(pieces, groups, entry, split)


def oneill(split: str) -> Items[MusicItem]:
    """2,009 Irish tunes for one voice from Francis O'Neill's "Music of Ireland" (Chicago 1903).

    Settings of one tune (by its title, or because they begin alike in whatever key) lie in one split. Where a chord is
    written, its notes are all there.

    Returns:
        Items in the order of their keys, such as "0001-0050/3" (file and number in it).
    """
    return _abc_tunes("oneill", split)


def ryan(split: str) -> Items[MusicItem]:
    """1,059 fiddle tunes from "Ryan's Mammoth Collection" (Boston 1883); otherwise as `oneill`."""
    return _abc_tunes("ryan", split)


def _abc_tunes(name: str, split: str) -> Items[MusicItem]:
    entry = info(name)
    files = verify(entry)

    def build() -> list[Piece]:
        pieces = []
        for file, path in tqdm(files.items(), desc="reading tunes", leave=False):
            # "K:Bn" in two files is a slip of the pen for B minor.
            text = path.read_text(encoding="utf-8", errors="replace").replace("K:Bn", "K:Bm")
            for tune in abc_notation.read_tunes(text):
                key = f"{Path(file).stem}/{tune.number}"
                signature = {"metre": tune.metre, "key_signature": tune.key_signature}
                bars = sorted({0.0, *map(float, tune.bars)})
                pieces.append(Piece(key=key, title=tune.title, bars=bars, notes=_rows(tune.notes), **signature))
        return pieces

    pieces = _prepared_pieces(entry, build)
    groups = sentence_groups([(f"title{piece.title}", _incipit(piece)) for piece in pieces])
    return _items(pieces, groups, entry, split)


def read_musicxml(path: Path, *, key: str) -> Piece | None:
    """The four voices of a compressed MusicXML file, or None if it does not hold exactly four.

    Raises:
        ValueError: the archive holds no MusicXML.
    """
    with zipfile.ZipFile(path) as archive:
        scores = [name for name in archive.namelist() if name.endswith("xml") and not name.startswith("META-INF")]
        if len(scores) != 1:
            raise ValueError(f"expected one score in {path.name}, found {len(scores)}")
        score = ET.fromstring(archive.read(scores[0]))
    names = {part.get("id"): part.findtext("part-name", "") for part in score.iter("score-part")}
    parts = [part for part in score.iter("part") if names[part.get("id")] in VOICES]
    parts = sorted(parts, key=lambda part: VOICES.index(names[part.get("id")])) or list(score.iter("part"))
    if len(parts) != 4:
        return None

    # Voices are aligned bar by bar: a bar lasts as long as its longest voice.
    bars = [[_bar(bar) for bar in bars] for bars in _bars_in_quarters(parts)]
    starts = np.concatenate([[0], np.cumsum([max(length for _, length in bar) for bar in bars])]).tolist()
    notes = []
    for voice in range(4):
        events = [
            (start + onset, duration, pitch, tied)
            for start, bar in zip(starts, bars, strict=False)
            for onset, duration, pitch, tied in bar[voice][0]
        ]
        notes += [(onset, duration, pitch, voice) for onset, duration, pitch in join_ties(events)]
    return Piece(
        key=key,
        title=key,  # the files hold no titles
        metre=f"{score.findtext('.//time/beats', '4')}/{score.findtext('.//time/beat-type', '4')}",
        key_signature=int(score.findtext(".//key/fifths", "0")),
        bars=[float(start) for start in starts[:-1]],
        notes=_rows(notes),
    )


Event = tuple[Fraction, Fraction, int, bool]  # onset, duration, pitch, tied to the note before it


def _bars_in_quarters(parts: list[ET.Element]) -> Iterable[list[tuple[ET.Element, Fraction]]]:
    """For each bar the four elements, each with the length of its duration unit in quarters."""
    columns = []
    for part in parts:
        unit, column = Fraction(1), []
        for bar in part.iter("measure"):
            if divisions := bar.findtext("attributes/divisions"):
                unit = 1 / Fraction(divisions)
            column.append((bar, unit))
        columns.append(column)
    return zip(*columns, strict=True)


def _bar(bar: tuple[ET.Element, Fraction]) -> tuple[list[Event], Fraction]:
    """Events of one voice in one bar, onset counted from the bar line, and the length of the bar."""
    element, unit = bar
    events: list[Event] = []
    now = end = previous = Fraction(0)
    for child in element:
        duration = Fraction(child.findtext("duration", "0")) * unit
        if child.tag == "backup":
            now -= duration
        elif child.tag == "forward":
            now += duration
        elif child.tag == "note" and child.find("grace") is None:
            onset = previous if child.find("chord") is not None else now
            if (pitch := child.find("pitch")) is not None:
                number = STEPS[pitch.findtext("step")] + int(float(pitch.findtext("alter", "0")))
                number += 12 * (int(pitch.findtext("octave")) + 1)
                tied = any(tie.get("type") == "stop" for tie in child.iter("tie"))
                events.append((onset, duration, number, tied))
            previous, now = onset, onset + duration
        end = max(end, now)
    return events, end


def join_ties(events: Iterable[Event]) -> list[tuple[Fraction, Fraction, int]]:
    """Lengthen the note that a tied one continues (same pitch, ending where this one begins)."""
    joined: list[tuple[Fraction, Fraction, int]] = []
    sounding: dict[int, int] = {}  # pitch -> position of its last note
    for onset, duration, pitch, tied in events:
        last = sounding.get(pitch)
        if tied and last is not None and sum(joined[last][:2]) == onset:
            joined[last] = (joined[last][0], joined[last][1] + duration, pitch)
        else:
            sounding[pitch] = len(joined)
            joined.append((onset, duration, pitch))
    return joined


def _rows(notes: Iterable[tuple[Fraction, Fraction, int, int]]) -> list[tuple[float, float, int, int]]:
    ordered = sorted(notes, key=lambda note: (note[0], note[3], note[2]))
    return [(float(onset), float(duration), pitch, voice) for onset, duration, pitch, voice in ordered]


def first_voice(piece: MusicItem) -> MusicItem:
    """The highest voice alone."""
    return replace(piece, notes=piece.notes[piece.notes[:, 3] == 0])


def first_bars(piece: MusicItem, bars: int) -> MusicItem:
    """The upbeat and the first `bars` bars."""
    if len(piece.bars) <= bars:
        return piece
    end = float(piece.bars[bars])
    notes = piece.notes[piece.notes[:, 0] < end - 1e-3].clone()
    notes[:, 1] = notes[:, 1].minimum(end - notes[:, 0])
    return replace(piece, notes=notes, bars=piece.bars[: bars + 1])


def in_order(notes: Tensor) -> Tensor:
    """Notes (N, 4) as a `MusicItem` has them: by onset, then voice, then pitch."""
    order = sorted(range(len(notes)), key=lambda i: notes[i, [0, 3, 2]].tolist())
    return notes[order]


def _prepared_pieces(entry: DatasetInfo, build) -> list[Piece]:
    """Pieces through the cache: all notes in one array, the rest as JSON text."""

    def arrays() -> dict[str, np.ndarray]:
        pieces = build()
        about = [
            {name: getattr(piece, name) for name in ("key", "title", "metre", "key_signature", "bars")}
            for piece in pieces
        ]
        return {
            "notes": np.array([row for piece in pieces for row in piece.notes]),
            "counts": np.array([len(piece.notes) for piece in pieces]),
            "about": np.array([json.dumps(row, ensure_ascii=False) for row in about]),
        }

    # Another reader would read other notes, and the cache only knows this module by itself.
    stored = prepared(entry, arrays, reader=inspect.getsource(abc_notation))
    parts = np.split(stored["notes"], np.cumsum(stored["counts"])[:-1])
    return [Piece(**json.loads(str(about)), notes=notes) for about, notes in zip(stored["about"], parts, strict=True)]


def _items(pieces: list[Piece], groups: list[str], entry: DatasetInfo, split: str) -> Items[MusicItem]:
    return Items(
        (
            MusicItem(
                notes=torch.tensor(np.asarray(piece.notes), dtype=torch.float32),
                bars=torch.tensor(_downbeats(piece)),
                title=piece.title,
                metre=piece.metre,
                key_signature=piece.key_signature,
                key=piece.key,
            )
            for piece, group in zip(pieces, groups, strict=True)
            if split_of(group) == split
        ),
        info=entry,
        split=split,
    )


def _downbeats(piece: Piece) -> list[float]:
    """Bar lines that a whole bar follows, and the first of two short bars that make one (as repeats split them)."""
    if piece.metre == "none":
        return piece.bars
    length = 4 * float(Fraction(piece.metre))
    ends = [*piece.bars[1:], max(onset + duration for onset, duration, _, _ in piece.notes)]
    found, missing = [], 0.0  # quarters that the short bar before left to the next one
    for i, (start, end) in enumerate(zip(piece.bars, ends, strict=True)):
        short = end - start < length - 1e-3
        if short and (i == 0 or abs(end - start - missing) < 1e-3):
            missing = 0.0
            continue
        found.append(start)
        missing = length - (end - start) if short else 0.0
    return found


def _incipit(piece: Piece, n: int = 8) -> str:
    """The first intervals of the highest voice, one character each, so that the key does not matter."""
    notes = np.asarray(piece.notes)
    pitches: dict[float, int] = defaultdict(int)
    for onset, _, pitch, _ in notes[notes[:, 3] == 0][:64].tolist():
        pitches[onset] = max(pitches[onset], int(pitch))
    intervals = [after - before for before, after in pairwise(pitches.values()) if after != before]
    return "incipit" + "".join(chr(0x4E00 + interval) for interval in intervals[:n])
