"""Slow motion as a file: how many frames, which of them are the film's own, and what happens when it is stopped."""

import pytest
import torch

from aigc_lib.applications.slow_motion import slow_motion
from aigc_lib.datasets.video_files import open_video, write_video
from aigc_lib.models.warping import interpolate

SPEED = 4.0  # pixels a frame


def bars(n_frames, height=32, width=64):
    """Soft bars that move to the right."""
    x = torch.arange(width) - SPEED * torch.arange(n_frames)[:, None]
    return (0.8 * (x * 0.2).sin()).view(n_frames, 1, 1, width).expand(n_frames, 3, height, width)


def knows_the_answer(first, second):
    """Which way the bars go is hidden in the frames: their phase. Flow is at the size that is asked for."""
    phase = [torch.fft.rfft(each.mean(dim=(1, 2)), dim=-1)[:, 2].angle() for each in (first, second)]
    right = torch.remainder(phase[0] - phase[1] + torch.pi, 2 * torch.pi) - torch.pi
    flow = first.new_zeros(len(first), 2, *first.shape[2:])
    flow[:, 0] = (right * first.shape[3] / (2 * torch.pi * 2)).view(-1, 1, 1)
    return flow


OPTIONS = {"estimator": knows_the_answer, "synthesis": interpolate, "device": "cpu", "progress": False}


@pytest.fixture
def film(tmp_path):
    write_video(tmp_path / "film.mp4", bars(5), 10)
    return tmp_path / "film.mp4"


def frames_of(path):
    return torch.cat(list(open_video(path).chunks()))


@pytest.mark.parametrize(("factor", "beyond", "n"), [(1, 0, 5), (4, 0, 17), (3, 2, 15), (1, 3, 8)])
def test_there_are_so_many_frames_and_the_film_is_among_them(film, tmp_path, factor, beyond, n):
    path = slow_motion(film, tmp_path / "slow.mp4", factor=factor, beyond=beyond, **OPTIONS)
    video = open_video(path)
    assert (video.n_frames, video.frame_rate) == (n, 10)
    torch.testing.assert_close(frames_of(path)[: 4 * factor + 1 : factor], frames_of(film), atol=0.1, rtol=0)


def test_new_frames_are_where_the_motion_would_have_been(film, tmp_path):
    slow = frames_of(slow_motion(film, tmp_path / "slow.mp4", factor=2, **OPTIONS))
    true = frames_of(film)
    middle = slice(16, -16)
    x = torch.arange(64)[middle] - SPEED * 1.5
    expected = (0.8 * (x * 0.2).sin()).expand(3, 32, -1)
    error = (slow[3][..., middle] - expected).abs().mean()
    average = ((true[1] + true[2])[..., middle] / 2 - expected).abs().mean()
    assert error < 0.5 * average


def test_what_comes_after_the_end_moves_on(film, tmp_path):
    ahead = frames_of(slow_motion(film, tmp_path / "next.mp4", factor=1, beyond=1, **OPTIONS))
    middle = slice(16, -16)
    expected = bars(6)[5][..., middle]
    assert (ahead[5][..., middle] - expected).abs().mean() < 0.4 * (ahead[4][..., middle] - expected).abs().mean()


def test_a_film_may_replace_itself(film):
    slow_motion(film, film, factor=2, **OPTIONS)
    assert open_video(film).n_frames == 9


def test_stopped_halfway_it_leaves_nothing(film, tmp_path):
    made = []

    def stopped(*arguments):
        made.append(arguments)
        if len(made) == 5:
            raise KeyboardInterrupt
        return interpolate(*arguments)

    with pytest.raises(KeyboardInterrupt):
        slow_motion(film, tmp_path / "slow.mp4", **(OPTIONS | {"synthesis": stopped}))
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


@pytest.mark.parametrize("options", [{"factor": 0}, {"factor": 17}, {"beyond": -1}])
def test_impossible_numbers_are_refused_before_anything_is_read(tmp_path, options):
    with pytest.raises(ValueError, match="factor must be 1 to 16 and beyond at least 0"):
        slow_motion(tmp_path / "none.mp4", tmp_path / "slow.mp4", **(OPTIONS | options))


def test_a_single_frame_has_no_motion(tmp_path):
    write_video(tmp_path / "still.mp4", bars(1), 10)
    with pytest.raises(ValueError, match="single frame; motion needs two"):
        slow_motion(tmp_path / "still.mp4", tmp_path / "slow.mp4", **OPTIONS)


def test_progress_counts_frames(film, tmp_path, capsys):
    slow_motion(film, tmp_path / "slow.mp4", factor=2, **(OPTIONS | {"progress": True}))
    assert "9/9" in capsys.readouterr().err
