"""Sound effects as pictures: there and back, asked and painted durations, and what the judge can tell apart."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lib import datasets
from aigc_lib.datasets.effects import AMBIENCES, EFFECTS, KINDS
from aigc_lib.models.stylegan import StyleGANConfig
from aigc_lib.training.engine import run
from aigc_lib.training.recipes import classifier, effect_pictures, resolve, stylegan_effects
from aigc_lib.training.recipes.effect_pictures import (
    N_LABELS,
    fitted,
    frames_heard,
    label_of,
    louder,
    paint,
    pictures_of,
    seconds_heard,
    sounds_of,
    styles_of,
)
from aigc_lib.training.recipes.stylegan_effects import EffectsStyleGAN, judged, means_of

SMALL = StyleGANConfig(
    resolution=64, n_channels=1, n_classes=N_LABELS, latent_dim=8, width=2, discriminator_width=2, max_width=4
)


@pytest.fixture(scope="module")
def sounds():
    return datasets.load("effects", "validation", n=150)


@pytest.fixture
def few(monkeypatch):
    """Recipes that look at 45 sounds."""
    whole = datasets.load
    monkeypatch.setattr(datasets, "load", lambda name, split="train", **_: whole(name, split, n=45))


def a_block(frames: int, level: float = 0.5) -> torch.Tensor:
    """(1, 1, 64, 64): a band that is heard for so many frames."""
    picture = torch.full((1, 1, 64, 64), -1.0)
    picture[..., 20:30, :frames] = level
    return picture


@given(kind=st.integers(0, len(EFFECTS) - 1), seconds=st.floats(0.25, 1.0))
def test_a_label_is_a_kind_and_one_of_four_durations_half_an_octave_wide(kind, seconds):
    label = label_of(torch.tensor([kind]), torch.tensor([seconds])).item()
    assert label // 4 == kind
    low = 0.25 * 2 ** (label % 4 / 2)
    assert low * (1 - 1e-6) <= seconds <= low * 2**0.5 * (1 + 1e-6)


def test_ambiences_have_one_label_each_and_no_label_is_left_over():
    kinds = torch.cat([torch.arange(len(EFFECTS)).repeat_interleave(4), torch.arange(len(EFFECTS), len(KINDS))])
    seconds = torch.tensor([0.26, 0.4, 0.6, 0.9] * len(EFFECTS) + [1.024] * len(AMBIENCES))
    assert label_of(kinds, seconds).tolist() == list(range(N_LABELS))


def test_silence_is_minus_one_and_comes_back_as_silence():
    silent = pictures_of(torch.zeros(1, 16_384))
    assert torch.equal(silent, torch.full((1, 1, 64, 64), -1.0))
    assert sounds_of(silent, generator=torch.Generator().manual_seed(0)).abs().max() < 1e-4


def test_a_picture_comes_back_as_a_sound_that_looks_like_it(sounds):
    chosen = [i for i in range(15) if KINDS[i] not in ("rain", "fire")]  # sparse clicks lose their sharpness
    pictures = pictures_of(sounds.audio(torch.tensor(chosen)))
    assert -1 <= pictures.min() < 0 < pictures.max() <= 1
    back = pictures_of(sounds_of(pictures, generator=torch.Generator().manual_seed(0)))
    others = pictures.roll(1, 0)
    assert ((back - pictures).abs().mean(dim=(1, 2, 3)) < 0.06).all()
    assert ((others - pictures).abs().mean(dim=(1, 2, 3)) > 0.06).all()


@given(frames=st.integers(20, 60), seconds=st.floats(0.25, 1.0))
@settings(deadline=None)
def test_an_effect_is_stretched_to_what_was_asked_for_by_at_most_1_3(frames, seconds):
    picture = a_block(frames)
    wanted = seconds * 62.5
    heard = frames_heard(fitted(picture, torch.tensor([seconds]))).item()
    reached = min(max(wanted, frames / 1.3), frames * 1.3, 64)
    assert heard <= min(reached, wanted) + 2
    assert heard >= min(reached, wanted) - 2


def test_what_lasts_as_long_as_asked_is_left_as_it_is(sounds):
    pictures = a_block(40)
    torch.testing.assert_close(fitted(pictures, torch.tensor([40 / 62.5])), pictures, atol=1e-5, rtol=0)


@pytest.mark.parametrize("seconds", [0.25, 0.6, 1.0])
def test_the_heard_duration_of_a_tone_that_stops_is_its_duration(seconds):
    time = torch.arange(16_384) / 16_000
    tone = torch.sin(2 * torch.pi * 440 * time) * (time < seconds) + 1e-3 * torch.sin(2 * torch.pi * 300 * time)
    assert seconds_heard(tone[None]).item() == pytest.approx(seconds, abs=0.009)


def test_louder_is_up_to_nine_tenths_and_silence_stays():
    audio = louder(torch.stack([torch.full((8,), 0.1), torch.full((8,), -0.5), torch.zeros(8)]))
    assert audio.abs().amax(dim=1).tolist() == pytest.approx([0.9, 0.9, 0.0])


def test_spectrograms_are_never_distorted_and_labels_go_with_their_pictures(few):
    recipe = run(EffectsStyleGAN(SMALL), profile="smoke", device="cpu", steps=3, progress=False).recipe
    assert recipe.augmentation.probability == 0
    assert recipe.augmentation.overfitting != 0
    pictures, labels = recipe.batch(torch.arange(45))
    assert recipe._distorted(pictures) is pictures
    held = datasets.load("effects")
    for i in range(45):
        assert torch.equal(pictures[i], pictures_of(held.audio(slice(i, i + 1)))[0])
        assert labels[i] == label_of(held.labels[i : i + 1], held.seconds[i : i + 1])
    preview = recipe.preview()
    assert (preview.shape, preview.dtype) == ((15, 1, 64, 64), torch.uint8)


def test_samples_are_one_sound_file(tmp_path):
    import soundfile

    torch.manual_seed(0)
    parts = EffectsStyleGAN.build(SMALL)
    path = EffectsStyleGAN.sample(parts, tmp_path / "new" / "a.wav", n=3, generator=torch.Generator().manual_seed(0))
    assert soundfile.info(path).frames == 3 * 16_384
    with pytest.raises(ValueError, match=r"\.wav, \.flac or \.ogg file, got 'a\.png'"):
        EffectsStyleGAN.sample(parts, tmp_path / "a.png", n=1, generator=torch.Generator())


def test_what_is_asked_for_reaches_the_network():
    torch.manual_seed(0)
    network = EffectsStyleGAN.build(SMALL)["generator"].eval()
    z = torch.zeros(2, dtype=torch.long)
    short, long = (
        paint(network, z, torch.full((2,), seconds), generator=torch.Generator().manual_seed(0))
        for seconds in (0.3, 0.9)
    )
    assert (frames_heard(short) <= 19).all()
    assert not torch.equal(short, long)


def test_truncation_leads_to_the_mean_of_the_own_label():
    torch.manual_seed(0)
    network = EffectsStyleGAN.build(SMALL)["generator"].eval()
    labels = torch.tensor([7, 3, 7, 3])
    none, half, all_of_it = (
        styles_of(network, labels, truncation=t, generator=torch.Generator().manual_seed(1)) for t in (0.0, 0.5, 1.0)
    )
    z = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(all_of_it, network.mapping(z, labels))
    torch.testing.assert_close(half, (none + all_of_it) / 2)
    assert torch.equal(none[0], none[2])
    many = torch.randn(4000, 8, generator=torch.Generator().manual_seed(2))
    for i in (0, 1):
        mean = network.mapping(many, labels[i].expand(4000)).mean(dim=0)
        assert (none[i] - mean).abs().max() < 0.15  # of 256 draws: standard errors of about 0.05
    assert not torch.allclose(none[0], none[1], atol=0.1)


def test_the_checkpoints_will_be_small():
    recipe = resolve("stylegan-effects")
    (generator,) = recipe.build(recipe.default_config()).values()
    previews = recipe.budgets["laptop"].n_previews * len(KINDS) * 64**2
    in_half = 2 * sum(tensor.numel() for tensor in generator.state_dict().values())
    assert in_half + previews + len(json.dumps(list(generator.state_dict()))) < 1.05e6
    (network,) = classifier.EffectsClassifier.build(classifier.EffectsClassifier.default_config()).values()
    assert 2 * sum(tensor.numel() for tensor in network.state_dict().values()) < 0.25e6


def test_the_judge_knows_the_real_from_the_silent_and_the_many_from_the_one(sounds):
    real, kinds, seconds = sounds.audio(slice(None)), sounds.labels, sounds.seconds
    good = judged({"held-out": real, "generated": real}, kinds, seconds)
    assert good["accuracy, generated"] == good["accuracy, held-out"] > 0.98
    assert good["Fréchet distance, generated"] < 1e-6
    assert good["recall"] == good["precision"] == good["spread of spectrograms, least of kinds"] == 1
    assert good["duration, correlation, generated"] > 0.97
    first = real[:15].repeat(10, 1)  # one bell, one drop, …
    poor = judged({"held-out": real, "generated": first}, kinds, seconds)
    assert poor["accuracy, generated"] > 0.98
    assert poor["spread of features, mean of kinds"] < 0.01
    assert poor["spread of spectrograms, mean of kinds"] < 0.01
    assert poor["recall"] < 0.5
    assert poor["duration, correlation, generated"] < 0.3
    mixed = judged({"held-out": real, "generated": real.roll(1, 0)}, kinds, seconds)
    assert mixed["accuracy, generated"] < 0.02
    assert mixed["Fréchet distance, generated"] < 1e-6  # it does not ask whether the right kind came


def test_means_are_those_of_the_labels(few):
    images = effect_pictures.images_of("test", lambda kinds, seconds: kinds)
    means = means_of(images)
    assert means.shape == (15, 1, 64, 64)
    torch.testing.assert_close(means[3], (images.images[3] + images.images[18] + images.images[33]) / 3)


def test_evaluation_compares_four_sorts_of_sound(few, monkeypatch):
    monkeypatch.setattr(stylegan_effects, "_JUDGED", 15)
    monkeypatch.setattr(stylegan_effects, "means_of", lambda images: torch.zeros(N_LABELS, 1, 64, 64))
    torch.manual_seed(0)
    found = EffectsStyleGAN.evaluate(EffectsStyleGAN.build(SMALL), n=1000, generator=torch.Generator().manual_seed(0))
    assert found["accuracy, held-out"] > 0.95
    assert found["accuracy, from their spectrograms"] > 0.75
    assert found["accuracy, generated"] < 0.5  # of random weights
    assert found["Fréchet distance, training"] < found["Fréchet distance, generated"]


def test_the_classifier_learns_from_louder_and_softer_sounds_whose_silence_stays(few):
    recipe = run(classifier.EffectsClassifier(), profile="smoke", device="cpu", steps=2, progress=False).recipe
    pictures = recipe.data.images[:32]
    varied = recipe.varied(pictures)
    silent = pictures == -1
    assert silent.any()
    assert torch.equal(varied[silent], pictures[silent])
    assert varied.abs().max() <= 1
    change = torch.stack([(v - p)[(p > -0.5) & (p < 0.5)].mean() for v, p in zip(varied, pictures, strict=True)])
    assert change.min() < -0.1 < 0.1 < change.max()
