"""Blocks on the beat: a note map (谱面) for a game in which two hands cut what flies towards the player in time.

When a block comes is heard: an onset near a place of the grid that divides the beats. Which block it is, is drawn from
a Markov chain (马尔可夫链) with weights written by hand: it has learnt from nobody, and knows nothing of style. Rules
keep it playable: a hand that has cut downwards is below, so it does not cut downwards again at once.

A map as JSON:

    {"format": "aigc-note-map-1", "seconds": length of the music, "tempo": beats a minute, "beats": [seconds, …],
     "notes": [{"time": seconds, "beat": position in "beats", "hand": "left" or "right", "lane": 0 to 3 from the left,
                "row": 0 (low) to 2, "cut": "up", "left", "down" or "right"}, …]}      in the order of time
"""

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from aigc_lib.applications.beats import onset_strength, onsets, tempo_and_beats

FORMAT = "aigc-note-map-1"
LEVELS = {"easy": 1, "normal": 2, "expert": 4}  # places of the grid in a beat
HANDS = {"left": (0, 1), "right": (2, 3)}  # and their lanes: arms never cross
CUTS = ("up", "left", "down", "right")  # the opposite is two further on
QUICKEST = 0.14  # seconds between two cuts of one hand
SWING = 0.9  # seconds within which a hand cannot have gone back: no cut twice running
NEAR = 0.07  # seconds: an onset farther from the grid than this is left out


@dataclass(frozen=True, kw_only=True)
class Note:
    """One block; see the module's text."""

    time: float
    beat: float
    hand: str
    lane: int
    row: int
    cut: str


def note_map(audio: Tensor, sample_rate: int, *, level: str = "normal", generator: torch.Generator) -> dict:
    """Hear onsets and beats in music and make blocks of them.

    Args:
        audio: (T,) mono, at least three seconds.
        sample_rate: hertz.
        level: of difficulty, one of `LEVELS`.
        generator: of the blocks; when they come depends on the music alone.

    Returns:
        The map, ready for JSON.

    Raises:
        ValueError: unknown level, or no beat is to be heard (`tempo_and_beats`).
    """
    if level not in LEVELS:
        raise ValueError(f"unknown level {level!r}; there are: {', '.join(LEVELS)}")
    tempo, beats = tempo_and_beats(audio, sample_rate)
    found = onsets(audio, sample_rate)
    strength, rate = onset_strength(audio, sample_rate)
    louds = strength[(found * rate).round().long()]
    slots = on_grid(found, beats, LEVELS[level])
    strong = louds[[i for i, _, _ in slots]] >= louds.quantile(0.85) if slots else []
    notes = place([(time, beat) for _, time, beat in slots], [bool(each) for each in strong], generator=generator)
    return {
        "format": FORMAT,
        "seconds": len(audio) / sample_rate,
        "tempo": round(tempo, 2),
        "beats": [round(beat, 4) for beat in beats.tolist()],
        "notes": [asdict(note) for note in notes],
    }


def on_grid(times: Tensor, beats: Tensor, parts: int) -> list[tuple[int, float, float]]:
    """Move onsets to the grid: (index of the onset, seconds, position in beats), in order, no place twice.

    Args:
        times: (N,) seconds, rising.
        beats: (M ≥ 2,) seconds, rising; before the first and after the last the grid goes on for one beat.
        parts: into which each beat is divided.
    """
    steps = beats.diff()
    longer = torch.cat([beats[:1] - steps[:1], beats, beats[-1:] + steps[-1:]]).tolist()
    grid = [
        (a + (b - a) * part / parts, beat - 1 + part / parts)
        for beat, (a, b) in enumerate(itertools.pairwise(longer))
        for part in range(parts)
    ]
    nearest: dict[int, tuple[float, int]] = {}
    for i, time in enumerate(times.tolist()):
        right = bisect.bisect(grid, (time, 0.0))
        away, place = min((abs(grid[k][0] - time), k) for k in (right - 1, right) if 0 <= k < len(grid))
        if away <= NEAR and grid[place][0] >= 0:
            nearest[place] = min(nearest.get(place, (away, i)), (away, i))
    return [(nearest[k][1], *grid[k]) for k in sorted(nearest)]


