"""Music as tokens: four-part chorales on a grid of eighths, and tunes note by note, both moved to C.

A chorale is a row of frames, one an eighth, of six tokens: where in the bar the frame stands, the soprano as it will be
a bar later, then soprano, bass, alto and tenor, each with the pitch that sounds and whether it begins here. With the
melody a bar ahead (a delay pattern as in Copet et al. 2023, arXiv:2306.05284) a model that reads from left to right
knows what is coming when it chooses a chord; to harmonise a melody is to fill in the last three tokens of each frame.

A tune is its metre, then for each note a pitch and a duration, with bar lines between. The same tune as rhythm alone
has one sign for all pitches.

Pieces are moved so that their key signature is that of C major and A minor: what is learned once need not be learned
in twelve keys.
"""

import functools
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from aigc_lib.datasets.base import MusicItem

STEP = 0.5  # quarters a frame
AHEAD = 8  # frames by which the melody is shown before it sounds: a bar of four quarters
RANGES = ((57, 81), (53, 74), (48, 69), (36, 64))  # MIDI pitches that soprano, alto, tenor and bass use in Bach
ORDER = (0, 3, 1, 2)  # voices in a frame, after the place in the bar and the melody to come
FRAME = 2 + len(ORDER)
LOWER = slice(3, None)  # bass, alto and tenor in a frame
SILENCE, BAR, BEAT, OFF, BEFORE = range(5)
_LOWEST, _HIGHEST = 25, 92  # more than the voices use, for pieces that are moved
_ONSET = BEFORE + 1  # the token of the lowest pitch that begins; those that go on follow
_HELD = _ONSET + _HIGHEST - _LOWEST + 1
CHORALE_TOKENS = _HELD + _HIGHEST - _LOWEST + 1


def to_c(key_signature: int) -> int:
    """Semitones, −6 to 5, that move a piece with so many sharps (negative: flats) to C major or A minor."""
    return (6 - 7 * key_signature) % 12 - 6


def pitch_token(pitch: int, *, held: bool = False) -> int:
    """Token of a MIDI pitch in a chorale, where it begins or where it goes on."""
    return pitch - _LOWEST + (_HELD if held else _ONSET)


def is_onset(tokens: Tensor) -> Tensor:
    """Where a note begins, bool of the same shape."""
    return (tokens >= _ONSET) & (tokens < _HELD)


