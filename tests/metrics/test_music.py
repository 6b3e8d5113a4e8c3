"""Voice leading as music21 judges it, distributions, and a detector that finds what was copied."""

import math
from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from aigc_lib import datasets
from aigc_lib.metrics.music import CopyDetector, divergence, intervals, pitch_classes, sounding, voice_leading

chords = st.tuples(st.integers(64, 76), st.integers(58, 70), st.integers(50, 62), st.integers(40, 55))


def notes_of(rows):
    """Chords (soprano to bass) of one quarter each."""
    return torch.tensor(
        [(i, 1, pitch, voice) for i, chord in enumerate(rows) for voice, pitch in enumerate(chord)]
    ).float()


def melody(pitches, lengths=None):
    lengths = lengths or [1.0] * len(pitches)
    onsets = [sum(lengths[:i]) for i in range(len(lengths))]
    return torch.tensor([(o, d, p, 0) for o, d, p in zip(onsets, lengths, pitches, strict=True)]).float()


@given(st.lists(chords, min_size=2, max_size=5))
@settings(deadline=None, max_examples=30)
def test_parallels_are_those_that_music21_finds(rows):
    from music21.note import Note
    from music21.voiceLeading import VoiceLeadingQuartet

    fifths = octaves = 0
    for before, after in pairwise(rows):
        for high, low in combinations(range(4), 2):
            made = [Note(chord[voice]) for voice in (high, low) for chord in (before, after)]
            quartet = VoiceLeadingQuartet(*made)
            same_way = (after[high] - before[high]) * (after[low] - before[low]) > 0
            fifths += quartet.parallelFifth() and same_way
            octaves += (quartet.parallelOctave() or quartet.parallelUnison()) and same_way
    found = voice_leading([notes_of(rows)])
    assert found.parallel_fifths == pytest.approx(100 * fifths / (len(rows) - 1))
    assert found.parallel_octaves == pytest.approx(100 * octaves / (len(rows) - 1))


def test_known_faults_are_counted():
    fifths = voice_leading([notes_of([(72, 67, 60, 48), (74, 69, 62, 47)])])
    assert fifths.parallel_fifths == 100 * 1  # alto over tenor, 67–60 to 69–62
    assert fifths.parallel_octaves == 100 * 1  # soprano over tenor
    assert voice_leading([notes_of([(72, 67, 60, 48), (72, 67, 60, 48)])]).parallel_fifths == 0  # nobody moves
    assert voice_leading([notes_of([(60, 67, 55, 48)])]).crossing == 100
    assert voice_leading([notes_of([(90, 67, 55, 48), (72, 67, 55, 48)])]).out_of_range == 50


def test_bach_seldom_breaks_the_rules():
    found = voice_leading([item.notes for item in datasets.load("bach", "test")])
    assert found.parallel_fifths < 0.5
    assert found.parallel_octaves < 0.5
    assert found.out_of_range < 1


def test_a_silent_voice_is_no_fault():
    notes = notes_of([(72, 67, 60, 48), (74, 69, 62, 47)])
    found = voice_leading([notes[notes[:, 3] != 1]])
    assert found.out_of_range == found.crossing == found.parallel_fifths == 0


def test_a_held_note_sounds_in_every_chord_until_it_ends():
    notes = torch.tensor([[0.0, 2, 72, 0], [0, 1, 48, 3], [1, 1, 50, 3]])
    assert [(chord[0], chord[3]) for chord in sounding(notes)] == [(72, 48), (72, 50)]


def test_pitch_classes_are_counted_from_the_tonic():
    scale = [0, 2, 4, 5, 7, 9, 11]
    for sharps, tonic in ((0, 60), (1, 67), (-2, 58)):
        found = pitch_classes(melody([tonic + step for step in scale]), sharps)
        assert found.nonzero().flatten().tolist() == scale
        assert found.sum() == pytest.approx(1)


def test_intervals_are_steps_within_a_voice():
    found = intervals(notes_of([(72, 60, 55, 48), (74, 60, 50, 20)]))
    assert found[12 + 2] == found[12] == found[12 - 5] == found[0] == 0.25


def test_divergence_is_0_for_equal_and_1_for_disjoint():
    first, second = torch.tensor([0.5, 0.5, 0, 0]), torch.tensor([0, 0, 0.5, 0.5])
    assert divergence(first, first) == 0
    assert divergence(first, second) == pytest.approx(1)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=12), st.integers(1, 9))
def test_divergence_is_scipys(counts, more):
    first, second = (torch.tensor(each, dtype=torch.float64) + 0.0 for each in zip(*counts, strict=True))
    first[0] += more
    second[1] += more
    first, second = first / first.sum(), second / second.sum()
    oracle = jensenshannon(first.numpy(), second.numpy(), base=2) ** 2
    assert divergence(first, second) == pytest.approx(0 if math.isnan(oracle) else oracle, abs=1e-12)
    assert 0 <= divergence(first, 0.3 * first + 0.7 * first) < 1e-12


@given(st.lists(st.integers(55, 80), min_size=5, max_size=30), st.integers(-7, 7), st.data())
@settings(deadline=None)
def test_a_copy_in_another_key_is_found_at_its_whole_length(pitches, shift, data):
    start = data.draw(st.integers(0, len(pitches) - 3))
    copied = pitches[start:]
    detector = CopyDetector([melody(pitches), melody([60, 61])])
    assert detector.longest_run(melody([pitch + shift for pitch in copied])) == len(copied)


def test_a_run_does_not_reach_from_one_piece_into_the_next():
    detector = CopyDetector([melody([60, 62]), melody([60, 65])])
    assert detector.longest_run(melody([60, 62, 67])) == 2


def test_other_durations_are_no_copy():
    detector = CopyDetector([melody([60, 62, 64])])
    assert detector.longest_run(melody([60, 62, 64], [1.0, 0.5, 0.5])) == 0


@pytest.mark.parametrize("notes", [torch.zeros(0, 4), torch.zeros(3, 3), torch.tensor([[0.0, 1, 60, 7]])])
def test_what_has_no_four_voices_is_refused(notes):
    with pytest.raises(ValueError, match="voices"):
        voice_leading([notes])


def test_no_piece_is_an_error():
    with pytest.raises(ValueError, match="at least one piece"):
        voice_leading([])
