"""Mouth shapes: who shares one, how they blend, and that lips touch where they must."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lib.applications.visemes import _SIGNS, DECAY, VISEMES, VOWELS, MouthTrack, viseme_spans, visemes
from aigc_lib.datasets.timed_speech import Span

SIGNS = sorted("".join(_SIGNS.values()))


def spoken(text, start=1.0, each=0.1):
    return [Span(text=sign, start=start + i * each, end=start + (i + 1) * each) for i, sign in enumerate(text)]


@pytest.mark.parametrize(
    ("phoneme", "expected"),
    [
        ("p", ["p b m"]),
        ("ˈA", ["e", "ɪ"]),
        ("ʧ", ["sh"]),
        ("tɕh", ["t d n", "sh", "k g h"]),
        ("ˈɑu", ["a", "w u"]),
        ("s.", ["s z"]),
        ("ˈ", []),
        ("?", []),
    ],
)
def test_a_phoneme_has_its_visemes(phoneme, expected):
    assert visemes(phoneme) == expected


def test_no_sign_has_two_visemes_and_each_viseme_has_a_shape():
    assert len(set(SIGNS)) == len(SIGNS)
    assert set(_SIGNS) | {"rest"} == set(VISEMES)
    assert set(VOWELS) <= set(VISEMES)


def test_every_phoneme_of_the_english_voice_is_seen():
    from aigc_lib.datasets.timed_speech import speak

    said = speak("Judge the thick vision of shy boys: how young girls chew four good lunches, measure back, and zip.")
    assert all(visemes(phoneme.text) for phoneme in said.phonemes)


def test_several_visemes_share_the_time_of_a_phoneme():
    assert viseme_spans([Span(text="ˈI", start=1.0, end=1.2)]) == [
        Span(text="a", start=1.0, end=1.1),
        Span(text="ɪ", start=1.1, end=pytest.approx(1.2)),
    ]


def test_two_neighbours_blend_as_the_formula_says():
    """0.02 s before the edge of a long a and a long i, each of dominance 1."""
    track = MouthTrack(spoken("ai", each=0.12))
    a, i = VISEMES["a"][0].opening, VISEMES["i"][0].opening
    neighbour, rest = math.exp(-DECAY * 0.02), math.exp(-DECAY * (0.1 + 0.08)) + math.exp(-DECAY * (0.02 + 0.12 + 0.05))
    assert track(1.1).opening == pytest.approx((a + neighbour * i) / (1 + neighbour + rest), abs=1e-9)


def test_at_an_edge_a_change_is_half_done():
    between = MouthTrack(spoken("æi", each=0.3))(1.3)
    wide, narrow = VISEMES["æ"][0], VISEMES["i"][0]
    assert between.opening == pytest.approx((wide.opening + narrow.opening) / 2, abs=0.01)
    assert between.width == pytest.approx((wide.width + narrow.width) / 2, abs=0.01)


def test_a_weak_consonant_takes_the_lips_of_its_neighbours():
    between_round, between_wide = MouthTrack(spoken("uku"))(1.15), MouthTrack(spoken("iki"))(1.15)
    assert between_round.rounding > 0.3 > between_wide.rounding
    assert between_wide.width > between_round.width + 0.3


@given(before=st.sampled_from(SIGNS), after=st.sampled_from(SIGNS), lips=st.sampled_from("pbm"))
@settings(deadline=None, max_examples=50)
def test_lips_touch_in_p_b_and_m_and_what_they_show_is_always_possible(before, after, lips):
    track = MouthTrack(spoken(before + lips + after, each=0.06))
    assert track(1.09).opening == pytest.approx(0, abs=1e-12)
    for step in range(60):
        shape = track(0.9 + step / 100)
        assert all(-1e-9 <= value <= 1 + 1e-9 for value in vars(shape).values())


@given(middle=st.floats(1.0, 1.04), length=st.floats(0.005, 0.03))
@settings(deadline=None)
def test_a_contact_is_on_at_least_one_frame_however_short_it_is(middle, length):
    first, last = middle - length / 2, middle + length / 2
    sounds = [("a", 0.8, first), ("b", first, last), ("a", last, 1.3)]
    track = MouthTrack([Span(text=text, start=start, end=end) for text, start, end in sounds])
    assert min(track((i + 0.5) / 25).opening for i in range(20, 32)) == pytest.approx(0, abs=1e-9)


def test_the_mouth_rests_where_nobody_speaks():
    track = MouthTrack([*spoken("aa"), *spoken("aa", start=3.0)])
    assert [track(time).opening < 0.02 for time in (0.2, 1.1, 2.0, 3.1, 4.5)] == [True, False, True, False, True]


def test_the_track_is_smooth():
    track = MouthTrack(spoken("mafapaθuɹi", each=0.08))
    values = [track(0.9 + i / 1000).opening for i in range(1200)]
    assert max(abs(after - before) for before, after in pairwise(values)) < 0.04