def place(slots: Sequence[tuple[float, float]], strong: Sequence[bool], *, generator: torch.Generator) -> list[Note]:
    """Draw the blocks of times: one each, or one for either hand where the music is strong.

    Args:
        slots: (seconds, position in beats), rising.
        strong: which of them may have two.
        generator: of the draws.

    Returns:
        Blocks that keep all rules (`broken_rules` finds none). A time at which no hand can be there is left out.
    """
    notes: list[Note] = []
    last: dict[str, Note] = {}

    def draw(options: Sequence, weights: Sequence[float]):
        return options[int(torch.multinomial(torch.tensor(weights), 1, generator=generator))]

    for (time, beat), accent in zip(slots, strong, strict=True):
        free = [hand for hand in HANDS if hand not in last or time - last[hand].time >= QUICKEST]
        if len(free) == 2 and accent and draw((True, False), (0.6, 0.4)):
            hands = free
        elif free:  # hands alternate, mostly: the one that rested longer is more likely
            rested = [min(time - last[hand].time, 2.0) if hand in last else 2.0 for hand in free]
            hands = [draw(free, [rest**2 for rest in rested])]
        else:
            hands = []
        twin = None  # what both hands do together, they do as in a mirror
        for hand in hands:
            before = last.get(hand)
            weights = [_weight(before, cut, time, beat) for cut in CUTS]
            cut = twin if twin and weights[CUTS.index(twin)] else draw(CUTS, weights)
            outer, inner = HANDS[hand] if hand == "left" else HANDS[hand][::-1]
            lane = outer if cut == ("left" if hand == "left" else "right") else draw((outer, inner), (0.4, 0.6))
            row = draw(range(3), {"up": (1.0, 1.0, 8.0), "down": (8.0, 1.0, 1.0)}.get(cut, (1.0, 8.0, 1.0)))
            made = Note(time=round(time, 4), beat=beat, hand=hand, lane=lane, row=row, cut=cut)
            notes.append(made)
            last[hand] = made
            twin = {"left": "right", "right": "left"}.get(cut, cut)
    return notes


def _weight(before: Note | None, cut: str, time: float, beat: float) -> float:
    """How likely a hand's next cut is: on the beat downwards, and on along the way on which it is."""
    weight = {"down": 4.0 if beat % 1 == 0 else 2.0, "up": 2.0}.get(cut, 1.0)
    if before and time - before.time <= SWING:
        turn = (CUTS.index(cut) - CUTS.index(before.cut)) % 4
        weight *= (0.0, 1.0, 6.0, 1.0)[turn]  # never again, sideways, back, sideways
    return weight


def broken_rules(notes: Sequence[Note]) -> list[str]:
    """What makes blocks unplayable, in words; nothing, if they can be played."""
    broken = []
    for a, b in itertools.pairwise(notes):
        if b.time < a.time:
            broken.append(f"{b.time}: not in the order of time")
    for note in notes:
        if note.lane not in HANDS[note.hand] or note.row not in (0, 1, 2) or note.cut not in CUTS or note.time < 0:
            broken.append(f"{note.time}: out of the {note.hand} hand's reach")
    for hand in HANDS:
        for a, b in itertools.pairwise(note for note in notes if note.hand == hand):
            if b.time - a.time < QUICKEST - 1e-3:  # times are rounded
                broken.append(f"{b.time}: too quick for the {hand} hand")
            elif b.time - a.time <= SWING - 1e-3 and b.cut == a.cut:
                broken.append(f"{b.time}: the {hand} hand cuts {b.cut} twice running")
    return broken
