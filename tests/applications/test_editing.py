"""Films cut to length: pictures, sound and list agree to the frame, colours match, and nothing half done is left."""

import re
from fractions import Fraction
from functools import cache
from itertools import pairwise

import av
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lib.applications import editing
from aigc_lib.applications.editing import Clip, beat_cuts, colour_map, decision_list, edit, mix
from aigc_lib.cli import main
from aigc_lib.datasets.video_files import open_video, sound_blocks, write_video
from aigc_lib.metrics.images import frechet_distance

RATE = 25
QUIET = {"progress": False}


def numbered(n_frames, *, shot=50, size=(64, 96)):
    """Frames that can be told apart after coding: colour tells the shot, cells at the right edge are a Gray code.

    Of a Gray code one bit changes from frame to frame, so that no frame looks like a cut.
    """
    tints = 0.7 * torch.tensor([[-1, -1, 1], [1, -1, -1], [-1, 1, -1], [1, 1, 1]]).float().view(4, 3, 1, 1)
    frames = torch.cat([tints[i // shot].expand(1, 3, *size) for i in range(n_frames)]).clone()
    number = torch.arange(n_frames)
    bits = ((number ^ (number >> 1))[:, None] >> torch.arange(8)) & 1
    frames[:, :, :, 80:] = (0.8 * bits - 0.4).repeat_interleave(8, dim=1)[:, None, :, None]
    return frames


def numbers_of(frames):
    cells = frames[:, :, :, 84:94].mean(dim=(1, 3)).view(len(frames), 8, 8)[:, :, 2:6].mean(dim=2)
    bits = (cells > 0).long().flip(1).cumsum(dim=1).flip(1) % 2  # each bit of the number: the sum of those above it
    return (bits << torch.arange(8)).sum(dim=1).tolist()


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Eight seconds, four shots, faint noise; at 1, 3.04, 5 and 7.4 s a click and a frame of another brightness."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    sound = 0.001 * torch.randn(8 * 16_000, generator=torch.Generator().manual_seed(0))
    frames = numbered(200)
    for moment in (25, 76, 125, 185):
        frames[moment, :, :, :80] = 1.0
        sound[moment * 640 : moment * 640 + 160] = 0.9
    write_video(path, frames, RATE, sound=sound, sample_rate=16_000)
    return path


@pytest.fixture(scope="module")
def edited(film, tmp_path_factory):
    """By transition: the film of 5.6 s made of it, and its clips."""
    folder = tmp_path_factory.mktemp("edited")

    @cache
    def cut_with(transition):
        path = folder / f"{transition}.mp4"
        return path, edit(film, path, seconds=5.6, transition=transition, **QUIET)

    return cut_with


def frames_of(path):
    return torch.cat(list(open_video(path).chunks()))


def flashes_and_clicks(path):
    """Seconds at which it is bright on the left, and at which it clicks."""
    video = open_video(path)
    left = frames_of(path)[:, :, :, :70].mean(dim=(1, 2, 3))
    sound = np.abs(np.concatenate(list(sound_blocks(path, 48_000))))
    return ((left > 0.9).nonzero().flatten() / video.frame_rate).tolist(), np.flatnonzero(sound > 0.3) / 48_000


def parsed(text, base):
    """What a reader of CMX 3600 sees: (event, channel, kind, frames of the transition, four frame numbers)."""
    pattern = r"(\d{3})  (\S{1,8}) +(B|V|A) +(C|D|W\d{3}) +(\d{3})? *((?:\d\d:\d\d:\d\d:\d\d ?){4})"
    lines = []
    for line in text.splitlines():
        if match := re.fullmatch(pattern, line):
            codes = [list(map(int, code.split(":"))) for code in match[6].split()]
            assert all(frames < base and seconds < 60 and minutes < 60 for _, minutes, seconds, frames in codes)
            numbers = [((h * 60 + m) * 60 + s) * base + f for h, m, s, f in codes]
            lines.append((int(match[1]), match[3], match[4], int(match[5] or 0), numbers))
        else:
            assert line.startswith(("TITLE: ", "FCM: NON-DROP FRAME", "* "))
    return lines


def test_pictures_are_those_of_the_list_to_the_frame(edited):
    path, clips = edited("cut")
    frames = frames_of(path)
    assert len(frames) == 140
    assert numbers_of(frames) == [clip.start + k for clip in clips for k in range(clip.length)]
    assert all(clip.start // 50 == (clip.start + clip.length - 1) // 50 for clip in clips)  # within a shot


@pytest.mark.parametrize("transition", ["cut", "dissolve", "wipe"])
def test_sound_stays_with_its_picture(edited, transition):
    flashes, clicks = flashes_and_clicks(edited(transition)[0])
    assert len(flashes) >= 2
    for flash in flashes:
        assert np.abs(clicks - flash).min() <= 1 / RATE


@pytest.mark.parametrize(("transition", "kind"), [("cut", "C"), ("dissolve", "D"), ("wipe", "W001")])
def test_the_list_can_be_read_back_and_says_what_was_done(edited, transition, kind):
    path, clips = edited(transition)
    events = parsed(path.with_suffix(".edl").read_text(), RATE)
    main_lines = [event for event in events if event[4][1] > event[4][0]]
    assert [event[0] for event in main_lines] == list(range(1, len(clips) + 1))
    assert [event[4] for event in main_lines] == [
        [clip.start, clip.start + clip.length, clip.record, clip.record + clip.length] for clip in clips
    ]
    assert {event[2] for event in main_lines[1:]} == {kind}
    assert [event[3] for event in main_lines] == [clip.fade for clip in clips]
    assert main_lines[-1][4][3] == 140
    left = [event[4] for event in events if event[4][1] == event[4][0]]  # where the clip before goes on
    expected = [before.start + before.length for before, clip in pairwise(clips) if clip.fade]
    assert [numbers[0] for numbers in left] == expected


def test_a_dissolve_mixes_what_the_list_says(film, edited):
    path, (before, clip, _) = edited("dissolve")
    old, new = frames_of(film), frames_of(path)
    for k in range(clip.fade):
        share = (k + 1) / (clip.fade + 1)
        wanted = (1 - share) * old[before.start + before.length + k] + share * old[clip.start + k]
        assert (new[clip.record + k] - wanted).abs().mean() < 0.03


def test_a_wipe_comes_from_the_left():
    first, second = torch.zeros(1, 3, 4, 8), torch.ones(1, 3, 4, 8)
    torch.testing.assert_close(mix(first, second, 0.5, "wipe")[0, 0, 0], torch.tensor([1.0] * 4 + [0.0] * 4))
    torch.testing.assert_close(mix(first, second, 0.3, "wipe").mean(), torch.tensor(0.3))
    torch.testing.assert_close(mix(first, second, 0.3, "dissolve"), torch.full_like(first, 0.3))


def clicks_file(path, times, *, seconds=9.0, rate=16_000):
    generator = np.random.default_rng(0)
    sound = 1e-4 * generator.standard_normal(round(seconds * rate))
    for time in times:
        sound[round(time * rate) :][:800] += 0.5 * generator.uniform(-1, 1, 800) * np.exp(-np.arange(800) / 160)
    soundfile.write(path, sound, rate)
    return path


@pytest.mark.parametrize("transition", ["cut", "dissolve"])
def test_with_music_clips_begin_on_its_beats(film, tmp_path, transition):
    beats = [0.3 + 0.47 * i for i in range(18)]
    music = clicks_file(tmp_path / "song.wav", beats)
    clips = edit(film, tmp_path / "cut.mp4", seconds=6, music=music, transition=transition, **QUIET)
    assert len(clips) >= 3
    for clip in clips[1:]:
        middle = (clip.record + clip.fade // 2) / RATE
        assert min(abs(middle - beat) for beat in beats) <= 1 / RATE
    heard = np.concatenate(list(sound_blocks(tmp_path / "cut.mp4", 16_000)))[: 5 * 16_000]
    played, _ = soundfile.read(music)
    assert np.corrcoef(heard, played[: len(heard)])[0, 1] > 0.8
    sounds = [event for event in parsed((tmp_path / "cut.edl").read_text(), RATE) if event[1] == "A"]
    assert [numbers for *_, numbers in sounds] == [[0, 150, 0, 150]]


def test_cuts_keep_away_from_both_ends_of_the_music():
    music = torch.zeros(9 * 16_000)
    for i in range(36):
        music[round(i * 0.25 * 16_000) :][:100] = 0.9
    cuts = beat_cuts(music, 16_000, 200, 25)
    assert 12 <= min(cuts) < max(cuts) <= 188


MATRICES = st.lists(st.floats(-1, 1), min_size=9, max_size=9)


@settings(max_examples=50, deadline=None)
@given(MATRICES, MATRICES)
def test_the_map_gives_colours_the_wanted_mean_and_covariance(first, second):
    eye = 0.05 * torch.eye(3, dtype=torch.float64)
    roots = (torch.tensor(entries, dtype=torch.float64).view(3, 3) for entries in (first, second))
    source, target = (root @ root.T + eye for root in roots)
    means = torch.tensor([[0.1, 0.2, -0.3], [-0.4, 0.0, 0.5]], dtype=torch.float64)
    matrix, offset = colour_map(means[0], source, means[1], target)
    torch.testing.assert_close(matrix @ source @ matrix.T, target)
    torch.testing.assert_close(matrix @ means[0] + offset, means[1])
    torch.testing.assert_close(matrix, matrix.T)
    # Nothing that gives this mean and covariance moves colours less: what is left is the Fréchet distance.
    moved = (means[1] - means[0]).square().sum() + torch.trace(source + target - 2 * matrix @ source)
    assert moved.item() == pytest.approx(frechet_distance(means[0], source, means[1], target), abs=1e-6)


def test_matched_clips_have_the_same_colours(tmp_path):
    generator = torch.Generator().manual_seed(1)
    picture = torch.nn.functional.interpolate(0.8 * torch.randn(1, 3, 6, 8, generator=generator).tanh(), (36, 48))
    scene = torch.cat([picture.roll(i // 4, dims=3) for i in range(100)])
    tinted = scene * torch.tensor([0.5, 0.8, 0.3]).view(3, 1, 1) + torch.tensor([0.2, -0.1, -0.3]).view(3, 1, 1)
    write_video(tmp_path / "film.mp4", torch.cat([scene[:50], tinted[50:]]).clamp(-1, 1), RATE)
    gaps = []
    for match in (False, True):
        clips = edit(tmp_path / "film.mp4", tmp_path / "cut.mp4", seconds=3.6, match_colours=match, **QUIET)
        halves = frames_of(tmp_path / "cut.mp4").split([clip.length for clip in clips])
        colours = [half.transpose(0, 1).flatten(1) for half in halves]
        moments = [part for each in colours for part in (each.mean(dim=1), torch.cov(each))]
        gaps.append(frechet_distance(*moments))
    assert gaps[1] < 0.05 * gaps[0]


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), 12.5])
def test_frame_rates_may_be_rational(tmp_path, rate):
    write_video(tmp_path / "film.mp4", numbered(100, shot=100), float(rate))
    clips = edit(tmp_path / "film.mp4", tmp_path / "cut.mp4", seconds=2.5, **QUIET)
    video = open_video(tmp_path / "cut.mp4")
    assert video.n_frames == round(2.5 * rate)
    assert video.frame_rate == pytest.approx(float(rate), rel=1e-6)
    events = parsed((tmp_path / "cut.edl").read_text(), round(rate))
    assert events[0][4][0] == clips[0].start
    assert events[0][1] == "V"  # the film is silent


def test_time_codes_go_on_after_an_hour():
    text = decision_list([Clip(90_000, 50, 0, 0)], "film.mp4", 25, "cut", "B")
    assert "001  AX       B     C        01:00:00:00 01:00:02:00 00:00:00:00 00:00:02:00\n" in text


def test_a_whole_film_is_itself(film, tmp_path):
    edit(film, tmp_path / "cut.mp4", seconds=8, **QUIET)
    assert numbers_of(frames_of(tmp_path / "cut.mp4")) == list(range(200))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seconds": 8.1}, r"2 to 200 frames \(8\.00 s, the whole film\), got 202 frames"),
        ({"seconds": 0}, "got 0 frames"),
        ({"seconds": float("nan")}, "got 0 frames"),
        ({"seconds": 8, "transition": "dissolve"}, "transitions included.*ask for fewer seconds, or for cuts"),
        ({"transition": "morph"}, "unknown transition 'morph'; there are cut, dissolve, wipe"),
        ({"out": "a.avi"}, "a file of its own that ends in .mp4, got 'a.avi'"),
        ({"music": "short.wav"}, "holds 4.00 s of sound, and the film is to last 5.00 s"),
        ({"music": "silence.wav"}, "silent"),
        ({"source": "one.mp4"}, "single frame; there is nothing to cut"),
        ({"source": "text.mp4"}, "damaged or no video"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(film, tmp_path, options, said):
    clicks_file(tmp_path / "short.wav", [1, 2, 3], seconds=4)
    soundfile.write(tmp_path / "silence.wav", np.zeros(160_000), 16_000)
    write_video(tmp_path / "one.mp4", numbered(1), RATE)
    (tmp_path / "text.mp4").write_text("no film")
    before = sorted(tmp_path.iterdir())
    options = {"source": film, "out": "a.mp4", "seconds": 5.0} | QUIET | options
    options |= {name: tmp_path / options[name] for name in ("source", "music", "out") if name in options}
    with pytest.raises(ValueError, match=said):
        edit(options.pop("source"), options.pop("out"), **options)
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(FileNotFoundError, match="none"):
        edit(tmp_path / "none.mp4", tmp_path / "a.mp4", seconds=1)
    with pytest.raises(FileNotFoundError, match="no music at"):
        edit(film, tmp_path / "a.mp4", seconds=1, music=tmp_path / "none.wav")


def test_a_film_of_variable_frame_rate_is_refused(film, tmp_path):
    with av.open(str(film)) as source, av.open(str(tmp_path / "odd.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                later = round(0.5 / packet.time_base) if packet.pts * packet.time_base > 4 else 0
                packet.stream, packet.pts, packet.dts = stream, packet.pts + later, packet.dts + later
                target.mux(packet)
    with pytest.raises(ValueError, match="variable frame rate"):
        edit(tmp_path / "odd.mp4", tmp_path / "cut.mp4", seconds=2, **QUIET)


def test_stopped_halfway_it_leaves_nothing(film, tmp_path, monkeypatch):
    drawn = []

    def stopped(*arguments):
        drawn.append(arguments)
        if len(drawn) == 5:
            raise KeyboardInterrupt
        return mix(*arguments)

    monkeypatch.setattr(editing, "mix", stopped)
    with pytest.raises(KeyboardInterrupt):
        edit(film, tmp_path / "cut.mp4", seconds=4, transition="dissolve", **QUIET)
    assert list(tmp_path.iterdir()) == []


def test_frames_are_read_a_few_at_a_time(film, tmp_path, monkeypatch):
    sizes, read = [], editing.VideoFile.chunks
    monkeypatch.setattr(editing.VideoFile, "chunks", lambda self, n: sizes.append(n) or read(self, n))
    edit(film, tmp_path / "cut.mp4", seconds=2, **QUIET)
    assert sizes == [8, 1]


def test_the_command(film, tmp_path, capsys):
    command = ["make", "edit", str(film), str(tmp_path / "cut.mp4"), "--seconds", "2", "--transition", "wipe"]
    assert main(command) == 0
    assert capsys.readouterr().out.endswith("cut.mp4 and cut.edl: 1 clips\n")
    assert main([*command[:-1], "morph"]) == 2
    assert "unknown transition 'morph'" in capsys.readouterr().err
