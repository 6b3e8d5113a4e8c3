"""Enhancement trained on film and photographs: which pieces, how they are spoilt, what is learned and measured."""

import signal

import pytest
import torch

from aigc_lib import datasets
from aigc_lib.models.enhancement import EnhancementConfig, enlarge, shrink
from aigc_lib.training import checkpoints
from aigc_lib.training.engine import run
from aigc_lib.training.previews import from_uint8
from aigc_lib.training.recipes import enhancement, resolve
from aigc_lib.training.recipes.enhancement import MOST_NOISE, PANS, PIECE, FilmEnhancement, held_out, training_clips

SMALL = EnhancementConfig(width=4, n_blocks=1)


@pytest.fixture(scope="module")
def clips():
    return training_clips()


@pytest.fixture(autouse=True)
def one_reading(monkeypatch, clips):
    monkeypatch.setattr(enhancement, "training_clips", lambda: clips)


def trained(steps, out=None, recipe=FilmEnhancement):
    torch.set_num_threads(1)
    return run(recipe(SMALL), profile="smoke", device="cpu", steps=steps, out=out, progress=False)


def test_photographs_move_as_a_camera_pans(clips):
    film, *pans = clips
    assert film.shape == (96, 3, 360, 640)
    assert len(pans) == len(PANS) * len(datasets.load("photographs", "train"))
    for i, (right, down) in enumerate(PANS):
        before, _, after = pans[i]
        h, w = before.shape[1:]
        assert torch.equal(before[:, 2 * down :, 2 * right :], after[:, : h - 2 * down, : w - 2 * right])
    assert torch.equal(pans[0][0], pans[0][2])


def test_nothing_that_is_held_out_was_trained_on(clips):
    shots = held_out()
    assert list(shots) == ["film", *(f"street {i}" for i in range(1, 7))]
    assert all(shot.shape[0] == 3 and shot.shape[2] % 2 == shot.shape[3] % 2 == 0 for shot in shots.values())
    film = from_uint8(clips[0])
    assert min((frame - held).abs().mean() for frame in film[-20:] for held in shots["film"]) > 0.01


def test_pieces_are_varied_alike_in_all_three_frames_and_spoilt_as_they_say():
    recipe, seen = trained(1).recipe, []
    pieces = recipe.batch(torch.tensor([0, 9000]))[0]
    assert pieces.shape == (2, 3, 3, PIECE, PIECE)
    assert pieces.dtype == torch.uint8
    still = pieces[:, 1:2].expand(-1, 3, -1, -1, -1)  # nothing moves: all three are varied alike
    varied = recipe.varied(from_uint8(still))
    assert torch.equal(varied[:, 0], varied[:, 2])
    torch.testing.assert_close(varied.mean(dim=(1, 2, 3, 4)), from_uint8(still).mean(dim=(1, 2, 3, 4)))
    network = recipe.parts["enhancer"]
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    recipe.schedulers["enhancer"].total_steps = 100
    for _ in range(12):
        recipe.step(still)
    levels = torch.cat([noise for _, noise in seen])
    assert 4 <= (levels == 0).sum() <= 20
    assert levels.max() <= MOST_NOISE
    for frames, noise in seen:  # without motion two frames differ by their noise alone, unless it was cut off
        found = (frames[:, 0] - frames[:, 2]).std(dim=(1, 2, 3)) / 2**0.5
        assert ((found <= 1.05 * noise + 1e-6) & (found >= 0.5 * noise)).all()


def test_it_learns_to_be_better_than_bicubic():
    class OnePiece(FilmEnhancement):
        """The same piece, over and over, and without noise."""

        learning_rate = 1e-2

        def batch(self, indices):
            return super().batch(torch.full_like(indices, 40))

        def varied(self, pieces):
            return pieces

    history = trained(80, recipe=OnePiece).history
    shares = [line["error"] / line["error of bicubic"] for line in history]
    assert shares[0] == pytest.approx(1, abs=0.05)
    assert sum(shares[-10:]) / 10 < 0.9


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(tmp_path):
    recipe, seen = FilmEnhancement(SMALL), []
    step = recipe.step

    def interrupted(pieces):
        seen.append(pieces)
        if len(seen) == 2:
            signal.raise_signal(signal.SIGINT)
        return step(pieces)

    recipe.step = interrupted
    with pytest.raises(KeyboardInterrupt):
        run(recipe, profile="smoke", device="cpu", steps=4, out=tmp_path / "parts", progress=False)
    trained(4, tmp_path / "parts")
    trained(4, tmp_path / "whole")
    states = [checkpoints.read(tmp_path / each / "last.safetensors")["states"] for each in ("parts", "whole")]
    parts, whole = (state["part enhancer"] for state in states)
    assert len(seen) == 2
    assert all(torch.equal(parts[key], whole[key]) for key in whole)


def test_a_preview_shows_bicubic_what_was_made_and_the_truth(tmp_path):
    recipe = trained(1).recipe
    with torch.no_grad():
        recipe.parts["enhancer"].detail.weight.zero_()
        recipe.parts["enhancer"].detail.bias.zero_()
    bicubic, made, true = from_uint8(recipe.preview())
    assert torch.equal(bicubic, made)
    assert (bicubic - true).abs().mean() > 0.003
    recipe.save_preview(recipe.preview(), tmp_path / "step")
    assert (tmp_path / "step.png").is_file()


def test_untrained_it_scores_as_bicubic_and_the_mean_of_four_takes_noise_away():
    recipe = FilmEnhancement(SMALL)
    metrics = recipe.evaluate(recipe.build(SMALL), n=2, generator=torch.Generator().manual_seed(0))
    for where in ("film", "street"):
        for task in ("×2", "×2 + noise"):
            for metric in ("PSNR", "SSIM", "flicker"):
                network, bicubic = (metrics[f"{metric}, {where}, {task}, {name}"] for name in ("network", "bicubic"))
                assert network == pytest.approx(bicubic, abs=1e-4)
        assert metrics[f"PSNR, {where}, noise, as it is"] == pytest.approx(26, abs=0.6)  # 20 log10(2 / 0.1)
        assert metrics[f"flicker, {where}, noise, as it is"] == pytest.approx(14.4, rel=0.2)  # 2σ/√π
    true = held_out()["film"]
    assert metrics["PSNR, film, ×2, bicubic"] > 30
    assert (shrink(enlarge(shrink(true))) - shrink(true)).abs().mean() < 0.03


def test_it_is_found_by_its_name():
    assert resolve("enhancement") is FilmEnhancement
    recipe = trained(1).recipe
    assert set(recipe.inference_parts()) == {"enhancer"}
    assert recipe.n_examples == len(recipe.windows) > 15_000
