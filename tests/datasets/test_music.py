"""Chorales and tunes are read as music21 reads them, and the same melody is never in two splits."""

import zipfile
from fractions import Fraction

import pytest
import torch

from aigc_lib.datasets import load
from aigc_lib.datasets.abc_notation import read_tunes
from aigc_lib.datasets.base import SPLITS
from aigc_lib.datasets.music import VOICES, join_ties, read_musicxml
from aigc_lib.datasets.provenance import info
from aigc_lib.datasets.sources import verify


@pytest.fixture(scope="module", params=["bach", "oneill", "ryan"])
def pieces(request):
    return {split: load(request.param, split) for split in SPLITS}


def test_notes_are_sorted_positive_and_singable(pieces):
    for data in pieces.values():
        for item in data:
            onset, duration, pitch, _ = item.notes.T
            assert item.notes.dtype == torch.float32
            assert (onset.diff() >= 0).all()
            assert duration.min() > 0
            assert pitch.min() >= 36
            assert pitch.max() <= 96


def melody(item):
    """Intervals of the highest voice without repeats, so that transposed melodies are equal."""
    pitch = item.notes[item.notes[:, 3] == 0][:, 2]
    intervals = pitch.diff()
    return tuple(intervals[intervals != 0][:8].tolist())


def test_no_chorale_melody_begins_alike_in_two_splits():
    openings = [{melody(item) for item in load("bach", split)} for split in SPLITS]
    assert not openings[0] & openings[1]
    assert not openings[0] & openings[2]
    assert not openings[1] & openings[2]


@pytest.mark.parametrize("name", ["oneill", "ryan"])
def test_settings_of_one_title_stay_together(name):
    titles = [{"".join(filter(str.isalnum, item.title.lower())) for item in load(name, split)} for split in SPLITS]
    assert not titles[0] & titles[1]
    assert not titles[0] & titles[2]


def test_chorales_have_four_voices_from_high_to_low():
    for item in load("bach", "test"):
        voices = [item.notes[item.notes[:, 3] == voice] for voice in range(4)]
        means = [float(voice[:, 2].mean()) for voice in voices]
        assert means == sorted(means, reverse=True)
        ends = [float((voice[:, 0] + voice[:, 1]).max()) for voice in voices]
        assert max(ends) - min(ends) <= 4  # they end together, but for rests


def test_the_first_tune_of_oneill_begins_as_printed():
    (tune,) = (item for split in SPLITS for item in load("oneill", split) if item.key == "0001-0050/1")
    assert (tune.title, tune.metre, tune.key_signature) == ("The Enchanted Valley", "2/4", -2)
    # G3-A (Bcd=e) | f4 in sixteenths, G minor: G A B-flat C D E-natural F
    assert tune.notes[:7, 2].tolist() == [67, 69, 70, 72, 74, 76, 77]
    assert tune.notes[:7, 1].tolist() == [0.75, 0.25, 0.25, 0.25, 0.25, 0.25, 1.0]


def test_ties_lengthen_only_the_note_that_they_continue():
    events = [(0, 1, 60, False), (1, 1, 60, True), (2, 1, 60, False), (3, 1, 62, True)]
    assert join_ties(events) == [(0, 2, 60), (2, 1, 60), (3, 1, 62)]
    assert join_ties([(0, 1, 60, False), (2, 1, 60, True)]) == [(0, 1, 60), (2, 1, 60)]  # a rest lies between


def score(bars):
    """A compressed MusicXML file with the same bars in four voices."""
    part = "".join(f"<measure><attributes><divisions>2</divisions></attributes>{bar}</measure>" for bar in bars)
    names = "".join(f'<score-part id="{v}"><part-name>{v}</part-name></score-part>' for v in VOICES)
    parts = "".join(f'<part id="{voice}">{part}</part>' for voice in VOICES)
    return f"<score-partwise><part-list>{names}</part-list>{parts}</score-partwise>"


def written(tmp_path, text, name="score.xml"):
    path = tmp_path / "piece.mxl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, text)
    return path


def note(step, duration, octave=4, extra=""):
    pitch = f"<pitch><step>{step}</step><octave>{octave}</octave></pitch>"
    return f"<note>{extra}{pitch}<duration>{duration}</duration></note>"


def test_chords_backups_rests_and_short_bars_keep_their_time(tmp_path):
    rest = "<note><rest/><duration>2</duration></note>"
    bars = [
        note("C", 2),  # an upbeat of one quarter
        note("D", 2) + note("F", 2, extra="<chord/>") + rest + "<backup><duration>2</duration></backup>" + note("E", 2),
        note("G", 4),
    ]
    piece = read_musicxml(written(tmp_path, score(bars)), key="k")
    soprano = [(onset, duration, pitch) for onset, duration, pitch, voice in piece.notes if voice == 0]
    assert soprano == [(0, 1, 60), (1, 1, 62), (1, 1, 65), (2, 1, 64), (3, 2, 67)]


def test_a_file_without_four_voices_is_no_chorale(tmp_path):
    solo = "<score-partwise><part-list><score-part id='P'/></part-list><part id='P'/></score-partwise>"
    assert read_musicxml(written(tmp_path, solo), key="k") is None


def test_an_archive_without_a_score_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"one score in piece\.mxl, found 0"):
        read_musicxml(written(tmp_path, "", name="notes.txt"), key="k")


@pytest.mark.slow
def test_chorales_agree_with_music21_note_for_note():
    from music21 import converter

    files = verify(info("bach"))
    for key in ("bwv1.6", "bwv10.7", "bwv248.64-s", "bwv300", "bwv66.6"):
        path = files[f"music21/corpus/bach/{key}.mxl"]
        parts = {part.partName: part for part in converter.parse(path, forceSource=True).parts}
        expected = [
            (float(sound.offset), float(sound.quarterLength), pitch.midi, voice)
            for voice, name in enumerate(VOICES)
            for sound in parts[name].stripTies().flatten().notes
            for pitch in sound.pitches
        ]
        assert sorted(read_musicxml(path, key=key).notes) == sorted(expected)


@pytest.mark.slow
def test_tunes_agree_with_music21_note_for_note():
    """On tunes without what music21 10.5.1 gets wrong: accidentals that hold, quoted text, broken rhythm at a slur."""
    from music21 import abcFormat
    from music21.abcFormat.translate import abcToStreamScore

    text = verify(info("oneill"))["music21/corpus/oneills1850/1176-1275.abc"].read_text(encoding="utf-8")
    handler = abcFormat.ABCHandler()
    handler.process(text)
    scores = handler.splitByReferenceNumber()
    compared = []
    for tune, block in zip(read_tunes(text), text.split("X:")[1:], strict=True):
        body = block.split("K:", 1)[1]
        if any(sign in body for sign in '"^_={H>)<)~T'):
            continue
        expected = [
            (
                Fraction(sound.offset).limit_denominator(960),
                Fraction(sound.quarterLength).limit_denominator(960),
                p.midi,
            )
            for sound in abcToStreamScore(scores[int(tune.number)]).stripTies().flatten().notes
            for p in sound.pitches
        ]
        assert sorted(note[:3] for note in tune.notes) == sorted(expected), tune.title
        compared.append(tune.number)
    assert len(compared) == 6