def chorale_frames(item: MusicItem, transposed: int = 0) -> Tensor:
    """A chorale as the model reads it, (T + AHEAD, 6): the first AHEAD frames show the melody alone.

    Notes that begin between two eighths (sixteenths, mostly passing) are left out: a note before them lasts longer.

    Args:
        item: the chorale, or its melody alone.
        transposed: semitones, −5 to 5, by which it lies higher than in C.

    Raises:
        ValueError: no notes, a voice other than 0 to 3, or a pitch that is out of `RANGES`.
    """
    notes = item.notes
    if not len(notes) or not ((notes[:, 3] >= 0) & (notes[:, 3] <= 3)).all():
        raise ValueError(f"expected notes of the voices 0 to 3, got {notes[:, 3].unique().tolist()}")
    for voice, (low, high) in enumerate(RANGES):
        pitches = notes[notes[:, 3] == voice][:, 2]
        if ((pitches < low) | (pitches > high)).any():
            raise ValueError(
                f"expected pitches {low} to {high} (MIDI) in voice {voice}, "
                f"got {pitches.min():.0f} to {pitches.max():.0f}; transpose the piece"
            )
    length = -int(-float((notes[:, 0] + notes[:, 1]).max()) // STEP)
    shift = to_c(item.key_signature) + transposed
    grid = torch.full((length, 4), SILENCE)
    cells = grid.numpy()  # the same memory, written to without torch's overhead for each note
    for onset, duration, pitch, voice in notes.tolist():
        first, last = onset / STEP, (onset + duration) / STEP
        if abs(first - round(first)) < 1e-3:
            begin, end = round(first), -int(-(last - 1e-3) // 1)
            cells[begin:end, int(voice)] = pitch_token(int(pitch) + shift, held=True)
            cells[begin, int(voice)] = pitch_token(int(pitch) + shift)
    frames = torch.full((length + AHEAD, FRAME), SILENCE)
    frames[:, 0] = torch.cat([torch.full((AHEAD,), BEFORE), _signs(item.bars.tolist(), length)])
    frames[:length, 1] = grid[:, 0]
    frames[AHEAD:, 2:] = grid[:, list(ORDER)]
    return frames


def _signs(bars: list[float], n_frames: int) -> Tensor:
    """BAR, BEAT (a quarter that begins no bar) or OFF for each frame, from the places of the bar lines in quarters."""
    origin = bars[0] if bars else 0.0
    found = torch.tensor([BEAT if (frame * STEP - origin) % 1 == 0 else OFF for frame in range(n_frames)])
    places = [round(bar / STEP) for bar in bars]
    found[[place for place in places if place < n_frames]] = BAR
    return found


def chorale_notes(frames: Tensor, key_signature: int) -> Tensor:
    """The inverse of `chorale_frames`: notes (N, 4) as in `MusicItem`, in the key asked for."""
    shift, notes = to_c(key_signature), []
    for place, voice in enumerate(ORDER, start=2):
        column = frames[AHEAD:, place]
        current = None
        for frame, token in enumerate(column.tolist()):
            pitch = (token - _ONSET) % (_HELD - _ONSET) + _LOWEST - shift
            if token >= _HELD and current and current[2] == pitch:
                current[1] += STEP
            elif token > BEFORE:  # what goes on without having begun begins here
                current = [frame * STEP, STEP, pitch, voice]
                notes.append(current)
            else:
                current = None
    return torch.tensor(sorted(notes, key=lambda note: (note[0], note[3]))).view(-1, 4).float()


def allowed_tokens(before: Tensor, key_signatures: Sequence[int], *, parallels: bool = True) -> Tensor:
    """What may follow in chorales: voices keep to their ranges, and only what sounds can go on.

    Args:
        before: (B, t) tokens, whole frames and the beginning of one, of chorales in C.
        key_signatures: of each, in which the ranges hold.
        parallels: allow a note that would move in parallel fifths or octaves with a voice that is there already, from
            the last chord in which a note began, be there a rest between. Notes between two eighths are not seen.

    Returns:
        (B, CHORALE_TOKENS) bool.
    """
    place = before.shape[1] % FRAME
    allowed = torch.zeros(len(before), CHORALE_TOKENS, dtype=torch.bool)
    if place == 0:
        allowed[:, BAR : BEFORE + 1] = True
        return allowed
    allowed[:, SILENCE] = True
    low, high = RANGES[ORDER[max(place - 2, 0)]]
    for row, key_signature in zip(allowed, key_signatures, strict=True):
        shift = to_c(key_signature)
        row[pitch_token(low + shift) : pitch_token(high + shift) + 1] = True
    if before.shape[1] < FRAME:
        return allowed
    last = before[:, -FRAME].cpu()
    if not parallels and place > 2:
        frames = before[:, : before.shape[1] - place].unflatten(1, (-1, FRAME)).cpu()
        since = is_onset(frames[:, :, 2:]).any(dim=2).flip(1).int().argmax(dim=1)  # frames since a note began
        chord = frames[torch.arange(len(frames)), frames.shape[1] - 1 - since]
        for other in range(2, place):
            now = before[:, before.shape[1] - place + other].cpu()
            sign = 1 if ORDER[place - 2] < ORDER[other - 2] else -1  # the higher voice minus the lower one
            allowed &= ~_parallels(chord[:, place], chord[:, other], now, sign)
    held = torch.where(is_onset(last), last + _HELD - _ONSET, last)
    rows = (held >= _HELD).nonzero().flatten()
    allowed[rows, held[rows]] = True
    return allowed


def _parallels(last: Tensor, other: Tensor, other_now: Tensor, sign: int) -> Tensor:
    """Where a voice that sang `last` must not begin, (B, CHORALE_TOKENS), while another goes to `other_now`."""
    last, other, now = (
        torch.where(each >= _HELD, each - _HELD + _ONSET, each)[:, None] for each in (last, other, other_now)
    )
    begins = torch.arange(CHORALE_TOKENS)
    sounding = (last > BEFORE) & (other > BEFORE) & (now > BEFORE) & is_onset(begins)
    kind, kind_now = sign * (last - other) % 12, sign * (begins - now) % 12
    same_way = (begins - last) * (now - other) > 0
    return sounding & same_way & (kind == kind_now) & ((kind == 0) | (kind == 7))


METRES = ("2/2", "4/4", "2/4", "3/4", "3/8", "6/8", "9/8", "12/8")
_TWENTY_FOURTHS = (3, 4, 6, 8, 9, 12, 15, 16, 18, 21, 24, 30, 32, 36, 42, 48, 60, 72, 96, 120, 144)
DURATIONS = tuple(Fraction(n, 24) for n in _TWENTY_FOURTHS)  # quarters; a tune with another one is left out
PITCHES = range(47, 98)
_SIGNS = ("tune", "rhythm", "end", "|", "rest", "hit")
END, LINE, REST, HIT = map(_SIGNS.index, ("end", "|", "rest", "hit"))
FIRST_DURATION = len(_SIGNS) + len(METRES)
FIRST_PITCH = FIRST_DURATION + len(DURATIONS)
TUNE_TOKENS = FIRST_PITCH + len(PITCHES)
_DURATION_TOKENS = range(FIRST_DURATION, FIRST_PITCH)


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


def bar_filling_tokens(tokens: Sequence[int], metre: str) -> Tensor:
    """Which token keeps the bars full, (TUNE_TOKENS,) bool: nothing crosses a bar line, which comes where the bar ends.

    Args:
        tokens: of the tune so far, from a bar line on; what follows the last one is no longer than a bar.
        metre: one of `METRES`.
    """
    bar = 4 * Fraction(metre)
    since = len(tokens) - tokens[::-1].index(LINE)
    left = bar - sum(DURATIONS[token - FIRST_DURATION] for token in tokens[since:] if token in _DURATION_TOKENS)
    allowed = torch.ones(TUNE_TOKENS, dtype=torch.bool)
    allowed[LINE] = not left
    allowed[FIRST_PITCH:] = allowed[HIT] = allowed[REST] = bool(left)
    allowed[FIRST_DURATION:FIRST_PITCH] = torch.tensor([left - length in _fillable(bar) for length in DURATIONS])
    return allowed


@functools.cache
def _fillable(bar: Fraction) -> frozenset[Fraction]:
    """All lengths up to a bar that notes can fill exactly: after a duration there must be a way to the bar line."""
    found = new = {Fraction(0)}
    while new := {length + more for length in new for more in DURATIONS if length + more <= bar} - found:
        found = found | new
    return frozenset(found)


def tune_tokens(item: MusicItem, *, rhythm: bool = False) -> list[int]:
    """A tune, moved to C, as tokens: metre, for each note its pitch and duration, bar lines, the end.

    Args:
        item: one voice.
        rhythm: one sign for all pitches.

    Raises:
        ValueError: two notes at once, or a metre, duration or pitch that has no token; the message names it.
    """
    tokens, now, lines = opening(item.metre, rhythm=rhythm), Fraction(0), [float(bar) for bar in item.bars]
    shift = to_c(item.key_signature)
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


def tune_notes(tokens: Sequence[int], key_signature: int = 0) -> tuple[Tensor, Tensor]:
    """Notes (N, 4), in the key asked for, and bar lines (n,) of a tune's tokens; a "hit" is a note of pitch 60.

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
                pitch = 60 if sign == HIT else PITCHES[sign - FIRST_PITCH] - to_c(key_signature)
                notes.append((float(now), float(length), pitch, 0))
            now, sign = now + length, None
    return torch.tensor(notes).view(-1, 4).float(), torch.tensor(bars)
