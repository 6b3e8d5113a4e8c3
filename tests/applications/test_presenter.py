"""The presenter as a file: what is in it, whether lips and sound are together, and what happens when it is stopped."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from aigc_lib.applications import lip_sync, presenter
from aigc_lib.applications.subtitles import Caption, burn_in
from aigc_lib.applications.visemes import VOWELS, visemes
from aigc_lib.datasets import mandarin, timed_speech
from aigc_lib.datasets.timed_speech import Span, speak
from aigc_lib.datasets.video_files import open_video

TEXT = "Bob may stop a big map."


def frames_of(path):
    return torch.cat(list(open_video(path).chunks()))


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return presenter.presenter(TEXT, tmp_path_factory.mktemp("film") / "film.mp4", progress=False, seed=3)


def test_the_film_lasts_as_long_as_the_speech(film):
    video, said = open_video(film), speak(TEXT, seed=3)
    assert (video.height, video.width, video.frame_rate) == (320, 320, 25)
    assert video.n_frames == math.ceil(len(said.audio) / said.sample_rate * 25)


def test_the_sound_is_the_speech_and_in_place(film):
    said = speak(TEXT, seed=3)
    sound, rate = lip_sync.film_sound(film)
    assert abs(lip_sync.sound_delay(sound, said.audio, rate)) < 0.001
    n = min(len(sound), len(said.audio))
    assert np.corrcoef(sound[:n], said.audio[:n])[0, 1] > 0.98


def test_lips_and_sound_are_together(film):
    said = speak(TEXT, seed=3)
    opening = lip_sync.mouth_opening(frames_of(film), presenter.look_of(3))
    assert abs(lip_sync.picture_delay(opening, 25, said.phonemes)) < 0.03
    closures = np.array(lip_sync.closure_delays(opening, 25, said.phonemes))
    assert np.isfinite(closures).sum() >= 3
    assert np.nanmax(np.abs(closures)) < 0.04


def test_every_frame_says_that_it_was_generated(film):
    frames = frames_of(film)
    corner = frames[:, :, 8:40, 8:210]
    assert (corner > 0.8).all(dim=1).float().mean(dim=(1, 2)).min() > 0.05  # letters
    plain = presenter.labelled(torch.zeros(1, 3, 320, 320), "AI-generated")
    assert plain[0, :, 12:38, 12:60].min() < -0.5 < 0.9 < plain[0, :, 12:38, 12:200].max()
    assert plain[..., 46:, :].abs().max() == 0


def test_the_words_stand_in_the_picture_when_they_are_said(film, tmp_path):
    without = presenter.presenter(TEXT, tmp_path / "plain.mp4", progress=False, seed=3, subtitles=False)
    difference = (frames_of(film) - frames_of(without)).abs()[:, :, 260:].mean(dim=(1, 2, 3))
    assert difference[:5].max() < 0.03  # nothing is said yet
    assert difference[15] > 0.1
    said = burn_in(frames_of(without)[15:16], [Caption(lines=(TEXT,), start=0.0, end=9.0)], 25, first_frame=15)
    assert (said[0] - frames_of(film)[15])[:, 290:].abs().mean() < 0.05


def test_a_seed_gives_the_same_film(film, tmp_path):
    again = presenter.presenter(TEXT, tmp_path / "again.mp4", progress=False, seed=3)
    assert torch.equal(frames_of(again), frames_of(film))


@pytest.mark.parametrize("size", [(64, 64), (99, 65)])
def test_small_and_odd_sizes(tmp_path, size):
    video = open_video(presenter.presenter("No.", tmp_path / "f.mp4", size=size, progress=False, expression="happy"))
    assert (video.height, video.width) == size


def test_progress_counts_frames(tmp_path, capsys):
    path = presenter.presenter("No.", tmp_path / "f.mp4", size=(64, 64))
    n = open_video(path).n_frames
    assert f"{n}/{n}" in capsys.readouterr().err


def test_stopped_halfway_it_leaves_what_was_there(tmp_path, monkeypatch):
    (tmp_path / "f.mp4").write_bytes(b"before")
    drawn = []

    def stopped(*arguments):
        drawn.append(arguments)
        if len(drawn) == 5:
            raise KeyboardInterrupt
        return torch.zeros(3, 64, 64)

    monkeypatch.setattr(presenter, "draw", stopped)
    with pytest.raises(KeyboardInterrupt):
        presenter.presenter("No.", tmp_path / "f.mp4", size=(64, 64), progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["f.mp4"]
    assert (tmp_path / "f.mp4").read_bytes() == b"before"


def test_frames_are_made_one_by_one(tmp_path, monkeypatch):
    """When the fifth is drawn, the first ones are with the encoder: memory does not grow with the text."""
    drawn, taken = [], []
    write = presenter.write_video

    def counted(target, frames, *rest, **options):
        def passed():
            for frame in frames:
                taken.append(len(drawn))
                yield frame

        write(target, passed(), *rest, **options)

    monkeypatch.setattr(presenter, "write_video", counted)
    monkeypatch.setattr(presenter, "draw", lambda *_: drawn.append(1) or torch.zeros(3, 64, 64))
    presenter.presenter("No.", tmp_path / "f.mp4", size=(64, 64), progress=False)
    assert taken == list(range(1, len(drawn) + 1))


@pytest.mark.parametrize(
    ("text", "name", "options", "message"),
    [
        ("", "f.mp4", {}, "can be said in English"),
        ("你好", "f.mp4", {}, "can be said in English"),
        ("Yes.", "f.avi", {}, "ends in .mp4"),
        ("Yes.", "f.mp4", {"language": "fr"}, "unknown language 'fr'; there are: en, zh"),
        ("Yes.", "f.mp4", {"expression": "angry"}, "unknown expression 'angry'; there are: neutral, happy, serious"),
        ("Yes.", "f.mp4", {"size": (32, 64)}, "64 to 1080 pixels"),
    ],
)
def test_bad_wishes_leave_no_file(tmp_path, text, name, options, message):
    with pytest.raises(ValueError, match=message):
        presenter.presenter(text, tmp_path / name, progress=False, **options)
    assert not list(tmp_path.iterdir())


def test_a_film_does_not_end_with_an_open_mouth(tmp_path, monkeypatch):
    def abrupt(text, seed):
        vowel = Span(text="a", start=0.2, end=0.5)
        return timed_speech.TimedSpeech(audio=torch.zeros(12_000), sample_rate=24_000, phonemes=(vowel,), words=())

    monkeypatch.setitem(presenter.VOICES, "en", abrupt)
    frames = frames_of(presenter.presenter("A.", tmp_path / "f.mp4", progress=False))
    opening = lip_sync.mouth_opening(frames, presenter.look_of(0))
    assert len(frames) == 20
    assert opening[-1] < 0.0005 < 0.004 < opening[8]


@pytest.mark.skipif(not mandarin.installed(), reason="espeakng-loader is not installed")
def test_mandarin_is_spoken_shown_and_in_step(tmp_path):
    text = "爸爸妈妈怕跑步吗？"
    path = presenter.presenter(text, tmp_path / "zh.mp4", language="zh", seed=2, progress=False)
    opening = lip_sync.mouth_opening(frames_of(path), presenter.look_of(2))
    assert abs(lip_sync.picture_delay(opening, 25, mandarin.speak(text).phonemes)) < 0.04


def test_intervals_between_blinks_are_as_stated():
    times = np.array(presenter.blink_times(4000.0, torch.Generator().manual_seed(0)))
    intervals = np.diff(times)
    assert abs(intervals.mean() - 60 / 26) < 4 * intervals.std() / math.sqrt(len(intervals))
    scale = 60 / 26 * math.exp(-(presenter.BLINK_SPREAD**2) / 2)
    assert stats.kstest(intervals, stats.lognorm(presenter.BLINK_SPREAD, scale=scale).cdf).pvalue > 0.001
    assert times[0] >= 0
    assert times[-1] < 4000


def test_lids_close_faster_than_they_open_and_every_blink_is_seen():
    said = speak("No.")
    poses = list(presenter.poses(said, 1500, generator=torch.Generator().manual_seed(1)))
    blinks = np.array([pose.blink for pose in poses])
    generator = torch.Generator().manual_seed(1)
    n_blinks = len(presenter.blink_times(60.0, generator))
    starts = np.flatnonzero((blinks[1:] > 0) & (blinks[:-1] == 0))
    assert abs(len(starts) - n_blinks) <= 2  # two may run into each other, or into the end
    assert all(blinks[start : start + 8].max() > 0.8 for start in starts[:-1])


def test_expressions_differ_and_a_face_nods_on_a_stress():
    said = speak("This is a big map of Boston.")
    means = {}
    for name in presenter.EXPRESSIONS:
        poses = list(presenter.poses(said, 60, expression=name, generator=torch.Generator().manual_seed(1)))
        means[name] = np.mean([pose.smile for pose in poses])
    assert means["serious"] < means["neutral"] < means["happy"]
    at = presenter.stresses(said.phonemes)
    assert at
    assert np.diff(at).min(initial=1.0) >= 0.7
    brows = [pose.brows for pose in presenter.poses(said, 60, generator=torch.Generator().manual_seed(1))]
    assert int(np.argmax(brows)) == pytest.approx(
        at[int(np.argmin(np.abs(np.array(at) - np.argmax(brows) / 25)))] * 25, abs=1
    )


def test_a_nod_stands_on_a_stressed_vowel():
    phonemes = [Span(text=t, start=s, end=s + 0.1) for t, s in [("ˈs", 0.0), ("a", 0.2), ("ˈa", 0.5), ("ˈi", 0.9)]]
    assert presenter.stresses(phonemes) == pytest.approx([0.55])
    assert set(visemes("ˈa")) <= set(VOWELS)


def test_a_pose_is_that_of_the_middle_of_its_frame():
    vowel = Span(text="a", start=0.52, end=0.56)
    said = timed_speech.TimedSpeech(audio=torch.zeros(24_000), sample_rate=24_000, phonemes=(vowel,), words=())
    openings = [pose.mouth.opening for pose in presenter.poses(said, 25, generator=torch.Generator())]
    assert int(np.argmax(openings)) == 13  # shown from 0.52 to 0.56
