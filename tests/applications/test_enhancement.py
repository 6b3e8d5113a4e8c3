"""Enhancing a film: its size, its sound, its cuts, and what is left when it is stopped. Untrained networks enlarge."""

import sys

import av
import numpy as np
import pytest
import torch

from aigc_lib.applications.enhancement import anime4k, enhance, estimated_noise
from aigc_lib.datasets.video_files import open_video, write_video
from aigc_lib.models.enhancement import EnhancementConfig, VideoEnhancer, enlarge, shrink


def bars(n_frames, height=32, width=48, speed=3.0):
    """Soft bars that move to the right."""
    x = torch.arange(width) - speed * torch.arange(n_frames)[:, None]
    return (0.7 * (x * 0.2).sin()).view(n_frames, 1, 1, width).expand(n_frames, 3, height, width)


class Bicubic(VideoEnhancer):
    """Untrained, that is bicubic; it remembers what it was shown."""

    def __init__(self, stop_at=None):
        super().__init__(EnhancementConfig(width=1, n_blocks=1))
        self.seen, self.stop_at = [], stop_at

    def forward(self, frames, noise):
        self.seen.append((frames, noise.item()))
        if len(self.seen) == self.stop_at:
            raise KeyboardInterrupt
        return super().forward(frames, noise)


OPTIONS = {"device": "cpu", "progress": False}


@pytest.fixture
def film(tmp_path):
    write_video(tmp_path / "film.mp4", bars(5), 10)
    return tmp_path / "film.mp4"


def frames_of(path):
    return torch.cat(list(open_video(path).chunks()))


@pytest.mark.parametrize(
    ("n", "size", "scale"), [(5, (32, 48), 2), (1, (32, 48), 2), (3, (33, 47), 2), (3, (33, 47), 1)]
)
def test_it_has_the_same_frames_larger_or_not_whatever_the_sides(tmp_path, n, size, scale):
    write_video(tmp_path / "film.mp4", bars(n, *size), 10)
    before = frames_of(tmp_path / "film.mp4")
    after = frames_of(
        enhance(tmp_path / "film.mp4", tmp_path / "new.mp4", scale=scale, network=Bicubic(), noise=0, **OPTIONS)
    )
    assert after.shape == (n, 3, scale * size[0], scale * size[1])
    expected = enlarge(before) if scale == 2 else shrink(enlarge(before))
    assert (after - expected).abs().mean() < 0.02  # what coding costs
    assert open_video(tmp_path / "new.mp4").frame_rate == 10


def test_a_frame_is_seen_between_its_neighbours_and_the_ends_stand_still(film, tmp_path):
    network, frames = Bicubic(), frames_of(film)
    enhance(film, tmp_path / "new.mp4", network=network, noise=12.75, **OPTIONS)
    for i, (seen, noise) in enumerate(network.seen):
        around = [max(i - 1, 0), i, min(i + 1, 4)]
        assert torch.equal(seen[0], frames[around])
        assert noise == pytest.approx(0.1)
    assert len(network.seen) == 5


def test_nobody_looks_across_a_cut(tmp_path):
    write_video(tmp_path / "film.mp4", torch.cat([torch.full((2, 3, 32, 32), g) for g in (-0.8, 0.8)]), 10)
    network = Bicubic()
    enhance(tmp_path / "film.mp4", tmp_path / "new.mp4", network=network, noise=0, **OPTIONS)
    for seen, _ in network.seen:
        assert seen.amax() - seen.amin() < 0.1


def test_the_trained_network_takes_noise_away_and_estimates_how_much(tmp_path):
    clean = bars(6, 48, 64, speed=1.0)
    noisy = (clean + 0.12 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    write_video(tmp_path / "noisy.mp4", noisy, 10)
    assert 10 < estimated_noise(open_video(tmp_path / "noisy.mp4")) < 17  # 15 levels, less what coding took
    made = frames_of(enhance(tmp_path / "noisy.mp4", tmp_path / "new.mp4", scale=1, **OPTIONS))
    before = (frames_of(tmp_path / "noisy.mp4") - clean).square().mean()
    assert (made - clean).square().mean() < before / 3  # all of it coded twice


def test_a_clean_film_is_taken_for_clean(film):
    assert estimated_noise(open_video(film)) == 0


def test_a_flash_and_a_click_stay_together(tmp_path):
    frames, sound = torch.full((20, 3, 32, 32), -0.9), torch.zeros(32_000)
    frames[12] = 0.9
    sound[19_200:19_360] = 0.9  # 1.2 s
    write_video(tmp_path / "film.mp4", frames, 10, sound=sound, sample_rate=16_000)
    enhance(tmp_path / "film.mp4", tmp_path / "film.mp4", network=Bicubic(), noise=0, **OPTIONS)  # replaces itself
    assert frames_of(tmp_path / "film.mp4").mean(dim=(1, 2, 3)).argmax() == 12
    with av.open(str(tmp_path / "film.mp4")) as container:
        heard = [(frame.time, frame.to_ndarray()) for frame in container.decode(audio=0)]
    loudest = max(heard, key=lambda each: np.abs(each[1]).max())
    assert loudest[0] == pytest.approx(1.2, abs=0.1)
    assert sum(each.shape[1] for _, each in heard) == pytest.approx(32_000, abs=2_048)


@pytest.mark.parametrize("existing", [None, b"what was there"])
def test_stopped_halfway_it_leaves_what_was_there(film, tmp_path, existing):
    out = tmp_path / "deep" / "new.mp4"
    if existing:
        out.parent.mkdir()
        out.write_bytes(existing)
    with pytest.raises(KeyboardInterrupt):
        enhance(film, out, network=Bicubic(stop_at=3), noise=0, **OPTIONS)
    assert [path.read_bytes() for path in out.parent.iterdir()] == ([existing] if existing else [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 3}, "scale must be 1 or 2"),
        ({"noise": -1}, "noise 0 to 25 grey levels, got 2 and -1"),
        ({"noise": float("nan")}, "noise 0 to 25"),
        ({"noise": 26}, "noise 0 to 25"),
        ({"out": "new.avi"}, r"ends in \.mp4, got 'new\.avi'"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_before_anything_is_read(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        enhance(tmp_path / "none.mp4", tmp_path / options.pop("out", "new.mp4"), **(OPTIONS | options))
    with pytest.raises(FileNotFoundError, match="no video file"):
        enhance(tmp_path / "none.mp4", tmp_path / "new.mp4", **OPTIONS)
    assert not list(tmp_path.iterdir())


def test_progress_counts_frames(film, tmp_path, capsys):
    enhance(film, tmp_path / "new.mp4", network=Bicubic(), noise=0, device="cpu")
    assert "5/5" in capsys.readouterr().err


def test_the_helper_enlarges_and_knows_its_models():
    pytest.importorskip("pyanime4k")
    frames = bars(2, 17, 24)
    made = anime4k()(frames)
    assert made.shape == (2, 3, 34, 48)
    assert (made - enlarge(frames)).abs().mean() < 0.05
    with pytest.raises(ValueError, match="no model 'waifu'; there are acnet-gan"):
        anime4k("waifu")


def test_without_the_helper_the_message_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyanime4k.pyac", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install pyanime4k==3\.1\.0"):
        anime4k()
