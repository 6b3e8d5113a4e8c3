"""Music as tokens: what is written can be read back, and what has no token is refused."""

from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lib import datasets
from aigc_lib.datasets import scores
from aigc_lib.datasets.base import MusicItem
from aigc_lib.metrics.music import voice_leading

PITCHES = [range(low, high + 1) for low, high in scores.RANGES]


def item(notes, metre="4/4", bars=(0.0,), key_signature=0):
    return MusicItem(
        notes=torch.tensor(notes, dtype=torch.float32).view(-1, 4),
        bars=torch.tensor(bars, dtype=torch.float32),
        title="",
        metre=metre,
        key_signature=key_signature,
        key="",
    )


@st.composite
def chorales(draw):
    """Four voices of notes of whole eighths, each without a gap."""
    notes = []
    for voice in range(4):
        now = 0.0
        for _ in range(draw(st.integers(1, 6))):
            length = draw(st.integers(1, 5)) * scores.STEP
            notes.append((now, length, draw(st.sampled_from(PITCHES[voice])), voice))
            now += length
    return item(sorted(notes, key=lambda note: (note[0], note[3])), key_signature=draw(st.integers(-6, 6)))


@given(st.integers(-7, 7))
def test_the_way_to_c_is_short_and_leads_there(sharps):
    shift = scores.to_c(sharps)
    assert -6 <= shift <= 5
    assert (7 * sharps + shift) % 12 == 0  # seven semitones up a sharp more: the circle of fifths


@given(chorales())
@settings(deadline=None)
def test_a_chorale_of_eighths_comes_back_note_for_note(chorale):
    notes = scores.chorale_notes(scores.chorale_frames(chorale), chorale.key_signature)
    # Two notes of one pitch in a row are two notes again: the second begins.
    assert torch.equal(notes, chorale.notes)


@given(chorales())
@settings(deadline=None)
def test_keys_differ_by_nothing_but_the_shift(chorale):
    frames = scores.chorale_frames(chorale)
    moved = scores.chorale_notes(frames, 0)
    assert torch.equal(moved[:, [0, 1, 3]], chorale.notes[:, [0, 1, 3]])
    assert (moved[:, 2] - chorale.notes[:, 2] == scores.to_c(chorale.key_signature)).all()


@given(chorales())
@settings(deadline=None)
def test_every_token_of_a_chorale_is_allowed_where_it_stands(chorale):
    row = scores.chorale_frames(chorale).flatten()[None]
    for place in range(1, row.shape[1]):
        assert scores.allowed_tokens(row[:, :place], [chorale.key_signature])[0, row[0, place]]


def test_what_does_not_sound_cannot_go_on_and_nobody_leaves_the_range():
    row = scores.chorale_frames(item([(0, 1, 60, 0), (0, 1, 40, 3)])).flatten()[None]
    place = (scores.AHEAD + 1) * scores.FRAME + 3  # the bass in the second frame of the music
    allowed = scores.allowed_tokens(row[:, :place], [0])[0]
    assert allowed[scores.pitch_token(40, held=True)]
    assert not allowed[scores.pitch_token(41, held=True)]
    assert not allowed[scores.pitch_token(70)]
    assert not allowed[scores.BAR]


@given(
    st.lists(st.tuples(*[st.integers(low, high) for low, high in scores.RANGES]), min_size=2, max_size=2),
    st.integers(1, 4),
)
@settings(deadline=None)
def test_parallels_are_refused_exactly_where_the_meter_finds_them(rows, apart):
    """The last voice to be written, the tenor, against the other three. Rule and meter have no code in common.

    All four may rest between the two chords: then, too, they are neighbours.
    """
    notes = [
        (i * apart * scores.STEP, scores.STEP, pitch, voice)
        for i, row in enumerate(rows)
        for voice, pitch in enumerate(row)
    ]
    frames = scores.chorale_frames(item(notes))
    before = frames.flatten()[None, :-1]
    allowed = scores.allowed_tokens(before, [0], parallels=False)[0]
    found = voice_leading([torch.tensor(notes).float()])
    without = voice_leading([torch.tensor([note for note in notes if note[3] != 2]).float()])
    with_tenor = (found.parallel_fifths, found.parallel_octaves) != (without.parallel_fifths, without.parallel_octaves)
    assert bool(allowed[scores.pitch_token(rows[1][2])]) != with_tenor
    assert scores.allowed_tokens(before, [0])[0, scores.pitch_token(rows[1][2])]


def test_the_soprano_is_a_bar_ahead_and_the_lower_voices_wait():
    chorale = item([(0, 1, 60, 0), (0, 1, 57, 1), (0, 1, 50, 2), (0, 1, 40, 3), (1, 1, 62, 0)])
    frames = scores.chorale_frames(chorale)
    assert frames[0].tolist() == [scores.BEFORE, scores.pitch_token(60), 0, 0, 0, 0]
    assert frames[1, 1] == scores.pitch_token(60, held=True)
    assert frames[2, 1] == scores.pitch_token(62)
    assert frames[scores.AHEAD].tolist() == [scores.BAR, 0, *map(scores.pitch_token, (60, 40, 57, 50))]


def test_a_sixteenth_is_left_out_and_the_note_before_it_goes_on():
    frames = scores.chorale_frames(item([(0, 0.25, 60, 0), (0.25, 0.25, 62, 0), (0.5, 0.5, 64, 0)]))
    assert scores.chorale_notes(frames, 0).tolist() == [[0, 0.5, 60, 0], [0.5, 0.5, 64, 0]]


