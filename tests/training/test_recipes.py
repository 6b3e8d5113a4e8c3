"""The recipes: who is updated when, what is shipped, and that the shipped metrics are true."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lib import training
from aigc_lib.models.gan import GANConfig
from aigc_lib.paths import data_dir
from aigc_lib.training import checkpoints
from aigc_lib.training.engine import PROFILES, run
from aigc_lib.training.recipes import full_name, names, resolve
from aigc_lib.training.recipes.gan import DigitsGAN, GANTraining, shift

ROOT = Path(__file__).parents[2]
SMALL = GANConfig(width=8, latent_dim=8)
# Single samples and words flip with the last bits of other processors; the rest moves in the third digit.
FLIPS = {"memorised (pixels)": 2, "memorised (features)": 2, "word error rate": 0.06, "DNSMOS": 0.1}
# One last bit, and a WaveNet draws other sound, as with another seed. Allowed are three standard deviations or more of
# the difference of two seeds, estimated from four seeds of speech and three of notes.
DRAWN = {"STFT distance": 0.06, "mel-cepstral distortion (dB)": 0.1, "STOI": 0.05, "DNSMOS": 0.2}
DRAWN |= {"word error rate": 0.4, "in tune": 0.37}
SHIPPED = sorted(path.stem for path in (data_dir() / "checkpoints").glob("*.safetensors"))


def trained(steps: int = 2, **how) -> DigitsGAN:
    recipe = DigitsGAN(SMALL, GANTraining(**how))
    return run(recipe, profile="smoke", device="cpu", steps=steps, progress=False).recipe


def snapshot(recipe: DigitsGAN, part: str) -> list[torch.Tensor]:
    return [p.detach().clone() for p in recipe.parts[part].parameters()]


def unchanged(recipe: DigitsGAN, part: str, before: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(recipe.parts[part].parameters(), before, strict=True))


@pytest.mark.parametrize("loss", ["minimax", "non-saturating", "hinge", "wasserstein", "relativistic"])
def test_each_step_moves_one_player_and_leaves_the_other_bit_for_bit(loss):
    recipe = trained(loss=loss, penalty_every=1)
    (real,) = recipe.batch(torch.arange(32))
    generator, discriminator = snapshot(recipe, "generator"), snapshot(recipe, "discriminator")
    for parameter in recipe.parts["generator"].parameters():
        parameter.grad = None
    recipe.discriminator_step(real)
    assert unchanged(recipe, "generator", generator)
    assert all(p.grad is None for p in recipe.parts["generator"].parameters())
    assert not unchanged(recipe, "discriminator", discriminator)
    discriminator = snapshot(recipe, "discriminator")
    recipe.generator_step(real)
    assert unchanged(recipe, "discriminator", discriminator)
    assert not unchanged(recipe, "generator", generator)
    assert all(p.requires_grad for p in recipe.parts["discriminator"].parameters())


def test_what_is_shipped_is_the_average_of_the_generator_over_its_training():
    recipe = DigitsGAN(SMALL, GANTraining(ema_decay=0.5))
    weights = []
    step = recipe.step
    recipe.step = lambda real: (step(real), weights.append(snapshot(recipe, "generator")[0]))[0]
    run(recipe, profile="smoke", device="cpu", steps=4, progress=False)
    expected = weights[0]  # torch's average starts at the first weights it sees
    for weight in weights[1:]:
        expected = 0.5 * expected + 0.5 * weight
    shipped = next(recipe.inference_parts()["generator"].parameters())
    torch.testing.assert_close(shipped, expected, atol=1e-6, rtol=0)


def test_the_penalty_keeps_its_rhythm_over_an_interruption(tmp_path):
    def steps_with_a_penalty(out, stops):
        taken = []
        for stop in stops:
            recipe = DigitsGAN(SMALL, GANTraining(penalty_every=3))
            due = recipe._penalty_is_due
            recipe._penalty_is_due = lambda due=due: taken.append(due()) or taken[-1]
            run(recipe, profile="smoke", device="cpu", steps=stop, out=out, progress=False)
        return taken

    assert steps_with_a_penalty(tmp_path / "whole", [7]) == [True, False, False, True, False, False, True]
    assert steps_with_a_penalty(tmp_path / "parts", [2, 7]) == [True, False, False, True, False, False, True]
    assert checkpoints.read(tmp_path / "whole" / "last.safetensors")["step"] == 7
    weights = [checkpoints.read(tmp_path / name / "last.safetensors")["states"] for name in ("whole", "parts")]
    for part in ("part generator", "part discriminator", "ema"):
        assert all(torch.equal(weights[0][part][k], weights[1][part][k]) for k in weights[0][part])


@pytest.mark.slow
def test_two_processes_train_the_gan_as_one_does(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments = ["-m", "aigc_lib.cli", "train", "gan", "--profile", "smoke", "--steps", "1", "--device", "cpu", "--out"]
    for name, start in (("one", []), ("two", ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"])):
        command = [sys.executable, *start, *arguments, str(tmp_path / name)]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stderr
    one, two = (checkpoints.read(tmp_path / name / "last.safetensors")["states"] for name in ("one", "two"))
    for part in ("part generator", "part discriminator"):
        for name, expected in one[part].items():
            # Adam divides by the gradient's own size, which turns rounding of tiny gradients into steps: the learning
            # rate is 4e-4, so 1e-5 is a fortieth of a step. One step, with penalties: on some CPUs the fourth step has
            # already grown the rounding of the first to a whole step.
            torch.testing.assert_close(two[part][name], expected, atol=1e-5, rtol=0)
    for part in ("optimiser generator", "optimiser discriminator"):
        for key, state in one[part]["state"].items():  # β₁ is 0: the first moment is the gradient itself
            gradient = state["exp_avg"]
            bound = 1e-5 * gradient.abs().max().item() + 1e-9
            torch.testing.assert_close(two[part]["state"][key]["exp_avg"], gradient, atol=bound, rtol=0)


@given(right=st.integers(-2, 2), down=st.integers(-2, 2))
@settings(deadline=None)
def test_a_shift_moves_the_picture_and_copies_the_border(right, down):
    image = torch.rand(1, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    moved = shift(image, torch.tensor([[right, down]]), 2)
    for y in range(6):
        for x in range(6):
            source = image[0, :, min(max(y - down, 0), 5), min(max(x - right, 0), 5)]
            assert torch.equal(moved[0, :, y, x], source)
    assert shift(image, torch.tensor([[1, 1]]), 0) is image


def test_names_are_full_or_short_and_wrong_ones_list_the_right_ones():
    assert full_name("gan") == full_name("gan-digits") == "gan-digits"
    with pytest.raises(ValueError, match="no recipe 'diffusion'; there are gan-digits"):
        full_name("diffusion")
    for name in names():
        recipe = resolve(name)
        assert recipe.name == name
        assert set(recipe.budgets) == set(PROFILES)
        assert recipe.main_part in recipe.build(recipe.default_config())


def test_the_recipes_that_the_course_ships_are_shipped():
    pictures = {"classifier-digits", "gan-digits", "gan-emoji", "vae-digits", "vae-emoji"}
    flows = {"flow-matching-digits", "flow-matching-emoji", "flow-matching-effects"}
    texts = {"rnn-shakespeare", "transformer-shakespeare", "transformer-pronunciations", "transformer-zh-en"}
    sounds = {
        "wavenet-notes",
        "wavenet-speech",
        "waveglow-speech",
        "hifigan-speech",
        "stylegan-effects",
        "classifier-effects",
    }
    music = {"transformer-chorales", "transformer-tunes"}
    films = {"flownet-objects", "interpolation-film", "enhancement-film", "stylegan-avatars", "stylegan-emoji"}
    assert pictures | flows | texts | sounds | music | films <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_checkpoint_says_how_it_came_to_be(name):
    path, record_path = checkpoints.shipped(name)
    record = json.loads(record_path.read_text(encoding="utf-8"))
    assert record["recipe"] == name
    assert record["command"].startswith(f"aigc train {name} --profile ")
    for key in ("steps", "seed", "device", "minutes", "n_parameters", "data", "versions", "evaluation", "metrics"):
        assert record[key] or record[key] == 0, key
    assert record["sha256"] == checkpoints.digest_of_file(path)
    from aigc_lib import datasets

    assert record["data"]["digest"] == datasets.load(record["data"]["name"]).info.digest
    for part, network in checkpoints.load_parts(name).items():
        assert sum(p.numel() for p in network.parameters()) == record["n_parameters"][part]


def test_shipped_checkpoints_are_small():
    sizes = [checkpoints.shipped(name)[0].stat().st_size for name in SHIPPED]
    assert max(sizes) <= 6e6
    assert sum(sizes) <= 40e6


@pytest.mark.parametrize("name", SHIPPED)
def test_the_metrics_in_the_record_are_those_of_the_checkpoint(name):
    record = checkpoints.record_of(name)
    again = training.evaluate(name, device="cpu", **record["evaluation"])
    assert set(again) == set(record["metrics"])
    allowed = FLIPS | (DRAWN if name.startswith("wavenet") else {})
    for metric, value in record["metrics"].items():
        assert again[metric] == pytest.approx(value, rel=0.02, abs=allowed.get(metric, 0.02)), metric


def test_sampling_writes_the_pictures_it_says(tmp_path):
    from PIL import Image

    path = training.sample("gan", n=9, out=tmp_path / "deep" / "digits.png", device="cpu")
    picture = Image.open(path)
    assert picture.size == (3 * 30 + 2, 3 * 30 + 2)
    again = training.sample("gan", n=9, out=tmp_path / "again.png", device="cpu")
    assert path.read_bytes() == again.read_bytes()
    with pytest.raises(ValueError, match=r"\.png or \.webp"):
        training.sample("gan", n=1, out=tmp_path / "digits.wav")
    with pytest.raises(ValueError, match="n must be at least 1"):
        training.sample("gan", n=0, out=tmp_path / "none.png")
    with pytest.raises(ValueError, match="does not generate"):
        training.sample("classifier", n=1, out=tmp_path / "none.png")
