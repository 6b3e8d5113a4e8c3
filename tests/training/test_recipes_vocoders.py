"""The parallel vocoders' recipes: who learns when, what is shipped, and that a run can be stopped and continued."""

import math
from typing import ClassVar

import pytest
import soundfile
import torch

import aigc_lib
from aigc_lib.models.hifigan import HiFiGANConfig
from aigc_lib.models.waveglow import WaveGlowConfig
from aigc_lib.training import checkpoints
from aigc_lib.training.engine import run
from aigc_lib.training.recipes import speech_vocoder
from aigc_lib.training.recipes.hifigan import HiFiGANTraining, SpeechHiFiGAN
from aigc_lib.training.recipes.waveglow import SpeechWaveGlow

FLOW = WaveGlowConfig(n_groups=64, n_flows=2, n_layers=2, residual_channels=8, condition_channels=8)
ADVERSARIAL = HiFiGANConfig(width=8, upsample_rates=(4,), discriminator_width=4)


class SmallWaveGlow(SpeechWaveGlow):
    learning_rate: ClassVar[float] = 1e-2
    n_sentences: ClassVar[int] = 30
    n_samples: ClassVar[int] = 2048
    rise: ClassVar[int] = 4


class SmallHiFiGAN(SpeechHiFiGAN):
    n_sentences: ClassVar[int] = 30
    rise: ClassVar[int] = 4
    n_samples: ClassVar[int] = 2048


def small(name: str):
    return SmallWaveGlow(FLOW) if name == "waveglow" else SmallHiFiGAN(ADVERSARIAL, HiFiGANTraining(warm_up=2))


def trained(name: str, steps: int, out=None):
    return run(small(name), profile="smoke", device="cpu", steps=steps, out=out, progress=False)


def weights(part: torch.nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in part.parameters()]


