"""How good is generated music: voice leading against Bach's own habits, distributions, and what is copied.

Voice-leading rules are those of common-practice harmony (Piston 1941, "Harmony", chapter 2). They are habits and no
laws: Bach breaks each now and then, so a number means something beside his own.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations, pairwise

import torch
from torch import Tensor

# What choirs sing: soprano C4 to A5, alto G3 to D5, tenor C3 to G4, bass E2 to C4 (Piston); each wider by a tone.
COMFORTABLE = ((58, 83), (53, 76), (46, 69), (38, 62))


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Voice-leading faults in a hundred changes of chord (parallels) or in a hundred chords (the others)."""

    parallel_fifths: float
    parallel_octaves: float
    out_of_range: float
    crossing: float
    chords: int


def voice_leading(pieces: Iterable[Tensor]) -> Faults:
    """Count the faults of four voices in all pieces together.

    A chord is what sounds whenever a note begins. Fifths and octaves are parallel when two voices that form one move,
    both, in the same direction, into another of the same kind (compound or not).

    Args:
        pieces: notes (N, 4) of each as in `MusicItem`: onset, duration, MIDI pitch, voice 0 (soprano) to 3 (bass).

    Raises:
        ValueError: no piece, a piece without notes, or a voice that is none of the four.
    """
    fifths = octaves = outside = crossed = n_chords = n_changes = 0
    for notes in pieces:
        chords = sounding(notes)
        n_chords, n_changes = n_chords + len(chords), n_changes + len(chords) - 1
        for before, after in pairwise(chords):
            for high, low in combinations(range(4), 2):
                kind = _perfect(before[high], before[low])
                moves = after[high] - before[high], after[low] - before[low]
                if kind is not None and kind == _perfect(after[high], after[low]) and moves[0] * moves[1] > 0:
                    fifths += kind == 7
                    octaves += kind == 0
        # A silent voice is NaN: it is out of no range and crosses nobody.
        outside += sum(
            any(pitch < low or pitch > high for pitch, (low, high) in zip(chord, COMFORTABLE, strict=True))
            for chord in chords
        )
        crossed += sum(any(high < low for high, low in pairwise(chord)) for chord in chords)
    if not n_chords:
        raise ValueError("expected at least one piece")
    return Faults(
        parallel_fifths=100 * fifths / max(n_changes, 1),
        parallel_octaves=100 * octaves / max(n_changes, 1),
        out_of_range=100 * outside / n_chords,
        crossing=100 * crossed / n_chords,
        chords=n_chords,
    )


def sounding(notes: Tensor) -> list[tuple[float, ...]]:
    """The pitches of soprano, alto, tenor and bass whenever a note begins; NaN for a voice that is silent.

    Raises:
        ValueError: no notes, or a voice that is none of the four.
    """
    if notes.ndim != 2 or notes.shape[1] != 4 or not len(notes) or not ((notes[:, 3] >= 0) & (notes[:, 3] < 4)).all():
        raise ValueError(f"expected notes (N ≥ 1, 4) of the voices 0 to 3, got {tuple(notes.shape)}")
    found = []
    rows = notes.double()
    for onset in rows[:, 0].unique().tolist():
        now = rows[(rows[:, 0] <= onset + 1e-6) & (rows[:, 0] + rows[:, 1] > onset + 1e-6)]
        pitches = dict(zip(now[:, 3].int().tolist(), now[:, 2].tolist(), strict=True))
        found.append(tuple(pitches.get(voice, float("nan")) for voice in range(4)))
    return found


def _perfect(high: float, low: float) -> int | None:
    """7 for a fifth, 0 for an octave or unison, with or without octaves in between; else None."""
    interval = (high - low) % 12  # NaN stays NaN
    return int(interval) if interval in (0.0, 7.0) else None


def pitch_classes(notes: Tensor, key_signature: int) -> Tensor:
    """How often each pitch class sounds (12,), counted from the major tonic of the key signature; sums to 1."""
    tonic = 7 * key_signature % 12
    counts = torch.bincount((notes[:, 2].long() - tonic) % 12, minlength=12).double()
    return counts / counts.sum()


def intervals(notes: Tensor, most: int = 12) -> Tensor:
    """How often a voice moves by −most … most semitones, (2·most + 1,); larger leaps count as those; sums to 1."""
    counts = torch.zeros(2 * most + 1, dtype=torch.float64)
    for voice in notes[:, 3].unique():
        steps = notes[notes[:, 3] == voice][:, 2].diff().clamp(-most, most).long()
        counts += torch.bincount(steps + most, minlength=2 * most + 1)
    return counts / counts.sum().clamp(min=1)


def divergence(first: Tensor, second: Tensor) -> float:
    """Jensen–Shannon divergence of two distributions in bits: 0 for equal ones, 1 where they share nothing."""
    mean = (first + second) / 2
    nats = torch.special.xlogy(first, first / mean).nansum() + torch.special.xlogy(second, second / mean).nansum()
    return max(float(nats) / (2 * math.log(2)), 0.0)  # of equal ones rounding may leave −1e-17


class CopyDetector:
    """Finds the longest run of notes that a piece shares with a corpus, whatever the key.

    Notes are compared as (interval from the note before, duration), so a transposed copy is a copy.

    Args:
        corpus: notes (N, 4) of each piece; the highest voice of each counts.
    """

    def __init__(self, corpus: Iterable[Tensor]) -> None:
        self._letters: dict[tuple[int, float], str] = {}
        self._corpus = "\n".join(self._written(notes, learn=True) for notes in corpus)

    def longest_run(self, notes: Tensor) -> int:
        """Notes in a row, the first one counted in, that stand somewhere in the corpus as they are here."""
        text, best = self._written(notes), 0
        for start in range(len(text)):
            # Longer than the best so far or of no interest; what is not in the corpus cannot be in it when longer.
            while start + best < len(text) and text[start : start + best + 1] in self._corpus:
                best += 1
        return best + 1 if best else 0

    def _written(self, notes: Tensor, *, learn: bool = False) -> str:
        """One letter a note after the first; a step that the corpus does not know is a letter of no other piece."""
        voice = notes[notes[:, 3] == 0]
        steps = zip(voice[:, 2].diff().int().tolist(), voice[1:, 1].mul(48).round().tolist(), strict=True)
        if learn:
            return "".join(self._letters.setdefault(step, chr(0x4E00 + len(self._letters))) for step in steps)
        return "".join(self._letters.get(step, "?") for step in steps)
