"""What the WaveNets are trained on, that a run resumes to the bit, what is kept, and how notes are judged."""

import math

import pytest
import soundfile
import torch

from aigc_lib import datasets
from aigc_lib.models.wavenet import WaveNetConfig, mu_law_encode
from aigc_lib.training import checkpoints
from aigc_lib.training.engine import run
from aigc_lib.training.recipes.vocoder import Segments, utterances
from aigc_lib.training.recipes.wavenet import SpeechWaveNet
from aigc_lib.training.recipes.wavenet_notes import NotesWaveNet, labels_of, pitch_of

TINY = {"n_layers": 3, "residual_channels": 4, "gate_channels": 6, "skip_channels": 4}


@pytest.fixture(autouse=True)
def few_sentences(monkeypatch):
    """The smallest corpus: speaking the whole hour takes its time."""
    monkeypatch.setattr(SpeechWaveNet, "n_sentences", 30)


def notes(**how) -> NotesWaveNet:
    recipe = NotesWaveNet(WaveNetConfig(**TINY, n_classes=(37, 8, 3)))
    recipe.preview = lambda: None
    return run(recipe, profile="smoke", device="cpu", progress=False, **how).recipe


def test_an_example_is_a_note_with_what_was_played():
    recipe = notes(steps=1)
    audio, labels = recipe.batch(torch.tensor([0, 400]))
    for row, item in enumerate(datasets.load("notes")[i] for i in (0, 400)):
        assert torch.equal(audio[row], item.audio)
        pitch, instrument, velocity = item.key.split("/")[1], item.instrument, item.key.split("/")[2]
        assert torch.equal(labels[row], labels_of(int(pitch), instrument, int(velocity)))
    assert recipe.n_examples == len(datasets.load("notes"))


def test_held_out_notes_are_spread_over_the_instruments():
    labels = torch.cat([labels for _, labels in NotesWaveNet.notes("test", 24)])
    assert labels[:, 1].unique().numel() == 8
    assert len(NotesWaveNet.notes("test")) == len(datasets.load("notes", "test"))


