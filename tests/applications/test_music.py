"""Music that can be read and heard: what is given stays, what is asked for is there, and files are whole."""

import numpy as np
import pytest
import soundfile
import torch

from aigc_lib import datasets
from aigc_lib.applications import music as application
from aigc_lib.applications.music import continued, harmonised, music, read_melody, rhythm
from aigc_lib.datasets import scores
from aigc_lib.datasets.base import MusicItem
from aigc_lib.datasets.music import first_bars, first_voice
from aigc_lib.training.checkpoints import load
from aigc_lib.training.recipes.transformer_music import harmonise


@pytest.fixture(scope="module")
def tunes():
    return load("transformer-tunes")


@pytest.fixture(scope="module")
def chorales():
    return load("transformer-chorales")


@pytest.fixture(scope="module")
def chorale():
    return datasets.load("bach", "test")[0]


def new(seed=0):
    return torch.Generator().manual_seed(seed)


def item(notes, metre="4/4", bars=(0.0,)):
    notes = torch.tensor(notes, dtype=torch.float32).view(-1, 4)
    return MusicItem(notes=notes, bars=torch.tensor(bars), title="t", metre=metre, key_signature=0, key="k")


def test_a_harmony_keeps_its_melody_and_adds_three_voices_in_their_ranges(chorales, chorale):
    melody = first_bars(first_voice(chorale), 4)
    made = harmonised(chorales, melody, temperature=0.8, generator=new())
    assert torch.equal(made.notes[made.notes[:, 3] == 0], melody.notes)
    end = float((melody.notes[:, 0] + melody.notes[:, 1]).max())
    for voice, (low, high) in enumerate(scores.RANGES[1:], start=1):
        notes = made.notes[made.notes[:, 3] == voice]
        assert notes[:, 2].clamp(low, high).equal(notes[:, 2])
        assert float(notes[:, 1].sum()) > 0.9 * (end - float(melody.notes[0, 0]))  # they sing nearly all the time
        assert float((notes[:, 0] + notes[:, 1]).max()) <= end + scores.STEP


def test_melodies_of_different_lengths_and_keys_go_through_together(chorales):
    """Cold, so that nothing is drawn: each gets what it gets alone."""
    items = [first_bars(item, bars) for item, bars in zip(datasets.load("bach", "test"), (2, 3, 1), strict=False)]
    together = harmonise(chorales, items, temperature=1e-4, generator=new())
    for item, notes in zip(items, together, strict=True):
        (alone,) = harmonise(chorales, [item], temperature=1e-4, generator=new())
        assert torch.equal(alone, notes)


def test_a_continuation_begins_with_the_melody_and_adds_full_bars(tunes):
    melody = first_bars(datasets.load("oneill", "test")[2], 4)
    made = continued(tunes, melody, bars=5, temperature=0.8, generator=new())
    torch.testing.assert_close(made.notes[: len(melody.notes)], melody.notes, atol=1e-3, rtol=0)
    end = float((melody.notes[:, 0] + melody.notes[:, 1]).max())
    assert (made.notes[len(melody.notes) :, 0] >= end - 1e-3).all()
    assert (made.bars >= end - 1e-3).sum() == 5 + 1  # the line before the first new bar, and one after each


@pytest.mark.parametrize(("metre", "quarters"), [("6/8", 3), ("9/8", 4.5), ("2/2", 4)])
def test_a_rhythm_fills_its_bars(tunes, metre, quarters):
    made = rhythm(tunes, metre, bars=6, temperature=1.5, generator=new())
    assert (made.notes[:, 2] == 60).all()
    torch.testing.assert_close(made.bars.diff(), torch.full((6,), float(quarters)))


def test_left_alone_it_has_heard_how_long_a_bar_is(tunes):
    made = rhythm(tunes, "6/8", bars=24, temperature=0.8, full_bars=False, generator=new())
    assert (made.bars.diff() == 3).double().mean() > 0.66


def test_a_seed_is_a_piece_and_another_one_another(tunes):
    made = [rhythm(tunes, "2/4", bars=4, temperature=1.0, generator=new(seed)).notes.tolist() for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]