def equal(before: list[torch.Tensor], after: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", ["waveglow", "hifigan"])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits_and_beyond(name, tmp_path):
    for stop in (1, 4, 8):  # before the adversary wakes up and while the rates rise, too
        trained(name, stop, tmp_path / "parts")
    trained(name, 8, tmp_path / "whole")
    parts, whole = (checkpoints.read(tmp_path / each / "last.safetensors")["states"] for each in ("parts", "whole"))
    for state in [each for each in whole if each.startswith("part ") or each == "ema"]:
        assert all(torch.equal(parts[state][key], whole[state][key]) for key in whole[state]), state


def test_the_flow_minimises_bits_of_sound_of_sixteen_bits():
    history = trained("waveglow", 40).history
    bits = [line["bits a sample"] for line in history]
    assert set(history[0]) == {"step", "bits a sample"}  # one loss
    # Before training the density is that of N(0, 1): ½ log₂ 2π + x²/(2 ln 2), and 15 bits for the step's width.
    assert bits[0] == pytest.approx(15 + 0.5 * math.log2(2 * math.pi), abs=0.05)
    assert bits[-1] < bits[0] - 0.3


def test_the_adversary_waits_until_there_is_something_to_judge():
    recipe = small("hifigan")
    seen = []
    step = recipe.step
    recipe.step = lambda *batch: (step(*batch), seen.append(weights(recipe.parts["discriminator"])))[0]
    history = run(recipe, profile="smoke", device="cpu", steps=9, progress=False).history
    assert ["discriminator" in line for line in history] == [False] * 2 + [True] * 7
    assert equal(seen[0], seen[1])
    assert not equal(seen[1], seen[2])
    assert all(math.isfinite(value) for line in history for value in line.values())


def test_each_step_moves_one_player_and_leaves_the_other_bit_for_bit():
    recipe = trained("hifigan", 4).recipe
    real, mel = recipe.batch(torch.arange(2))
    generator, discriminator = (recipe.parts[name] for name in ("generator", "discriminator"))
    fake, before = generator(mel), (weights(generator), weights(discriminator))
    recipe.discriminator_step(real, fake.detach())
    assert equal(before[0], weights(generator))
    assert not equal(before[1], weights(discriminator))
    before = weights(discriminator)
    recipe.generator_step(real, fake, adversarial=True)
    assert equal(before, weights(discriminator))
    assert all(p.requires_grad for p in discriminator.parameters())


@pytest.mark.parametrize("name", ["waveglow", "hifigan"])
def test_what_speaks_is_an_average_over_the_training_and_the_judges_are_not_shipped(name):
    recipe, steps = small(name), []
    step = recipe.step
    main = recipe.main_part
    recipe.step = lambda *batch: (step(*batch), steps.append(weights(recipe.parts[main])[0]))[0]
    run(recipe, profile="smoke", device="cpu", steps=3, progress=False)
    assert list(recipe.inference_parts()) == list(recipe.build(recipe.config)) == [main]
    expected = steps[0]
    for n, weight in enumerate(steps[1:], start=1):
        decay = (1 + n) / (10 + n)
        expected = decay * expected + (1 - decay) * weight
    shipped = weights(recipe.inference_parts()[main])[0]
    torch.testing.assert_close(shipped, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["waveglow", "hifigan"])
def test_sampling_speaks_held_out_sentences_into_a_file(name, tmp_path):
    recipe = small(name)
    torch.manual_seed(0)
    parts = recipe.build(recipe.config)
    generator = torch.Generator().manual_seed(0)
    path = recipe.sample(parts, tmp_path / "deep" / "two.wav", n=2, generator=generator)
    sound, rate = soundfile.read(path)
    expected = sum(audio.shape[1] for audio, _, _ in recipe.sentences("test")[:2]) + 16_000 // 5
    assert (len(sound), rate) == (expected, 16_000)
    with pytest.raises(ValueError, match=r"\.wav, \.flac or \.ogg file, got 'two.png'"):
        recipe.sample(parts, tmp_path / "two.png", n=1, generator=generator)


def test_a_model_for_other_mels_is_refused():
    with pytest.raises(ValueError, match="80 bins and 256 samples a frame"):
        SpeechWaveGlow(WaveGlowConfig(n_mels=40))
    with pytest.raises(ValueError, match="80 bins and 256 samples a frame"):
        SpeechHiFiGAN(HiFiGANConfig(hop_length=128))


def test_the_flow_is_judged_by_its_bits_and_by_ear(monkeypatch):
    asked = []

    def quality(made, truth, texts, config):
        asked.append((len(made), len(texts), [a.shape == b.shape for a, b in zip(made, truth, strict=True)]))
        return {"STOI": 0.5}

    monkeypatch.setattr(speech_vocoder, "speech_quality", quality)
    recipe = small("waveglow")
    metrics = recipe.evaluate(recipe.build(FLOW), n=2, generator=torch.Generator().manual_seed(0))
    assert metrics["STOI"] == 0.5
    assert metrics["bits a sample"] == pytest.approx(15 + 0.5 * math.log2(2 * math.pi), abs=0.1)
    assert asked == [(2, 2, [True, True])]


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["waveglow", "hifigan"])
def test_every_phase_of_the_training_runs_compiled_in_bfloat16_on_the_gpu(name):
    how = {"device": "cuda", "precision": "bfloat16", "compile": True}
    history = run(small(name), profile="smoke", steps=4, progress=False, **how).history
    assert all(math.isfinite(value) for line in history for value in line.values())
    if name == "hifigan":  # two steps without the adversary, two with it
        assert ["discriminator" in line for line in history] == [False, False, True, True]


# --- what is shipped -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sentence():
    return SpeechWaveGlow.sentences("test")[0]


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_the_shipped_flow_is_undone_after_its_training(sentence, dtype, bound):
    network = aigc_lib.load("waveglow-speech").to(dtype)
    audio, mel = (each.to(dtype) for each in sentence[:2])
    with torch.no_grad():
        z, _ = network(audio, mel)
        assert (network.inverse(z, mel) - audio).abs().max() < bound


@pytest.mark.parametrize("name", ["waveglow-speech", "hifigan-speech"])
def test_the_shipped_networks_speak_in_chunks_as_in_one_piece(sentence, name):
    network, mel = aigc_lib.load(name), sentence[1]
    spoken = []
    for chunk_frames in (20, 10_000):
        noise = {"generator": torch.Generator().manual_seed(0)} if name == "waveglow-speech" else {}
        spoken.append(network.generate(mel, chunk_frames=chunk_frames, **noise))
    assert spoken[0].abs().max() > 0.05
    torch.testing.assert_close(*spoken, atol=1e-5, rtol=0)