def test_the_loss_of_a_step_is_the_mean_surprise_in_bits():
    recipe = notes(steps=1)
    audio, labels = recipe.batch(torch.arange(2))
    levels = mu_law_encode(audio)
    with torch.no_grad():
        expected = -recipe.parts["model"].log_likelihood(levels, labels=labels).mean() / 16_000 / math.log(2)
    assert recipe.step(audio, labels)["bits a sample"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert recipe.step(audio, labels)["bits a sample"] < expected


def test_a_run_goes_on_to_the_same_bits_and_ships_its_average(tmp_path):
    notes(steps=4, out=tmp_path / "whole")
    notes(steps=2, out=tmp_path / "parts")
    recipe = notes(steps=4, out=tmp_path / "parts")
    whole, parts = (checkpoints.read(tmp_path / name / "last.safetensors")["states"] for name in ("whole", "parts"))
    for state in ("part model", "ema"):
        assert all(torch.equal(whole[state][key], parts[state][key]) for key in whole[state])
    assert recipe.inference_parts()["model"] is recipe.ema.module
    kept, last = (next(network.parameters()) for network in (recipe.ema.module, recipe.parts["model"]))
    assert 0 < (kept - last).abs().max() < 0.01


def test_a_pitch_is_heard_in_a_tone_with_overtones():
    seconds = torch.arange(8_000) / 16_000
    asked = torch.tensor([48.0, 57.3, 69.0, 84.0])
    frequency = 440 * 2 ** ((asked - 69) / 12)
    tones = sum(torch.sin(2 * torch.pi * frequency[:, None] * seconds * k) / k for k in (1, 2, 3))
    assert (pitch_of(tones * (-3 * seconds).exp()) - asked).abs().max() < 0.1


def test_the_pitch_of_a_pure_low_tone_that_dies_away_is_heard():
    seconds, asked = torch.arange(16_000) / 16_000, torch.arange(48, 53)
    frequency = 440 * 2 ** ((asked[:, None] - 69) / 12)
    assert (pitch_of(torch.sin(2 * torch.pi * frequency * seconds) * (-6 * seconds).exp()) - asked).abs().max() < 0.1


def test_sound_is_decoded_with_the_levels_of_the_network():
    for levels in (64, 256):
        network = NotesWaveNet.build(WaveNetConfig(**TINY, n_classes=(37, 8, 3), n_levels=levels))["model"]
        with torch.no_grad():  # all probability on the loudest level
            network.head[3].weight.zero_()
            network.head[3].bias.copy_(torch.arange(levels) - levels + 1.0).mul_(50)
        played = NotesWaveNet.play(network, labels_of(60, "piano", 80)[None], generator=torch.Generator())
        assert played.min() > 0.9


def test_the_pitch_of_most_recorded_notes_is_heard():
    # Not of all: an organ's stops sound octaves above the key, and a marimba's overtones are no multiples.
    test = [item for item in datasets.load("notes", "test") if item.instrument in ("piano", "violin", "flute")]
    heard = pitch_of(torch.stack([item.audio for item in test]))
    assert (heard - torch.tensor([item.pitch for item in test])).abs().max() < 0.5


def test_notes_are_evaluated_and_written(tmp_path):
    parts = notes(steps=1).inference_parts()
    metrics = NotesWaveNet.evaluate(parts, n=2, generator=torch.Generator().manual_seed(0))
    assert metrics["bits a sample"] == pytest.approx(8, abs=0.5)  # nothing learned yet
    assert 0 <= metrics["in tune"] <= 1
    path = NotesWaveNet.sample(parts, tmp_path / "deep" / "notes.wav", n=2, generator=torch.Generator().manual_seed(0))
    sound, rate = soundfile.read(path)
    assert (sound.shape, rate) == ((32_000,), 16_000)
    with pytest.raises(ValueError, match=r"a .wav, .flac or .ogg file, got 'notes.png'"):
        NotesWaveNet.sample(parts, tmp_path / "notes.png", n=1, generator=torch.Generator())
    with pytest.raises(ValueError, match=r"as pitch one of 48, 49, .*, got 20"):
        labels_of(20, "piano", 80)
    with pytest.raises(ValueError, match=r"as instrument one of piano, .*, got 'kazoo'"):
        labels_of(60, "kazoo", 80)


def test_speech_is_learned_from_stretches_with_their_mel_and_spoken_from_mels():
    recipe = SpeechWaveNet(WaveNetConfig(**TINY, n_mels=80))
    recipe.preview = lambda: None
    run(recipe, profile="smoke", device="cpu", steps=1, progress=False)
    audio, mel = recipe.batch(torch.tensor([3]))
    expected = Segments("train", 8192, n_sentences=30).batch(torch.tensor([3]))
    assert torch.equal(audio, expected[0])
    assert torch.equal(mel, expected[1])
    sound, sentence, _ = SpeechWaveNet.sentences("test")[0]
    assert torch.equal(sound, utterances("test", n_sentences=30)[0][0])
    spoken = SpeechWaveNet.speak(recipe.ema.module, sentence[:, :, :8], generator=torch.Generator().manual_seed(0))
    assert spoken.shape == (1, 8 * 256)
    assert spoken.abs().max() <= 1
    bits = SpeechWaveNet.bits(recipe.ema.module, [(sound, sentence)])
    assert bits == pytest.approx(8, abs=0.5)
    with pytest.raises(ValueError, match="80 bins and 256 samples a frame"):
        SpeechWaveNet(WaveNetConfig(n_mels=40))


def test_speech_goes_on_to_the_same_bits_is_judged_by_ear_and_written(tmp_path):
    def speech(steps, out):
        recipe = SpeechWaveNet(WaveNetConfig(**TINY, n_mels=80))
        recipe.preview = lambda: None
        return run(recipe, profile="smoke", device="cpu", steps=steps, out=out, progress=False).recipe

    speech(3, tmp_path / "whole")
    speech(1, tmp_path / "parts")
    parts = speech(3, tmp_path / "parts").inference_parts()
    states = [checkpoints.read(tmp_path / name / "last.safetensors")["states"] for name in ("whole", "parts")]
    for state in ("part model", "ema"):
        assert all(torch.equal(states[0][state][key], states[1][state][key]) for key in states[0][state])

    metrics = SpeechWaveNet.evaluate(parts, n=1, generator=torch.Generator().manual_seed(0))
    assert metrics["bits a sample"] == pytest.approx(8, abs=0.5)
    assert metrics["STOI"] < 0.5  # nothing learned yet
    assert metrics["word error rate"] > 0.5

    path = SpeechWaveNet.sample(parts, tmp_path / "one.wav", n=1, generator=torch.Generator().manual_seed(0))
    sound, rate = soundfile.read(path)
    truth, _, _ = SpeechWaveNet.sentences("test")[0]
    assert (len(sound), rate) == (truth.shape[1], 16_000)