def test_all_four_files_are_written_and_say_the_same(chorale, tmp_path):
    import music21

    melody = first_bars(first_voice(chorale), 2)
    files = music("harmonise", tmp_path / "made", melody=melody, device="cpu", progress=False)
    assert {file.suffix for file in files} == {".musicxml", ".mid", ".wav", ".png"}
    beside = {"made.mid.c2pa", "made.musicxml.c2pa"}
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in files} | beside
    counts = []
    for suffix in (".musicxml", ".mid"):
        score = music21.converter.parse(tmp_path / f"made{suffix}")
        assert len(score.parts) == 4
        counts.append([len(part.stripTies().recurse().notes) for part in score.parts])
        assert [note.pitch.midi for note in score.parts[0].stripTies().recurse().notes] == melody.notes[:, 2].tolist()
    assert counts[0] == counts[1]
    sound, rate = soundfile.read(tmp_path / "made.wav")
    assert rate == 24_000
    assert len(sound) / rate > 4
    assert np.abs(sound).max() > 0.5


def test_a_suffix_asks_for_one_file(tmp_path):
    (path,) = music("rhythm", tmp_path / "beat.mid", metre="2/4", bars=2, device="cpu", progress=False)
    assert sorted(tmp_path.iterdir()) == [path, path.with_name("beat.mid.c2pa")]
    assert read_melody(path).notes[:, 2].unique().tolist() == [60]


@pytest.mark.parametrize("suffix", [".musicxml", ".mid"])
def test_what_is_written_can_be_read_and_continued(tunes, suffix, tmp_path):
    melody = first_bars(datasets.load("oneill", "test")[2], 4)
    path = tmp_path / f"tune{suffix}"
    made = continued(tunes, melody, bars=2, temperature=0.8, generator=new())
    application._write(made, [path], "violin", [], {})
    again = read_melody(path)
    assert again.notes[:, 2].tolist() == made.notes[:, 2].tolist()
    assert again.metre == made.metre
    torch.testing.assert_close(again.notes[:, 0].diff(), made.notes[:, 0].diff(), atol=0.02, rtol=0)
    assert len(continued(tunes, again, bars=1, temperature=0.8, generator=new()).notes) > len(again.notes)


def test_abc_is_read_with_its_bars(tmp_path):
    path = tmp_path / "tune.abc"
    path.write_text("X:1\nT:Two bars\nM:2/4\nL:1/8\nK:G\nGABc|d2d2|\n", encoding="utf-8")
    tune = read_melody(path)
    assert tune.notes[:, 2].tolist() == [67, 69, 71, 72, 74, 74]
    assert (tune.title, tune.metre, tune.key_signature, tune.bars.tolist()) == ("Two bars", "2/4", 1, [2.0, 4.0])


def test_cutting_keeps_the_upbeat_and_ends_at_the_bar_line():
    tune = item([(0, 1, 60, 0), (1, 4, 62, 0), (5, 6, 64, 0)], bars=(1.0, 5.0, 9.0))
    assert first_bars(tune, 2).notes.tolist() == [[0, 1, 60, 0], [1, 4, 62, 0], [5, 4, 64, 0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "sing"}, "unknown task"),
        ({"task": "rhythm", "bars": 0}, "bars"),
        ({"task": "rhythm", "metre": "7/8"}, "unknown metre"),
        ({"task": "rhythm", "melody": item([(0, 1, 60, 0)])}, "needs no melody"),
        ({"task": "continue", "metre": "6/8"}, "melody's own"),
        ({"task": "rhythm", "out": "made.txt"}, "ends in"),
        ({"task": "rhythm", "temperature": 0}, "temperature"),
        ({"task": "harmonise", "melody": item([])}, "at least one note"),
        ({"task": "harmonise", "melody": item([(0, 1, 30, 0)])}, "transpose"),
        ({"task": "continue", "melody": item([(0, 1, 60, 0), (0, 1, 64, 0)])}, "overlap"),
        ({"task": "continue", "melody": item([(0, 0.01, 60, 0)])}, "duration"),
    ],
)
def test_bad_input_is_refused_and_leaves_no_file(options, message, tmp_path):
    options = {"out": "made", **options}
    with pytest.raises(ValueError, match=message):
        music(options.pop("task"), tmp_path / options.pop("out"), **options, device="cpu", progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"no music at all"])
@pytest.mark.parametrize("suffix", [".abc", ".mid", ".musicxml"])
def test_a_file_without_music_is_refused_by_name(content, suffix, tmp_path):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="broken"):
        read_melody(path)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.mid"):
        music("continue", tmp_path / "made", melody=tmp_path / "none.mid")


def test_stopped_in_the_middle_nothing_is_left(tmp_path, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    (tmp_path / "made.mid").write_bytes(b"before")
    monkeypatch.setitem(application._CONTENT, ".wav", stop)
    with pytest.raises(KeyboardInterrupt):
        music("rhythm", tmp_path / "made", bars=1, device="cpu", progress=False)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("made.mid", b"before")]
