"""A film that goes round: as long as asked for, with music as long, and no seam in either."""

import av
import numpy as np
import pytest
import torch

from aigc_lib import datasets
from aigc_lib.applications.latent_film import SAMPLE_RATE, latent_film, looped_tune
from aigc_lib.datasets.video_files import open_video
from aigc_lib.models.stylegan import StyleGANConfig, StyleGenerator


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return StyleGenerator(StyleGANConfig(resolution=16, latent_dim=16, width=4, max_width=8)).eval()


def sound_of(path):
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


def test_pictures_and_music_last_as_long_as_asked_for(network, tmp_path):
    path = latent_film(tmp_path / "loop.mp4", network=network, seconds=1.5, device="cpu")
    video = open_video(path)
    assert (video.height, video.width, video.frame_rate, video.n_frames) == (256, 256, 24, 36)
    sound = sound_of(path)[: int(1.5 * SAMPLE_RATE)]
    assert np.abs(sound).max() > 0.3
    with av.open(str(path)) as container:
        lengths = [float(stream.duration * stream.time_base) for stream in container.streams]
    assert lengths == [1.5, 1.5]


def test_the_last_frame_is_next_to_the_first(network, tmp_path):
    path = latent_film(tmp_path / "loop.mp4", network=network, seconds=2, device="cpu")
    frames = torch.cat(list(open_video(path).chunks()))
    steps = (frames.roll(-1, 0) - frames).abs().mean(dim=(1, 2, 3))
    assert steps[-1] < 2.5 * steps[:-1].median() + 0.01


def test_a_seed_is_a_film_and_another_one_another(network, tmp_path):
    paths = [
        latent_film(tmp_path / f"{i}.mp4", network=network, seconds=1, seed=seed, device="cpu")
        for i, seed in enumerate((0, 0, 1))
    ]
    same, again, other = (torch.cat(list(open_video(path).chunks())) for path in paths)  # each signature is another
    assert torch.equal(same, again)
    assert not torch.equal(same, other)


@pytest.mark.parametrize("seconds", [2.0, 5.0])
def test_bars_are_whole_and_what_still_sounds_at_the_end_goes_on_at_the_beginning(seconds):
    tune = datasets.load("oneill")[3]
    sound = looped_tune(tune, seconds, "flute")
    assert len(sound) == seconds * SAMPLE_RATE
    assert sound.abs().max() == pytest.approx(0.9)
    assert (sound[0] - sound[-1]).abs() <= sound.diff().abs().max()  # no click at the seam


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": 0.5}, "1 to 60, got 0.5"),
        ({"seconds": 61}, "1 to 60"),
        ({"instrument": "kazoo"}, "unknown instrument"),
    ],
)
def test_what_cannot_be_made_says_why_and_leaves_nothing(network, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        latent_film(tmp_path / "loop.mp4", network=network, device="cpu", **options)
    assert list(tmp_path.iterdir()) == []
