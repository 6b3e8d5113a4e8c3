"""Blocks lie on the grid and on what is heard, and can always be played."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lib.applications.note_map import (
    CUTS,
    HANDS,
    LEVELS,
    NEAR,
    QUICKEST,
    Note,
    broken_rules,
    note_map,
    on_grid,
    place,
)
from aigc_lib.metrics.events import detected

RATE = 16_000
GENERATOR = torch.Generator()
rising = st.lists(st.floats(0.01, 1.5), min_size=1, max_size=60).map(lambda gaps: torch.tensor(gaps).cumsum(0))


def clicks(times, seconds):
    audio = torch.zeros(round(seconds * RATE))
    fading = torch.exp(-torch.arange(800) / 100) * torch.sin(torch.arange(800) * 0.9)
    for time in times:
        start = round(time * RATE)
        audio[start : start + 800] += fading[: len(audio) - start]
    return 0.5 * audio


@given(times=rising, seed=st.integers(0, 2**32), strong=st.booleans())
@settings(deadline=None, max_examples=60)
def test_whatever_the_music_the_blocks_can_be_played(times, seed, strong):
    slots = [(time, i / 2) for i, time in enumerate(times.tolist())]
    notes = place(slots, [strong] * len(slots), generator=GENERATOR.manual_seed(seed))
    assert broken_rules(notes) == []
    placed = {note.time for note in notes}
    assert placed <= {round(time, 4) for time, _ in slots}
    quiet = [b for (a, _), (b, _) in zip([(-9.0, 0), *slots], slots, strict=False) if b - a >= QUICKEST]
    assert {round(time, 4) for time in quiet} <= placed  # none is left out without a reason


def note(time, hand="left", cut="down", **other):
    return Note(**({"time": time, "beat": 0.0, "hand": hand, "lane": HANDS[hand][0], "row": 1, "cut": cut} | other))


@pytest.mark.parametrize(
    ("notes", "rule"),
    [
        ([note(1.0), note(1.5)], "cuts down twice running"),
        ([note(1.0), note(1.05, cut="up")], "too quick for the left hand"),
        ([note(1.0), note(1.0, cut="up")], "too quick"),
        ([note(1.0), note(0.5, "right")], "not in the order"),
        ([note(1.0, lane=2)], "out of the left hand's reach"),
        ([note(1.0, row=3)], "out of the left hand's reach"),
        ([note(1.0, cut="round")], "out of the left hand's reach"),
    ],
)
def test_each_rule_is_noticed_when_it_is_broken(notes, rule):
    assert rule in broken_rules(notes)[0]


def test_what_hands_may_do():
    assert broken_rules([note(1.0), note(1.0, "right"), note(1.3, cut="up"), note(3.0, cut="up")]) == []


@given(beat=st.floats(0.3, 1.0), first=st.floats(0, 2), parts=st.sampled_from([1, 2, 4]), seed=st.integers(0, 999))
@settings(deadline=None, max_examples=40)
def test_onsets_near_the_grid_are_put_on_it_and_the_others_left_out(beat, first, parts, seed):
    beats = first + beat * torch.arange(8, dtype=torch.float64)
    wanted = torch.arange(0, 7 * parts, 3)
    exact = beats[0] + beat / parts * wanted
    off = (torch.rand(len(exact), generator=GENERATOR.manual_seed(seed)) - 0.5) * min(0.1, 0.9 * beat / parts)
    slots = on_grid(exact + off, beats, parts)
    assert [time for _, time, _ in slots] == pytest.approx(exact.tolist())
    assert [place for _, _, place in slots] == pytest.approx((wanted / parts).tolist())
    assert [i for i, _, _ in slots] == list(range(len(exact)))
    if beat / parts > 2 * (NEAR + 0.01):
        assert on_grid(exact + NEAR + 0.01, beats, parts) == []


def test_two_onsets_at_one_place_are_one_block_and_the_nearer_counts():
    beats = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    assert on_grid(torch.tensor([0.95, 1.01]), beats, 1) == [(1, 1.0, 1.0)]


def test_blocks_are_where_clicks_are():
    true = [0.5 * i for i in range(1, 24)]
    made = note_map(clicks(true, 12.5), RATE, generator=GENERATOR.manual_seed(0))
    assert made["tempo"] == pytest.approx(120, rel=0.01)
    times = sorted({each["time"] for each in made["notes"]})
    assert detected(times, true, within=0.02).f1 > 0.95
    assert json.loads(json.dumps(made)) == made
    assert broken_rules([Note(**each) for each in made["notes"]]) == []
    assert {each["cut"] for each in made["notes"]} <= set(CUTS)


def test_harder_levels_have_no_fewer_blocks():
    true = sorted([0.5 * i for i in range(1, 24)] + [0.25 + 0.5 * i for i in range(4, 20)])
    audio = clicks(true, 12.5)
    counts = [
        len({each["time"] for each in note_map(audio, RATE, level=level, generator=GENERATOR.manual_seed(0))["notes"]})
        for level in LEVELS
    ]
    assert counts[0] < counts[1] <= counts[2]


def test_a_generator_decides_the_blocks_and_the_music_their_times():
    audio = clicks([0.5 * i for i in range(1, 24)], 12.5)
    maps = [note_map(audio, RATE, generator=GENERATOR.manual_seed(seed))["notes"] for seed in (0, 0, 1)]
    assert maps[0] == maps[1] != maps[2]
    times = [sorted({each["time"] for each in each_map}) for each_map in maps]
    assert times[0] == times[2]


def test_without_a_beat_or_with_an_unknown_level_there_is_no_map():
    with pytest.raises(ValueError, match="unknown level 'hard'; there are: easy, normal, expert"):
        note_map(torch.zeros(RATE * 6), RATE, level="hard", generator=GENERATOR)
    with pytest.raises(ValueError, match="silent"):
        note_map(torch.zeros(RATE * 6), RATE, generator=GENERATOR)
