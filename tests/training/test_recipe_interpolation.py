"""Frames in between, trained on the film: no repeated frames, what is learned, and that a run can be stopped."""

import signal

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from aigc_lib.metrics.video import moving
from aigc_lib.models.interpolation import InterpolationConfig
from aigc_lib.training import checkpoints
from aigc_lib.training.engine import run
from aigc_lib.training.recipes import resolve
from aigc_lib.training.recipes.interpolation import CROP, WINDOW, FilmInterpolation, film, held_out

SMALL = InterpolationConfig(width=4)


class NoMotion(nn.Module):
    """An estimator of flow that sees none: what is learned then is not FlowNet's."""

    def forward(self, first, second):
        return first.new_zeros(len(first), 2, *first.shape[2:])


class Small(FilmInterpolation):
    flow = classmethod(lambda cls, device: NoMotion())


def trained(steps, out=None):
    torch.set_num_threads(1)
    return run(Small(SMALL), profile="smoke", device="cpu", steps=steps, out=out, progress=False)


def test_the_film_stands_still_once_a_second_and_those_frames_are_left_out():
    lengths = {split: len(film(split)) for split in ("train", "validation", "test")}
    assert lengths == {"train": 92, "validation": 17, "test": 18}  # repeated: 7, 32, 57, 82 and 107 of the film
    frames = film("train")
    change = (frames[1:] - frames[:-1]).abs().mean(dim=(1, 2, 3))
    assert change.min() > 0.001
    assert frames.shape[1:] == (3, 144, 256)


def test_held_out_frames_lie_between_those_that_are_given_and_something_moves():
    frames = film("test")
    pairs = list(held_out(1000))
    for first, second, between in pairs:
        start, *middle, end = (
            (frames - each).abs().amax(dim=(1, 2, 3)).argmin().item() for each in (first, *between.values(), second)
        )
        assert middle == list(range(start + 1, end))
        assert list(between) == {2: [0.5], 4: [0.25, 0.5, 0.75]}[end - start]
        assert moving(first, second).float().mean() >= 0.01
    assert len(pairs) == 26
    assert len(list(held_out(5))) == 5


def test_pieces_are_taken_where_something_happens_and_alike_from_all_three_frames():
    recipe = trained(1).recipe
    windows = torch.zeros(2, 3, 3, 144, 256)
    windows[:, 2, :, 110:140, 210:250] = 1.0  # all that happens
    windows[:, :, 1] -= 0.5  # colours can be told apart
    found = []
    for _ in range(15):
        pieces = recipe.varied(windows)
        assert pieces.shape == (2, 3, 3, CROP, CROP)
        assert torch.equal(pieces[:, 0], pieces[:, 1])
        assert sorted(pieces[0, 0, :, 0, 0].tolist()) == [-0.5, 0, 0]
        found.append((pieces[:, 2] - pieces[:, 0]).mean())
    anywhere = F.avg_pool2d(windows[:, 2, 0], CROP, stride=8).mean()
    assert torch.stack(found).mean() > 1.5 * anywhere


def test_it_learns_to_be_better_than_warping_alone():
    class OnePlace(Small):
        """The same piece of the film, over and over."""

        learning_rate = 5e-3

        def batch(self, indices):
            return super().batch(torch.full_like(indices, 36))

        def varied(self, windows):
            return windows[..., 24:, 30:150]

    history = run(OnePlace(SMALL), profile="smoke", device="cpu", steps=40, progress=False).history
    shares = [line["error"] / line["error of warping alone"] for line in history]
    assert shares[0] == pytest.approx(1, abs=0.02)  # it starts as warping alone
    assert sum(shares[-5:]) / 5 < 0.95


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(tmp_path):
    recipe, seen = Small(SMALL), []
    step = recipe.step

    def interrupted(windows):
        seen.append(windows)
        if len(seen) == 2:
            signal.raise_signal(signal.SIGINT)
        return step(windows)

    recipe.step = interrupted
    with pytest.raises(KeyboardInterrupt):
        run(recipe, profile="smoke", device="cpu", steps=4, out=tmp_path / "parts", progress=False)
    trained(4, tmp_path / "parts")
    trained(4, tmp_path / "whole")
    states = [checkpoints.read(tmp_path / each / "last.safetensors")["states"] for each in ("parts", "whole")]
    parts, whole = (state["part synthesis"] for state in states)
    assert len(seen) == 2
    assert all(torch.equal(parts[key], whole[key]) for key in whole)


def test_untrained_it_scores_as_warping_alone_and_averaging_is_measured_beside_it():
    recipe = Small(SMALL)
    generator = torch.Generator().manual_seed(0)
    metrics = Small.evaluate(recipe.build(SMALL), n=3, generator=generator)
    assert metrics["PSNR, synthesis"] == pytest.approx(metrics["PSNR, warping alone"], abs=1e-3)
    # Without motion, warping is averaging.
    assert metrics["PSNR, warping alone"] == pytest.approx(metrics["PSNR, averaging"], abs=1e-2)
    assert 15 < metrics["PSNR, averaging"] < 35
    assert 0.5 < metrics["SSIM, averaging"] < 1


def test_it_is_found_by_its_name_and_windows_do_not_reach_beyond_the_film():
    assert resolve("interpolation") is FilmInterpolation
    recipe = trained(1).recipe
    assert recipe.n_examples == 92 - WINDOW + 1
    (windows,) = recipe.batch(torch.tensor([0, recipe.n_examples - 1]))
    assert torch.equal(windows[1, -1], film("train")[-1])
    assert set(recipe.inference_parts()) == {"synthesis"}
