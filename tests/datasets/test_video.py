"""Clips of the film: in order, in colour, with as much sound as picture, and no frame in two splits."""

import pytest
import torch

from aigc_lib.datasets import load
from aigc_lib.datasets.base import SPLITS
from aigc_lib.datasets.video import without_repeats


@pytest.fixture(scope="module")
def clips():
    return {split: load("big-buck-bunny", split) for split in SPLITS}


def test_frames_and_sound_have_the_same_length(clips):
    for data in clips.values():
        for item in data:
            assert item.frames.shape == (6, 3, 72, 128)
            assert item.frames.abs().max() <= 1
            assert len(item.audio) / item.sample_rate == pytest.approx(len(item.frames) / item.frame_rate)
            assert item.audio.abs().max() <= 1


@pytest.mark.parametrize("n_frames", [1, 5, 18])
def test_no_frame_is_used_twice_and_splits_follow_each_other(n_frames):
    used = []
    for split in SPLITS:
        starts = [int(item.key.split("/")[1]) for item in load("big-buck-bunny", split, n_frames=n_frames)]
        used += [frame for start in starts for frame in range(start, start + n_frames)]
    assert used == sorted(set(used))
    assert used[-1] < 132


def test_neighbouring_frames_are_alike_and_distant_ones_are_not(clips):
    film = torch.cat([item.frames for item in clips["train"]])
    near = (film[1:] - film[:-1]).abs().mean()
    far = (film[48:] - film[:-48]).abs().mean()
    assert near < far / 2


def test_once_a_second_the_film_stands_still(clips):
    film = torch.cat([item.frames for data in clips.values() for item in data])
    kept = without_repeats(film)
    twice = [i for i in range(1, 132) if not any(torch.equal(film[i], frame) for frame in kept)]
    assert twice == [7, 32, 57, 82, 107]  # every 25th
    assert torch.equal(without_repeats(kept), kept)


def test_the_meadow_is_green_and_the_sky_bright(clips):
    frame = clips["train"][0].frames[0]
    red, green, blue = frame[:, 60:, 60:].mean((1, 2))  # lower right
    assert green > blue
    assert green > red
    assert frame[:, :10, 100:].mean() > 0  # upper right


def test_the_clips_together_have_the_whole_sound(clips):
    sound = torch.cat([item.audio for data in clips.values() for item in data])
    assert len(sound) == 132 * 960
    assert sound.std() > 1e-4


def test_twice_the_resolution_has_the_same_mean():
    small, large = (load("big-buck-bunny", "test", resolution=size)[0].frames for size in (36, 72))
    assert large.shape[-2:] == (72, 128)
    torch.testing.assert_close(small.mean((2, 3)), large.mean((2, 3)), atol=0.01, rtol=0)


@pytest.mark.parametrize(("options", "message"), [({"resolution": 64}, "multiple of 9"), ({"n_frames": 19}, "1 to 18")])
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        load("big-buck-bunny", **options)
