"""Effects of exactly the asked length, ambiences without a seam, and no file where something was wrong."""

from pathlib import Path

import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lib import datasets
from aigc_lib.applications import sound_effects
from aigc_lib.applications.sound_effects import ambience, effect, on_a_circle, seam_of, sound_effect
from aigc_lib.cli import main
from aigc_lib.datasets.effects import AMBIENCES, EFFECTS
from aigc_lib.models.stylegan import StyleGANConfig, StyleGenerator
from aigc_lib.training.recipes.effect_pictures import N_LABELS

OPTIONS = {"device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def network():
    """Of random weights: whatever it paints, lengths, fades and files must be right."""
    torch.manual_seed(0)
    sizes = {"n_channels": 1, "n_classes": N_LABELS, "latent_dim": 8, "width": 2, "discriminator_width": 2}
    return StyleGenerator(StyleGANConfig(resolution=64, max_width=4, **sizes)).eval()


@pytest.fixture(autouse=True)
def few_iterations(monkeypatch):
    monkeypatch.setattr(sound_effects, "_ITERATIONS", 2)


@pytest.mark.parametrize(("suffix", "within"), [(".wav", 1e-4), (".flac", 1e-4), (".OGG", 0.9)])
def test_a_file_holds_exactly_the_seconds_that_were_asked_for(network, tmp_path, suffix, within):
    for kind, seconds in (("bell", 0.3337), ("rain", 2.0501)):
        path = sound_effect(kind, tmp_path / f"{kind}{suffix}", seconds=seconds, network=network, **OPTIONS)
        audio, rate = soundfile.read(path)
        assert (rate, audio.shape) == (16_000, (round(seconds * 16_000),))
        assert abs(audio).max() == pytest.approx(0.9, abs=within)
        assert audio.std() > 1e-3


def test_an_effect_ends_in_silence_and_an_ambience_does_not(network):
    generator = torch.Generator().manual_seed(0)
    for kind in ("zap", "knock"):
        audio = effect(network, kind, 0.5, generator=generator)
        assert audio[-1] == 0
        assert audio[-40:].abs().max() < 0.5 * audio.abs().max()
    powers = ambience(network, "wind", 3.0, generator=generator).unfold(0, 2000, 2000).square().mean(dim=1)
    assert powers[0] > 0.1 * powers.mean()
    assert powers[-1] > 0.1 * powers.mean()


def test_a_seed_is_a_sound_and_another_one_another(network, tmp_path):
    for kind in ("coin", "engine"):
        sounds = [  # not the files: each signature is another
            soundfile.read(sound_effect(kind, tmp_path / f"{i}.wav", network=network, seed=seed, **OPTIONS))[0].tolist()
            for i, seed in enumerate((0, 0, 1))
        ]
        assert sounds[0] == sounds[1] != sounds[2]


@given(n=st.integers(2, 9), share=st.floats(0.3, 1.0))
@settings(deadline=None, max_examples=20)
def test_windows_of_one_keep_their_power_on_a_circle(n, share):
    """Windows that nowhere agree in sign with their neighbours: gains² add up to one everywhere, the seam included."""
    width = 256
    length = round(n * width / 2 * share)
    squares = sum(on_a_circle(torch.eye(n)[i, :, None] * torch.ones(n, width), length) ** 2 for i in range(n))
    if n > 2:  # of two windows each meets the other twice, once with either fade
        torch.testing.assert_close(squares, torch.ones(length), atol=1e-5, rtol=0)
    assert squares.shape == (length,)


def test_noise_on_a_circle_is_as_loud_at_the_seam_as_elsewhere():
    generator = torch.Generator().manual_seed(0)
    loops = torch.stack([on_a_circle(torch.randn(4, 512, generator=generator), 1000) for _ in range(2000)])
    variances = loops.var(dim=0)
    assert variances.mean().item() == pytest.approx(1, abs=0.01)
    # A variance of 2,000 normal numbers has the standard error √(2/2000) = 0.032.
    assert variances.sub(1).abs().max() < 5 * 0.032
    assert variances[[0, -1]].sub(1).abs().max() < 4 * 0.032


@pytest.mark.parametrize(("n", "length", "needed"), [(1, 400, 2), (3, 1000, 4), (2, 600, 3)])
def test_too_few_windows_for_the_circle_are_refused(n, length, needed):
    with pytest.raises(ValueError, match=f"at least {needed} windows, got {n}"):
        on_a_circle(torch.zeros(n, 512), length)


@pytest.mark.parametrize("kind", AMBIENCES)
def test_a_loop_of_real_windows_has_no_seam(kind):
    """Whatever network paints them: the windows of the data set, laid on a circle, go round without a seam."""
    sounds = [item.audio for item in datasets.load("effects", "validation", n=150) if item.kind == kind]
    seam = seam_of(on_a_circle(torch.stack(sounds[:6]), 6 * 8000))
    assert seam.jump <= seam.largest_jump
    assert seam.change <= seam.largest_change


def test_a_cut_in_a_loop_is_found():
    generator = torch.Generator().manual_seed(0)
    smooth = torch.sin(torch.arange(32_000) * (2 * torch.pi * 110.3 / 16_000) + 1)  # does not come round in 2 s
    noise = torch.randn(32_000, generator=generator) * torch.linspace(0.02, 0.2, 32_000)  # grows, then falls back
    assert seam_of(smooth).jump > 5 * seam_of(smooth).largest_jump
    assert seam_of(noise).change > 2 * seam_of(noise).largest_change


def test_stopped_halfway_it_leaves_what_was_there(network, tmp_path, monkeypatch):
    made, out = [], tmp_path / "rain.wav"
    out.write_bytes(b"before")

    def stopped(*arguments, **options):
        made.append(arguments)
        if len(made) == 2:
            raise KeyboardInterrupt
        return sounds_of(*arguments, **options)

    sounds_of = sound_effects.sounds_of
    monkeypatch.setattr(sound_effects, "sounds_of", stopped)
    with pytest.raises(KeyboardInterrupt):
        sound_effect("rain", out, seconds=6, network=network, **OPTIONS)
    assert len(made) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["rain.wav"]
    assert out.read_bytes() == b"before"


@pytest.mark.parametrize(
    ("kind", "name", "seconds", "message"),
    [
        ("bel", "a.wav", None, "unknown kind 'bel'; effects: bell 铃声, drop .* ambiences: rain 雨声"),
        ("bell", "a.mp3", None, r"\.wav, \.flac or \.ogg file, got 'a\.mp3'"),
        ("bell", "a", 0.5, r"\.wav, \.flac or \.ogg file, got 'a'"),
        ("bell", "a.wav", 1.01, "an effect such as bell lasts 0.25 to 1 seconds, got 1.01"),
        ("drum", "a.wav", 0.0, "lasts 0.25 to 1 seconds, got 0"),
        ("rain", "a.wav", 1.9, "an ambience such as rain lasts 2 to 60 seconds, got 1.9"),
        ("wind", "a.wav", 60.5, "lasts 2 to 60 seconds, got 60.5"),
        ("wind", "a.wav", float("nan"), "lasts 2 to 60 seconds, got nan"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(network, tmp_path, kind, name, seconds, message):
    with pytest.raises(ValueError, match=message):
        sound_effect(kind, tmp_path / name, seconds=seconds, network=network, **OPTIONS)
    assert not list(tmp_path.iterdir())


def test_progress_is_shown_for_an_ambience(network, tmp_path, capsys):
    sound_effect("fire", tmp_path / "fire.wav", seconds=4, network=network, device="cpu")
    assert "2/2" in capsys.readouterr().err


def test_the_command_passes_its_options_on_and_a_mistake_is_one_line(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(sound_effects, "sound_effect", lambda *names, **options: calls.append((*names, options)) or 1)
    assert main(["make", "effect", "rain", "rain.ogg", "--seconds", "4.5", "--seed", "2", "--device", "cpu"]) == 0
    assert calls == [("rain", Path("rain.ogg"), {"seconds": 4.5, "seed": 2, "device": "cpu"})]
    monkeypatch.undo()
    assert main(["make", "effect", "dog", "dog.wav"]) == 2
    assert capsys.readouterr().err.startswith("aigc: unknown kind 'dog'; effects: bell 铃声")


def test_every_kind_can_be_made(network):
    generator = torch.Generator().manual_seed(0)
    for kind in EFFECTS:
        assert effect(network, kind, 0.25, generator=generator).shape == (4000,)
