"""A scene is one file that needs no other; wrong wishes leave none."""

import base64
import io
import json
import re

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from aigc_lib.applications import scene as module
from aigc_lib.applications import sound_effects
from aigc_lib.applications.note_map import FORMAT, Note, broken_rules
from aigc_lib.applications.panorama import seam_of
from aigc_lib.applications.scene import TEMPI, cut_out, page_of, portrait, scene, tune_with_drum
from aigc_lib.cli import main
from aigc_lib.metrics.events import detected
from aigc_lib.training.checkpoints import load

OPTIONS = {"height": 64, "seconds": 6.0, "progress": False}


@pytest.fixture(scope="module", autouse=True)
def few_iterations():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sound_effects, "_ITERATIONS", 5)
        yield


def content_of(path):
    return json.loads(re.search(r'id="content">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)[1])


def decoded(uri):
    kind, _, text = uri.partition(";base64,")
    return kind, io.BytesIO(base64.b64decode(text))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return scene(tmp_path_factory.mktemp("scene") / "scene.html", sounds=("fire", "bell"), **OPTIONS)


def test_everything_is_in_one_file_that_asks_for_no_other(made):
    text = made.read_text(encoding="utf-8")
    assert sorted(path.name for path in made.parent.iterdir()) == ["scene.html", "scene.html.c2pa", "scene.json"]
    outside = re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.DOTALL)
    assert not re.search(r"https?:|//[a-z]+\.|fetch\(|XMLHttpRequest|import\(|@import|url\(", outside)
    assert "default-src 'none'" in outside
    assert "AI-generated" in outside
    assert "Twemoji" in content_of(made)["credits"]


def test_the_panorama_is_whole_after_compression(made):
    kind, file = decoded(content_of(made)["panorama"])
    pixels = np.asarray(Image.open(file).convert("RGB"))
    assert (kind, pixels.shape) == ("data:image/webp", (64, 128, 3))
    seam = seam_of(torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255)
    assert seam.jump <= seam.largest_jump
    assert seam.bend <= seam.largest_bend


def test_what_sounds_is_there_to_be_seen_and_heard(made):
    things = content_of(made)["things"]
    assert sorted(thing["kind"] for thing in things) == ["bell", "fire"] + 4 * ["portrait"]
    for thing in things:
        assert abs(thing["azimuth"]) > 0.4  # ahead it is free
        assert ("sound" in thing) == (thing["kind"] != "portrait")
    for thing in things:
        if "sound" in thing:
            audio, rate = soundfile.read(decoded(thing["sound"])[1])
            assert (rate, len(audio)) == (16_000, 40_000)
            assert abs(audio).max() == pytest.approx(0.9, abs=1e-3)


def test_the_map_beside_it_is_the_map_inside_and_can_be_played(made):
    game = json.loads(made.with_suffix(".json").read_text())
    content = content_of(made)
    assert game == content["map"]
    assert game["format"] == FORMAT
    assert broken_rules([Note(**note) for note in game["notes"]]) == []
    audio, rate = soundfile.read(decoded(content["music"])[1])
    assert len(audio) / rate == game["seconds"] == 6.0


def test_beats_of_the_tune_are_where_they_are_said_to_be():
    audio, beats = tune_with_drum(load("stylegan-effects"), 10.0, generator=torch.Generator().manual_seed(1))
    game = module.note_map.note_map(audio, 16_000, level="easy", generator=torch.Generator())
    assert TEMPI[0] <= 60 / beats.diff().mean() <= TEMPI[1]
    assert detected(game["beats"], beats, within=0.07).f1 > 0.9
    assert detected({note["time"] for note in game["notes"]}, beats, within=0.02).precision > 0.9


def test_white_is_clear_only_as_far_as_it_reaches_the_edge():
    image = torch.ones(3, 8, 8)
    image[:, 2:6, 2:6] = -1
    image[:, 3:5, 3:5] = 1  # white within
    opacity = cut_out(image)[3]
    assert opacity.shape == (32, 32)
    assert opacity[8:24, 8:24].all()
    assert opacity.sum() == 16 * 16


def test_a_portrait_keeps_its_picture_and_stands_on_a_post():
    image = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    board = portrait(image)
    assert board.shape == (4, 52, 36)
    torch.testing.assert_close(board[:3, 4:34:4, 4:34:4], (image + 1) / 2)
    assert board[3, :36].all()
    assert board[3, -1].nonzero().flatten().tolist() == [16, 17, 18, 19]


def test_text_that_would_end_the_script_cannot():
    page = page_of({"credits": "</script><script>alert(1)</script>"})
    assert page.count("</script>") == 2
    assert r"\u003c/script>" in page


def test_other_music_is_played_to(tmp_path):
    times = torch.arange(8 * 44_100) / 44_100
    beat = torch.exp(-(times % 0.6) * 30) * torch.sin(2000 * times)
    soundfile.write(tmp_path / "beat.wav", torch.stack([beat, beat], dim=1).numpy(), 44_100)
    path = scene(tmp_path / "a.html", music=tmp_path / "beat.wav", sounds=(), **OPTIONS)
    assert content_of(path)["map"]["tempo"] == pytest.approx(100, rel=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": "scene.mp4"}, "ends in .html, got 'scene.mp4'"),
        ({"light": "noon"}, "unknown light 'noon'; there are: day, dusk, night"),
        ({"sounds": ("fire", "zap")}, "unknown sound 'zap'; there are: fire"),
        ({"sounds": ("fire", "fire")}, "each sound may be there once"),
        ({"seconds": 5.0}, "lasts 6 to 120 seconds, got 5"),
        ({"height": 63}, "even height of 64 to 2,048"),
        ({"level": "hard"}, "unknown level 'hard'"),
        ({"music": "scene.txt"}, "is no sound file"),
        ({"music": "silent.wav"}, "silent"),
        ({"music": "short.wav"}, "lasts 1.0"),
    ],
)
def test_wrong_wishes_are_refused_and_leave_no_file(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scene.txt").write_text("no sound")
    soundfile.write("silent.wav", np.zeros(7 * 8000), 8000)
    soundfile.write("short.wav", np.zeros(8000), 8000)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=message):
        scene(**({"out": "scene.html"} | OPTIONS | options))
    assert sorted(tmp_path.iterdir()) == before


def test_stopped_before_the_end_it_leaves_nothing(tmp_path, monkeypatch):
    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "page_of", stopped)
    with pytest.raises(KeyboardInterrupt):
        scene(tmp_path / "scene.html", sounds=(), **OPTIONS)
    assert list(tmp_path.iterdir()) == []


def test_the_command_passes_its_options_on(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(module, "scene", lambda out, **options: calls.append(options) or out)
    words = "make scene a.html --light night --sounds rain --level easy --height 512 --seed 3"
    assert main(words.split()) == 0
    options = {"light": "night", "sounds": ["rain"], "music": None, "seconds": 24.0, "level": "easy", "height": 512}
    assert calls == [options | {"seed": 3}]
    assert capsys.readouterr().out == "a.html\n"
    with pytest.raises(FileNotFoundError, match=r"no sound file at none\.wav"):
        module.read_music("none.wav")
