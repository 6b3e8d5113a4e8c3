"""Music as tokens: four-part chorales on a grid of eighths, and tunes note by note.

A chorale is a row of frames, one an eighth, of five tokens: where in the bar the frame stands, then soprano, bass, alto
and tenor. The soprano runs a bar ahead of the others (the delay pattern of Copet et al. 2023, arXiv:2306.05284), so a
model that reads from left to right knows what melody is coming when it chooses a chord; to harmonise a melody is to
fill in three tokens of each frame.

A tune is its metre, then for each note a pitch and a duration, with bar lines between. The same tune as rhythm alone
has one sign for all pitches.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction

import torch
from torch import Tensor

from aigc_lib.datasets.base import MusicItem

STEP = 0.5  # quarters a frame
AHEAD = 8  # frames that the soprano is ahead: a bar of four quarters
RANGES = ((57, 81), (53, 74), (48, 69), (36, 64))  # MIDI pitches that soprano, alto, tenor and bass use in Bach
ORDER = (0, 3, 1, 2)  # voices in a frame after the sign for the place in the bar
FRAME = 1 + len(ORDER)
SILENCE, HOLD, BAR, BEAT, OFF, BEFORE = range(6)
LOWEST = RANGES[3][0]
CHORALE_TOKENS = 6 + RANGES[0][1] - LOWEST + 1


def pitch_token(pitch: int) -> int:
    """Token of a MIDI pitch in a chorale."""
    return pitch - LOWEST + 6


def chorale_grid(item: MusicItem) -> Tensor:
    """Soprano, alto, tenor and bass by eighths, (T, 4) int64 tokens: SILENCE, HOLD or the token of a pitch.

    Notes that begin between two eighths (sixteenths, mostly passing) are left out: a note before them lasts longer.

    Raises:
        ValueError: a voice other than 0 to 3, or pitches out of `RANGES` by more than an octave.
    """
    notes = item.notes
    if not len(notes) or not ((notes[:, 3] >= 0) & (notes[:, 3] <= 3)).all():
        raise ValueError(f"expected notes of the voices 0 to 3, got {notes[:, 3].unique().tolist()}")
    if not ((notes[:, 2] >= LOWEST) & (notes[:, 2] <= RANGES[0][1])).all():
        low, high = notes[:, 2].aminmax()
        raise ValueError(f"expected pitches {LOWEST} to {RANGES[0][1]}, got {low:.0f} to {high:.0f}; transpose")
    end = float((notes[:, 0] + notes[:, 1]).max())
    grid = torch.full((-int(-end // STEP), 4), SILENCE)
    for onset, duration, pitch, voice in notes.tolist():
        first, last = onset / STEP, (onset + duration) / STEP
        if abs(first - round(first)) < 1e-3:
            # A note in progress ends here, even if what it was tied over to has been left out.
            grid[round(first) : -int(-(last - 1e-3) // 1), int(voice)] = HOLD
            grid[round(first), int(voice)] = pitch_token(int(pitch))
    return grid


def metre_signs(item: MusicItem, n_frames: int) -> Tensor:
    """BAR, BEAT (a quarter that begins no bar) or OFF for each frame, (n_frames,) int64."""
    return signs(item.bars.tolist(), n_frames)


def signs(bars: Iterable[float], n_frames: int) -> Tensor:
    """As `metre_signs`, from the places of the bar lines in quarters."""
    starts = sorted(bars)
    origin = starts[0] if starts else 0.0
    found = torch.tensor([BEAT if (frame * STEP - origin) % 1 == 0 else OFF for frame in range(n_frames)])
    places = [round(start / STEP) for start in starts]
    found[[place for place in places if place < n_frames]] = BAR
    return found


def chorale_tokens(grid: Tensor, metre: Tensor, shift: int = 0) -> Tensor:
    """Frames of five tokens, (T + AHEAD, 5) int64: the first AHEAD show the melody alone, before the music begins.

    Args:
        grid: (T, 4) as `chorale_grid` gives it.
        metre: (T,) as `metre_signs` gives it.
        shift: semitones by which all is moved.

    Raises:
        ValueError: grid and metre are of different lengths.
    """
    if len(grid) != len(metre) or grid.ndim != 2 or grid.shape[1] != 4:
        raise ValueError(f"expected a grid (T, 4) and T signs, got {tuple(grid.shape)} and {tuple(metre.shape)}")
    grid = torch.where(grid > BEFORE, grid + shift, grid)
    frames = torch.full((len(grid) + AHEAD, FRAME), SILENCE)
    frames[:, 0] = torch.cat([torch.full((AHEAD,), BEFORE), metre])
    frames[: len(grid), 1] = grid[:, 0]
    for place, voice in enumerate(ORDER[1:], start=2):
        frames[AHEAD:, place] = grid[:, voice]
    return frames


def shifts(grid: Tensor, most: int = 6) -> list[int]:
    """By how many semitones, −most to most, a chorale may be moved with each voice inside its range in `RANGES`."""
    room = [-most, most]
    for voice, (low, high) in enumerate(RANGES):
        sounding = grid[:, voice][grid[:, voice] > BEFORE] - 6 + LOWEST
        if len(sounding):
            room = [max(room[0], low - int(sounding.min())), min(room[1], high - int(sounding.max()))]
    return list(range(min(room[0], 0), max(room[1], 0) + 1))


def grid_of(frames: Tensor) -> Tensor:
    """The inverse of `chorale_tokens` (shift 0): frames (T + AHEAD, 5) → grid (T, 4)."""
    grid = torch.empty(len(frames) - AHEAD, 4, dtype=torch.int64)
    grid[:, 0] = frames[: len(grid), 1]
    for place, voice in enumerate(ORDER[1:], start=2):
        grid[:, voice] = frames[AHEAD:, place]
    return grid


def notes_of(grid: Tensor) -> Tensor:
    """The notes of a grid, (N, 4) float32 as in `MusicItem`; a HOLD after silence is silence."""
    notes = []
    for voice in range(grid.shape[1]):
        current = None
        for frame, token in enumerate(grid[:, voice].tolist()):
            if token == HOLD and current:
                current[1] += STEP
            elif token > BEFORE:
                current = [frame * STEP, STEP, token - 6 + LOWEST, voice]
                notes.append(current)
            else:
                current = None
    return torch.tensor(sorted(notes, key=lambda note: (note[0], note[3]))).view(-1, 4).float()


def allowed_tokens() -> Tensor:
    """Which tokens may stand at each place of a frame, (FRAME, CHORALE_TOKENS) bool: voices keep to their ranges."""
    allowed = torch.zeros(FRAME, CHORALE_TOKENS, dtype=torch.bool)
    allowed[0, [BAR, BEAT, OFF, BEFORE]] = True
    for place, voice in enumerate(ORDER, start=1):
        allowed[place, [SILENCE, HOLD]] = True
        allowed[place, pitch_token(RANGES[voice][0]) : pitch_token(RANGES[voice][1]) + 1] = True
    return allowed


METRES = ("2/2", "4/4", "2/4", "3/4", "3/8", "6/8", "9/8", "12/8")
_TWENTY_FOURTHS = (3, 4, 6, 8, 9, 12, 15, 16, 18, 21, 24, 30, 32, 36, 42, 48, 60, 72, 96, 120, 144)
DURATIONS = tuple(Fraction(n, 24) for n in _TWENTY_FOURTHS)  # quarters; a tune with another one is left out
PITCHES = range(53, 92)
_SIGNS = ("tune", "rhythm", "end", "|", "rest", "hit")
END, LINE, REST, HIT = map(_SIGNS.index, ("end", "|", "rest", "hit"))
FIRST_DURATION = len(_SIGNS) + len(METRES)
FIRST_PITCH = FIRST_DURATION + len(DURATIONS)
TUNE_TOKENS = FIRST_PITCH + len(PITCHES)


def opening(metre: str, *, rhythm: bool = False) -> list[int]:
    """How a tune in this metre begins, or its rhythm alone.

    Raises:
        ValueError: a metre that is not in `METRES`.
    """
    if metre not in METRES:
        raise ValueError(f"unknown metre {metre!r}; there are: {', '.join(METRES)}")
    return [int(rhythm), len(_SIGNS) + METRES.index(metre)]


def following_tokens() -> Tensor:
    """Which token may follow which while a tune goes on, (TUNE_TOKENS, TUNE_TOKENS) bool.

    After a pitch, a hit or a rest its duration; after a duration a pitch or a bar line; after a bar line a pitch. The
    metre opens with any of these. Nothing leads to the end, to a second opening, or to a rest, which is rare in tunes.
    """
    signs = torch.zeros(TUNE_TOKENS, dtype=torch.bool)
    signs[HIT], signs[FIRST_PITCH:] = True, True
    durations = torch.zeros(TUNE_TOKENS, dtype=torch.bool)
    durations[FIRST_DURATION:FIRST_PITCH] = True
    table = signs.expand(TUNE_TOKENS, -1).clone()
    table[len(_SIGNS) : FIRST_PITCH, LINE] = True
    table[[HIT, REST]] = table[FIRST_PITCH:] = durations
    return table


def tune_tokens(item: MusicItem, shift: int = 0, *, rhythm: bool = False) -> list[int]:
    """A tune as tokens: metre, for each note its pitch and duration, bar lines, the end.

    Args:
        item: one voice.
        shift: semitones by which it is moved.
        rhythm: one sign for all pitches.

    Raises:
        ValueError: two notes at once, or a metre, duration or pitch that has no token; the message names it.
    """
    tokens, now, lines = opening(item.metre, rhythm=rhythm), Fraction(0), [float(bar) for bar in item.bars]
    for onset, length, pitch, _ in item.notes.tolist():
        onset, length = (Fraction(number).limit_denominator(48) for number in (onset, length))  # 1/3 is no float
        if onset < now:
            raise ValueError(f"expected one voice, got two notes at once at quarter {float(onset):g}")
        if onset > now:
            tokens += [*_lines(lines, now), REST, _token(onset - now)]
        tokens += [*_lines(lines, onset), HIT if rhythm else _token(int(pitch) + shift), _token(length)]
        now = onset + length
    return [*tokens, END]


def _lines(lines: list[float], now: Fraction) -> list[int]:
    """A bar line if one stands at or before `now` that was not written yet; takes it out of `lines`."""
    passed = 0
    while lines and lines[0] <= float(now) + 1e-3:
        lines.pop(0)
        passed += 1
    return [LINE] if passed else []


def _token(symbol: int | Fraction) -> int:
    known = DURATIONS if isinstance(symbol, Fraction) else PITCHES
    if symbol not in known:
        what = "duration (quarters)" if isinstance(symbol, Fraction) else "pitch (MIDI)"
        raise ValueError(f"no token for the {what} {symbol}; there are {known[0]} to {known[-1]}")
    return FIRST_DURATION + DURATIONS.index(symbol) if known is DURATIONS else FIRST_PITCH + symbol - PITCHES[0]


def tune_notes(tokens: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Notes (N, 4) and bar lines (n,) of a tune's tokens; a "hit" is a note of pitch 60.

    Tokens that make no sense where they stand (a duration without a pitch) are passed over, as are END and what
    follows it.
    """
    notes, bars, now, sign = [], [], Fraction(0), None
    for token in tokens:
        if token == END:
            break
        if token == LINE:
            bars.append(float(now))
        elif token in (REST, HIT) or token >= FIRST_PITCH:
            sign = token
        elif token >= FIRST_DURATION and sign is not None:
            length = DURATIONS[token - FIRST_DURATION]
            if sign != REST:
                notes.append((float(now), float(length), 60 if sign == HIT else PITCHES[sign - FIRST_PITCH], 0))
            now, sign = now + length, None
    return torch.tensor(notes).view(-1, 4).float(), torch.tensor(bars)
