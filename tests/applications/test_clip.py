"""The showcase: what a sentence becomes, that voice comes before music, and that the film says what it is."""

from itertools import islice

import numpy as np
import pytest
import torch

from aigc_lib.applications import clip as application
from aigc_lib.applications import clip_pictures
from aigc_lib.applications.captions import read_sound
from aigc_lib.applications.clip import LABEL, QUIET, TITLE, checked, clip, ducked, frames, level, mixed, write_script
from aigc_lib.applications.clip_pictures import named_things, paper, put, title_rows
from aigc_lib.applications.presenter import labelled
from aigc_lib.cli import main
from aigc_lib.datasets.timed_speech import Span
from aigc_lib.datasets.video_files import open_video
from aigc_lib.trust.provenance import read

SENTENCE = "A cat sings to the moon while the rain falls."
SMALL = (90, 160)


@pytest.fixture(scope="module", autouse=True)
def few_steps():
    """Of gradient descent: styles that are near their pictures are enough here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip_pictures, "_STEPS", 20)
        yield


@pytest.fixture(scope="module")
def script():
    return write_script(SENTENCE, seed=1)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return clip(SENTENCE, tmp_path_factory.mktemp("clip") / "film.mp4", size=SMALL, seed=1, progress=False)


def words(text):
    return [Span(text=word, start=float(i), end=i + 0.5) for i, word in enumerate(text.split())]


def test_the_film_is_as_long_and_as_large_as_was_said(film, script):
    video = open_video(film)
    assert (video.height, video.width, video.frame_rate) == (*SMALL, 25)
    assert 16 <= video.n_frames / 25 == script.seconds <= 20


def test_the_film_says_that_it_is_generated_and_by_what(film):
    found = read(film)
    assert found.state == "valid"
    assert found.source_type == "trainedAlgorithmicMedia"
    assert set(application.NETWORKS) < set(found.ingredients)
    assert all(found.ingredients[name].startswith("sha256:") for name in application.NETWORKS)
    assert found.parameters == {"sentence": SENTENCE, "seed": 1}
    ink = (labelled(torch.zeros(1, 3, *SMALL), LABEL) > 0.3).all(dim=1)[0]  # where the letters are
    for chunk in open_video(film).chunks(50):
        assert chunk.mean(dim=1)[:, ink].mean(dim=1).min() > 0.3


def test_its_sound_is_the_mixture_in_place(film, script):
    heard = read_sound(film).numpy()[: 16 * 16_000]
    wanted = torch.nn.functional.interpolate(mixed(script)[None, None], scale_factor=2 / 3, mode="linear")[0, 0].numpy()
    assert np.corrcoef(heard, wanted[: len(heard)])[0, 1] > 0.95


def test_a_seed_gives_the_same_frames_and_sound(script):
    again = write_script(SENTENCE, seed=1)
    assert torch.equal(mixed(again), mixed(script))
    for ours, theirs in islice(zip(frames(script, SMALL), frames(again, SMALL), strict=True), 100):
        assert torch.equal(ours, theirs)


def test_things_are_painted_when_they_are_named(script):
    assert [picture.word for picture in script.pictures] == ["cat", "moon", "rain"]
    said = {word.text.strip(".,"): word.start for word in script.said.words}
    for picture in script.pictures:
        assert picture.time == pytest.approx(TITLE + said[picture.word])
    times = [picture.time for picture in script.pictures]
    shown = clip_pictures.melting(script.pictures, [0.0, *times])
    for picture, image in zip(script.pictures, shown[1:], strict=True):
        assert torch.allclose(image, picture.detail, atol=1e-5)


def test_captions_begin_with_their_words(script):
    starts = [TITLE + word.start for word in script.said.words]
    assert all(min(abs(caption.start - start) for start in starts) < 1e-6 for caption in script.captions)
    assert " ".join(line for caption in script.captions for line in caption.lines) == SENTENCE


def test_the_voice_is_well_above_the_music_and_the_effects(script):
    begin, end = (round((TITLE + t) * 24_000) for t in (script.said.words[0].start, script.said.words[-1].end))
    voice, music, effects = (track[begin:end] for track in (script.voice, script.music, script.effects))
    assert level(voice) - level(music) > 15
    assert level(voice) - level(effects) > 6
    assert level(script.music[:begin]) - level(music) > 5  # it comes forward when nobody speaks
    assert mixed(script).abs().max() <= 0.95 + 1e-6


def test_ducking_sets_the_level_asked_for():
    generator = torch.Generator().manual_seed(0)
    music, voice = 0.3 * torch.randn(24_000 * 12, generator=generator), torch.zeros(24_000 * 12)
    voice[24_000 * 4 : 24_000 * 8] = 0.1 * torch.randn(24_000 * 4, generator=generator)
    quiet = ducked(music, voice, 4.0, 8.0)
    speaking = slice(24_000 * 4, 24_000 * 8)
    assert level(quiet[speaking]) - level(voice[speaking]) == pytest.approx(QUIET, abs=0.05)
    assert quiet[:10].abs().max() < 0.01 > quiet[-10:].abs().max()  # it fades in and out


def test_words_find_what_emoji_are_named_after():
    found = {span.text: items for span, items in named_things(words("Dogs, rain, and night; the red idea"))}
    assert set(found) == {"Dogs,", "rain,", "night;"}
    assert {item.caption["en"] for item in found["Dogs,"]} == {"dog"}
    assert all("rain" in item.caption["en"] for item in found["rain,"])


def test_nothing_is_painted_twice_and_not_too_much():
    assert [span.start for span, _ in named_things(words("cat cats moon"))] == [0.0, 2.0]
    assert len(named_things(words("cat dog moon sun star tree house ship"))) == clip_pictures.MOST


def test_a_sentence_that_names_nothing_gets_invented_pictures():
    generator = torch.Generator().manual_seed(0)
    pictures = clip_pictures.paint(words("hope thinks slowly"), generator=generator)
    assert [picture.word for picture in pictures] == [""] * clip_pictures.FEWEST
    assert all(0 <= picture.time <= 2.5 for picture in pictures)


def test_pictures_are_transparent_colour():
    sheet = paper(90, 160).clone()
    before = sheet.clone()
    put(sheet, torch.ones(3, 32, 32), (0.5, 0.5), 0.5, 1.0)  # white leaves the paper as it is
    assert torch.allclose(sheet, before, atol=0.02)
    put(sheet, -torch.ones(3, 32, 32), (0.5, 0.5), 0.5, 1.0)
    assert sheet[:, 45, 80].max() < 0.05
    assert torch.equal(sheet[:, :10], before[:, :10])


@pytest.mark.parametrize("sentence", ["One.", "word " * 25, "a" * 299])
def test_titles_stay_inside_the_frame(sentence):
    rows = title_rows(sentence)
    assert "".join(row[0] for row in rows).replace(" ", "") == sentence.replace(" ", "")
    assert all(0.1 < y < 0.95 for _, _, _, y in rows)
    letters = clip_pictures._letters(rows, 180, 320)
    assert letters[:, :4].max() == letters[:, -4:].max() == 0 < letters.max()


@pytest.mark.parametrize(
    ("sentence", "message"),
    [
        ("   ", "needs a sentence with words, got ''"),
        ("42!", "needs a sentence with words"),
        ("一只猫看月亮", "got '一 只 猫 看 月 亮'.*write the sentence in English"),
        ("A cat 🐈.", "got '🐈'"),
        ("so " * 120, "room for 11 s of speech, about 30 words, got 359 characters"),
    ],
)
def test_what_cannot_be_said_is_refused(tmp_path, sentence, message):
    with pytest.raises(ValueError, match=message):
        clip(sentence, tmp_path / "film.mp4")
    assert not list(tmp_path.iterdir())


def test_a_sentence_that_takes_too_long_is_refused():
    assert checked(" a  cat\n") == "a cat"
    with pytest.raises(ValueError, match=r"room for 11 s of speech.*got 1\d\.\d s; shorten"):
        write_script("Every extraordinary elephant remembers " * 6)


@pytest.mark.parametrize(("out", "size"), [("film.mov", SMALL), ("film.mp4", (90, 100)), ("film.mp4", (60, 160))])
def test_other_endings_and_sizes_are_refused(tmp_path, out, size):
    with pytest.raises(ValueError, match=r"ends in \.mp4|90 to 1080 high"):
        clip("A cat.", tmp_path / out, size=size)


def test_stopped_halfway_it_leaves_what_was_there(tmp_path, monkeypatch, script):
    (tmp_path / "f.mp4").write_bytes(b"before")

    def stopped(*_):
        yield torch.zeros(1, 3, *SMALL)
        raise KeyboardInterrupt

    monkeypatch.setattr(application, "write_script", lambda *_, **__: script)
    monkeypatch.setattr(application, "frames", stopped)
    with pytest.raises(KeyboardInterrupt):
        clip(SENTENCE, tmp_path / "f.mp4", size=SMALL, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["f.mp4"]
    assert (tmp_path / "f.mp4").read_bytes() == b"before"


def test_the_commands(film, capsys, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(application, "clip", lambda *given, **options: asked.append((given, options)) or given[1])
    assert main(["make", "clip", "A cat.", str(tmp_path / "f.mp4"), "--size", "90", "160", "--seed", "3"]) == 0
    assert asked == [(("A cat.", tmp_path / "f.mp4"), {"size": (90, 160), "seed": 3})]
    assert main(["verify", str(film)]) == 0
    assert "trainedAlgorithmicMedia" in capsys.readouterr().out
    data = bytearray(film.read_bytes())
    data[data.index(b"mdat") + 1000] ^= 1
    (tmp_path / "changed.mp4").write_bytes(data)
    assert main(["verify", str(tmp_path / "changed.mp4")]) == 1
    assert "assertion.bmffHash.mismatch" in capsys.readouterr().out
