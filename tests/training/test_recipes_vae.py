"""The VAE recipes: what a step trains on, that the loss is in nats per image, and that a run resumes to the bit."""

import math

import pytest
import torch

from aigc_lib import training
from aigc_lib.models.vae import VAEConfig
from aigc_lib.training import checkpoints
from aigc_lib.training.engine import run
from aigc_lib.training.recipe import Budget
from aigc_lib.training.recipes.vae import DigitsVAE, EmojiVAE, VAETraining

SMALL = VAEConfig(latent_dim=4, width=4, hidden_dim=16)
COLOUR = VAEConfig(resolution=32, n_channels=3, latent_dim=4, width=4, hidden_dim=16, likelihood="gaussian")


def trained(steps: int = 3, recipe=DigitsVAE, config=SMALL, out=None, **how):
    fresh = recipe(config, VAETraining(**how))
    return run(fresh, profile="smoke", device="cpu", steps=steps, out=out, progress=False)


def test_the_first_losses_are_those_of_an_untrained_model_in_nats_per_image():
    digits = DigitsVAE(SMALL)
    losses = []
    step = digits.step
    digits.step = lambda *batch: losses.append(step(*batch)) or losses[-1]
    run(digits, profile="smoke", device="cpu", steps=1, progress=False)
    assert losses[0]["distortion"].item() == pytest.approx(28 * 28 * math.log(2), rel=0.1)  # about one bit a pixel
    assert 0 <= losses[0]["rate"].item() < 1


def test_a_step_sees_binary_digits_and_dequantised_emoji():
    for recipe, config in ((DigitsVAE, SMALL), (EmojiVAE, COLOUR)):
        seen = []
        fresh = recipe(config)
        build = fresh.prepare

        def prepare(context, total, fresh=fresh, build=build, seen=seen):
            build(context, total)
            bound = fresh.bound
            fresh.bound = lambda x, *rest: seen.append(x) or bound(x, *rest)

        fresh.prepare = prepare
        run(fresh, profile="smoke", device="cpu", steps=1, progress=False)
        levels = (seen[0] + 1) * 127.5
        if recipe is DigitsVAE:
            assert set(seen[0].unique().tolist()) == {-1.0, 1.0}
        else:
            assert (levels - levels.round()).abs().max() > 0.4  # no longer on the grid


def test_emoji_are_mirrored_turned_and_moved_on_their_white_ground():
    recipe = EmojiVAE(COLOUR)
    varied, pairs = recipe.varied, []
    recipe.varied = lambda images: pairs.append((images, varied(images))) or pairs[-1][1]
    run(recipe, profile="smoke", device="cpu", steps=20, progress=False)
    before, after = (torch.cat(each) for each in zip(*pairs, strict=True))
    assert (before != after).flatten(1).any(dim=1).all()
    assert after.abs().max() <= 1 + 1e-6
    edge = [images[:, :, 0, 0].mean().item() for images in (before, after)]
    assert edge[1] == pytest.approx(edge[0], abs=0.05)  # what enters the frame is white
    near = [(each - after).square().flatten(1).mean(1) for each in (before, before.flip(3))]
    assert 0.3 < (near[0] < near[1]).float().mean() < 0.7  # as often mirrored as not


@pytest.mark.parametrize(("recipe", "config"), [(DigitsVAE, SMALL), (EmojiVAE, COLOUR)])
def test_an_interrupted_run_ends_in_the_same_bits(tmp_path, recipe, config):
    trained(5, recipe, config, tmp_path / "whole")
    whole = checkpoints.read(tmp_path / "whole" / "last.safetensors")
    # Stopped in the third step and not after two: the learning rate's cycle is set by the total number of steps.
    stopped = recipe(config, VAETraining())
    step, count = stopped.step, []

    def interrupted(*batch):
        if len(count) == 2:
            raise InterruptedError
        count.append(1)
        return step(*batch)

    stopped.step = interrupted
    stopped.budgets = {"smoke": Budget(steps=5, batch_size=32, checkpoint_every=2)}
    with pytest.raises(InterruptedError):
        run(stopped, profile="smoke", device="cpu", out=tmp_path / "stopped", progress=False)
    trained(5, recipe, config, tmp_path / "stopped")
    again = checkpoints.read(tmp_path / "stopped" / "last.safetensors")
    for name, tensor in whole["states"]["part vae"].items():
        assert torch.equal(tensor, again["states"]["part vae"][name]), name


def test_a_heavier_divergence_buys_a_lower_rate():
    light, heavy = (trained(60, beta=beta, learning_rate=5e-3).history[-1] for beta in (0.2, 20.0))
    assert heavy["rate"] < 0.2 * light["rate"]
    assert heavy["distortion"] > light["distortion"]


def test_a_conditional_model_trains_samples_and_is_measured(tmp_path):
    config = VAEConfig(latent_dim=4, width=4, hidden_dim=16, n_classes=10)
    recipe = trained(2, config=config).recipe
    assert recipe.preview().shape == (36, 1, 28, 28)
    path = DigitsVAE.sample(recipe.parts, tmp_path / "ten.png", n=10, generator=torch.Generator().manual_seed(0))
    assert path.stat().st_size > 0
    measured = DigitsVAE.evaluate(recipe.parts, n=20, generator=torch.Generator().manual_seed(0))
    assert measured["IWAE-500 of 20 images"] > measured["ELBO"] - 1
    with pytest.raises(ValueError, match=r"\.png or \.webp"):
        DigitsVAE.sample(recipe.parts, tmp_path / "ten.wav", n=1, generator=torch.Generator())


def test_bits_per_dimension_are_those_of_the_levels():
    # An untrained model has log s² = 0: N(x; 0, 1) with |x| ≤ 1 gives ½ log 2π + ½ x² nats, plus log₂ 127.5 bits.
    recipe = trained(0, EmojiVAE, COLOUR).recipe
    measured = EmojiVAE.evaluate(recipe.parts, n=8, generator=torch.Generator().manual_seed(0))
    least = math.log2(127.5) + 0.5 * math.log2(2 * math.pi)
    assert least < measured["bits per dimension"] < least + 0.5 / math.log(2) + 0.1
    assert measured["ELBO"] == pytest.approx((math.log2(127.5) - measured["bits per dimension"]) * 3072 * math.log(2))


def test_the_shipped_digits_are_sampled_by_name(tmp_path):
    assert training.sample("vae", n=4, out=tmp_path / "four.png", device="cpu").stat().st_size > 0