def test_nearly_all_notes_of_bach_lie_on_the_grid():
    """1.4 percent in all; a reader that lost a voice or mistook the unit would lose far more."""
    items = list(datasets.load("bach", "test"))
    kept = sum(len(scores.chorale_notes(scores.chorale_frames(each), each.key_signature)) for each in items)
    assert 0.97 < kept / sum(len(each.notes) for each in items) < 1


def test_bars_and_beats_are_signed():
    chorale = item([(0, 6, 60, 0)], bars=(1.0, 5.0))
    signed = scores.chorale_frames(chorale)[scores.AHEAD :, 0].tolist()
    assert signed == [scores.BEAT, scores.OFF, scores.BAR, *[scores.OFF, scores.BEAT] * 3, scores.OFF, scores.BAR,
                      scores.OFF]  # fmt: skip


@pytest.mark.parametrize("notes", [[], [(0, 1, 60, 4)], [(0, 1, 20, 3)], [(0, 1, 90, 0)]])
def test_what_is_no_chorale_is_refused(notes):
    with pytest.raises(ValueError, match="expected"):
        scores.chorale_frames(item(notes))


@st.composite
def tunes(draw):
    now, notes = Fraction(0), []
    for _ in range(draw(st.integers(1, 12))):
        now += draw(st.sampled_from([Fraction(0), Fraction(0), Fraction(1, 2)]))  # now and then a rest
        length = draw(st.sampled_from(scores.DURATIONS))
        notes.append((float(now), float(length), draw(st.integers(53, 91)), 0))
        now += length
    metre = draw(st.sampled_from(scores.METRES))
    return item(notes, metre, [0.0], draw(st.integers(-6, 6)))


@given(tunes())
@settings(deadline=None)
def test_a_tune_comes_back_note_for_note(tune):
    notes, bars = scores.tune_notes(scores.tune_tokens(tune), tune.key_signature)
    torch.testing.assert_close(notes, tune.notes, atol=1e-3, rtol=0)
    assert bars.tolist() == [0.0]


@given(tunes())
@settings(deadline=None)
def test_every_token_of_a_tune_without_rests_may_follow_the_one_before(tune):
    tokens = scores.tune_tokens(tune)[:-1]
    if scores.REST not in tokens:
        table = scores.following_tokens()
        assert all(table[first, second] for first, second in pairwise(tokens[1:]))


@given(st.sampled_from(scores.METRES), st.integers(0, 2**32), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_who_draws_by_the_rule_never_gets_stuck_and_fills_every_bar(metre, seed, bars):
    tokens, generator = [*scores.opening(metre, rhythm=True), scores.LINE], torch.Generator().manual_seed(seed)
    after = scores.following_tokens()
    while tokens.count(scores.LINE) <= bars:
        allowed = after[tokens[-1]] & scores.bar_filling_tokens(tokens, metre)
        tokens.append(int(torch.multinomial(allowed.double(), 1, generator=generator)))
    _, lines = scores.tune_notes(tokens)
    torch.testing.assert_close(lines.diff(), torch.full((bars,), 4 * float(Fraction(metre))))


def test_a_full_bar_of_a_tune_is_followed_by_its_line_alone():
    tune = item([(0, 1, 60, 0), (1, 2, 62, 0)], metre="3/4", bars=(0.0, 3.0))
    tokens = scores.tune_tokens(tune)[:-1]  # without the end
    allowed = scores.following_tokens()[tokens[-1]] & scores.bar_filling_tokens(tokens, "3/4")
    assert allowed.nonzero().flatten().tolist() == [scores.LINE]


def test_a_rhythm_has_one_sign_for_all_pitches():
    tune = item([(0, 1, 60, 0), (1, 0.5, 72, 0)], "2/4")
    notes, _ = scores.tune_notes(scores.tune_tokens(tune, rhythm=True))
    assert notes.tolist() == [[0, 1, 60, 0], [1, 0.5, 60, 0]]
    assert scores.tune_tokens(tune)[0] != scores.tune_tokens(tune, rhythm=True)[0]


def test_real_tunes_come_back_with_their_bars():
    for tune in list(datasets.load("oneill", "test"))[:40]:
        try:
            tokens = scores.tune_tokens(tune)
        except ValueError:
            continue
        notes, bars = scores.tune_notes(tokens, tune.key_signature)
        torch.testing.assert_close(notes, tune.notes, atol=1e-3, rtol=0)
        inside = tune.bars[tune.bars < float((notes[:, 0] + notes[:, 1]).max()) - 1e-3]
        assert set(bars.mul(48).round().tolist()) <= set(inside.mul(48).round().tolist())


def test_tokens_without_sense_are_passed_over():
    duration, pitch = scores.FIRST_DURATION + 5, scores.FIRST_PITCH + 7
    notes, _ = scores.tune_notes([duration, pitch, pitch, duration, duration, scores.END, pitch, duration])
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("notes", "metre", "message"),
    [
        ([(0, 1, 60, 0), (0, 1, 64, 0)], "4/4", "two notes at once"),
        ([(0, 0.1, 60, 0)], "4/4", "duration"),
        ([(0, 1, 20, 0)], "4/4", "pitch"),
        ([(0, 1, 60, 0)], "7/8", "metre"),
    ],
)
def test_what_has_no_token_is_refused_by_name(notes, metre, message):
    with pytest.raises(ValueError, match=message):
        scores.tune_tokens(item(notes, metre))
