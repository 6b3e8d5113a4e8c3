"""Each rule of ABC notation that the tunes use, on a line that can be checked by hand."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigc_lib.datasets.abc_notation import key_signature, read_tunes

HALF, QUARTER = Fraction(1, 2), Fraction(1, 4)


def notes(music, *, key="C", metre="4/4", unit="1/8"):
    """(onset, duration, pitch) of a tune in quarter notes and MIDI numbers."""
    (tune,) = read_tunes(f"X:1\nT:Test\nM:{metre}\nL:{unit}\nK:{key}\n{music}\n")
    return [note[:3] for note in tune.notes]


def pitches(music, **header):
    return [pitch for _, _, pitch in notes(music, **header)]


def durations(music, **header):
    return [duration for _, duration, _ in notes(music, **header)]


def test_octaves_are_letters_case_commas_and_apostrophes():
    assert pitches("C, C c c'") == [48, 60, 72, 84]


def test_lengths_multiply_the_unit():
    assert durations("C C2 C/ C/4 C3/2 C//") == [HALF, 1, QUARTER, Fraction(1, 8), Fraction(3, 4), Fraction(1, 8)]


def test_rests_take_time():
    assert notes("C z2 C") == [(0, HALF, 60), (Fraction(3, 2), HALF, 60)]


@pytest.mark.parametrize(
    ("key", "sharps"),
    [("C", 0), ("G", 1), ("F", -1), ("Bb", -2), ("F#m", 3), ("Am", 0), ("Gm", -2), ("Ador", 1), ("A Mix", 2),
     ("E Dorian", 2), ("Dmix", 1), ("Bphr", 1), ("Flyd", 0), ("EM", 1), ("Cmaj", 0), ("F#", 6), ("Cb", -7)],
)  # fmt: skip
def test_key_signatures_follow_the_circle_of_fifths(key, sharps):
    assert key_signature(key) == sharps


@pytest.mark.parametrize("key", ["", "H", "Gxyz"])
def test_what_is_no_key_is_refused(key):
    with pytest.raises(ValueError, match="key"):
        key_signature(key)


def test_the_key_alters_every_octave():
    assert pitches("F f c", key="D") == [66, 78, 73]


def test_an_accidental_lasts_until_the_bar_line_in_its_octave():
    assert pitches("^F F f | F =F", key="C") == [66, 66, 77, 65, 65]
    assert pitches("=F F | F", key="G") == [65, 65, 66]
    assert pitches("__B ^^C", key="C") == [69, 62]


def test_broken_rhythm_moves_time_from_one_note_to_the_other():
    assert durations("A>B") == [Fraction(3, 4), QUARTER]
    assert durations("A<B") == [QUARTER, Fraction(3, 4)]
    assert durations("A>>B") == [Fraction(7, 8), Fraction(1, 8)]
    assert durations("(A>)B") == [Fraction(3, 4), QUARTER]  # a slur in between changes nothing


@given(st.lists(st.sampled_from("><"), max_size=8))
def test_broken_rhythm_keeps_the_length_of_each_pair(marks):
    music = " ".join(f"A{mark}B" for mark in marks) + " C"
    assert notes(music)[-1][0] == len(marks)


def test_a_triplet_has_the_time_of_two():
    assert durations("(3ABC D") == [Fraction(1, 3)] * 3 + [HALF]
    assert durations("(2AB", metre="6/8") == [Fraction(3, 4)] * 2
    assert durations("(5ABCDE F", metre="9/8")[:1] == [Fraction(3, 10)]
    assert durations("(3:2:2AB C") == [Fraction(1, 3), Fraction(1, 3), HALF]


def test_ties_join_notes_of_one_pitch_over_the_bar_line():
    assert notes("C2-|C2 D") == [(0, 2, 60), (2, HALF, 62)]
    assert pitches("C-D") == [60, 62]  # between pitches the sign is a slur


def test_chords_sound_together():
    assert notes("[CEG]2 D") == [(0, 1, 60), (0, 1, 64), (0, 1, 67), (1, HALF, 62)]


def test_ornaments_text_and_grace_notes_are_passed_over():
    assert notes('~C {ef}D "Am"E !trill!F .G HA Tc') == notes("C D E F G A c")


def test_endings_and_repeats_stand_once():
    assert notes("|: C D :|1 E F :|2 G A ||") == notes("C D E F G A")


def test_keys_and_units_may_change_on_the_way():
    assert pitches("F |[K:G] F") == [65, 66]
    assert pitches("F |\nK:G\nF") == [65, 66]
    assert durations("C [L:1/16] C") == [HALF, QUARTER]


def test_without_a_unit_the_metre_decides():
    (long,) = read_tunes("X:1\nM:6/8\nK:C\nC\n")
    (short,) = read_tunes("X:1\nM:2/4\nK:C\nC\n")
    assert (long.notes[0][1], short.notes[0][1]) == (HALF, QUARTER)


def test_headers_are_kept_and_tunes_are_told_apart():
    first, second = read_tunes("X:7\nT:One\nT:Another name\nM:C|\nK:Gm\nG\n\nX:8\nT:Two\nM:6/8\nK:D\nD\n\nX:9\nK:C\n")
    assert (first.number, first.title, first.metre, first.key_signature) == ("7", "One", "2/2", -2)
    assert (second.number, second.metre, second.key_signature) == ("8", "6/8", 2)  # 9 has no notes: left out
