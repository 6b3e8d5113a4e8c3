"""The StyleGAN recipes: who is updated when, what is taken lazily, what is shipped and how it is judged."""

import json

import pytest
import torch
import torch.nn.functional as F

from aigc_lib import datasets
from aigc_lib.datasets.base import Images
from aigc_lib.datasets.provenance import info
from aigc_lib.datasets.rendered import STYLES
from aigc_lib.metrics import images as image_metrics
from aigc_lib.models.stylegan import StyleGANConfig
from aigc_lib.training import checkpoints
from aigc_lib.training.engine import run
from aigc_lib.training.recipes import gan, resolve
from aigc_lib.training.recipes.stylegan import ChosenAvatarsStyleGAN, EmojiStyleGAN, StyleGANTraining

SMALL = StyleGANConfig(resolution=32, latent_dim=8, width=2, discriminator_width=2, max_width=4, n_layers=2)


def trained(steps: int = 2, out=None, **how) -> EmojiStyleGAN:
    recipe = EmojiStyleGAN(SMALL, StyleGANTraining(**how))
    return run(recipe, profile="smoke", device="cpu", steps=steps, out=out, progress=False).recipe


def weights(recipe: EmojiStyleGAN, part: str) -> list[torch.Tensor]:
    return [p.detach().clone() for p in recipe.parts[part].parameters()]


def equal(before: list[torch.Tensor], after: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_each_step_moves_one_player_and_leaves_the_other_bit_for_bit():
    recipe = trained(penalty_every=1, path_every=1)
    (real,) = recipe.batch(torch.arange(8))
    fake = recipe.generate(recipe.styles(), recipe.noise_maps())
    before = {part: weights(recipe, part) for part in ("generator", "discriminator")}
    recipe.discriminator_step(real, fake.detach())
    assert equal(before["generator"], weights(recipe, "generator"))
    assert not equal(before["discriminator"], weights(recipe, "discriminator"))
    before = {part: weights(recipe, part) for part in ("generator", "discriminator")}
    recipe.generator_step(fake)
    assert equal(before["discriminator"], weights(recipe, "discriminator"))
    assert all(p.requires_grad for p in recipe.parts["discriminator"].parameters())
    moved = zip(before["generator"], weights(recipe, "generator"), strict=True)
    assert not any(torch.equal(a, b) for a, b in moved)  # every parameter, noise strengths among them


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(tmp_path):
    how = {"penalty_every": 3, "path_every": 2, "ramp": 100, "mixing": 0.9}
    for stop in (1, 4, 7):
        trained(stop, tmp_path / "parts", **how)
    trained(7, tmp_path / "whole", **how)
    parts, whole = (checkpoints.read(tmp_path / each / "last.safetensors")["states"] for each in ("parts", "whole"))
    for state in [each for each in whole if each.startswith("part ") or each == "ema"]:
        assert all(torch.equal(parts[state][key], whole[state][key]) for key in whole[state]), state
    assert whole["part augmentation"]["overfitting"] != 0
    assert whole["part generator"]["mean_path_length"] > 0


def test_the_learning_rate_falls_to_nothing_in_the_last_steps():
    rates = []

    class Noting(EmojiStyleGAN):
        def discriminator_step(self, *players):
            rates.append([each.param_groups[0]["lr"] for each in self.optimisers.values()])
            return super().discriminator_step(*players)

    recipe = Noting(SMALL, StyleGANTraining(learning_rate=0.01, decay=0.5))
    run(recipe, profile="smoke", device="cpu", steps=8, progress=False)
    assert torch.tensor(rates).mT.tolist() == [pytest.approx([0.01] * 5 + [0.0075, 0.005, 0.0025])] * 2


@pytest.mark.parametrize(
    ("player", "every", "weight"),
    [("discriminator", "penalty_every", "penalty_weight"), ("generator", "path_every", "path_weight")],
)
def test_a_penalty_that_is_taken_every_16_steps_weighs_16_times_as_much(player, every, weight):
    def gradient(how):
        recipe = trained(0, **how)
        (real,) = recipe.batch(torch.arange(8))
        fake = recipe.generate(recipe.styles(), recipe.noise_maps())
        recipe.discriminator_step(real, fake.detach()) if player == "discriminator" else recipe.generator_step(fake)
        return torch.cat([p.grad.flatten() for p in recipe.parts[player].parameters() if p.grad is not None])

    without, once, lazily = (gradient({every: k, weight: size}) for k, size in ((1, 0.0), (1, 3.0), (16, 3.0)))
    assert (once - without).norm() > 1e-3 * without.norm()
    torch.testing.assert_close(lazily - without, 16 * (once - without), atol=1e-4 * lazily.norm().item(), rtol=1e-3)


def test_penalties_are_taken_at_every_16th_step():
    recipe = trained(0)
    due = []
    is_due = recipe._is_due
    recipe._is_due = lambda player, every: due.append((player, is_due(player, every))) or due[-1][1]
    for _ in range(17):
        recipe.step(*recipe.batch(torch.arange(8)))
    for player in ("discriminator", "generator"):
        assert [taken for name, taken in due if name == player] == [True] + [False] * 15 + [True]


def test_styles_are_mixed_as_often_as_asked():
    never, always = trained(0, mixing=0.0).styles(), trained(0, mixing=1.0).styles()
    assert never.shape == (8, SMALL.n_styles, 8)
    assert torch.equal(never, never[:, :1].expand_as(never))
    assert (always[:, 0] != always[:, -1]).any(dim=1).all()
    changes = (always[:, 1:] != always[:, :-1]).any(dim=2).sum(dim=1)
    assert changes.tolist() == [1] * 8  # one crossover each


def test_pictures_are_distorted_with_the_controllers_probability_and_differently_each_time():
    recipe = trained(0)
    (real,) = recipe.batch(torch.arange(8))
    assert recipe._distorted(real) is real
    recipe.augmentation.probability.fill_(0.8)
    first, second = recipe._distorted(real), recipe._distorted(real)
    assert first.shape == real.shape
    assert not torch.equal(first, second)


def test_the_average_of_the_generator_is_shipped_with_its_mean_style_and_nothing_else(tmp_path):
    recipe = trained(3)
    shipped = recipe.inference_parts()
    assert list(shipped) == list(recipe.build(SMALL)) == ["generator"]
    generator = shipped["generator"]
    assert not equal([p.detach() for p in generator.parameters()], weights(recipe, "generator"))
    w = generator.mapping(torch.randn(4000, 8, generator=torch.Generator().manual_seed(1)))
    assert (w.mean(dim=0) - generator.mapping.mean_style).abs().max() < 0.1
    state = {"parts": {"generator": generator.state_dict()}, "config": {}}
    checkpoints.write(tmp_path / "shipped.safetensors", state)
    kept = checkpoints.read(tmp_path / "shipped.safetensors")["parts"]["generator"]
    fresh = recipe.build(SMALL)["generator"]
    fresh.load_state_dict(kept)
    samples = [each.sample(2, generator=torch.Generator().manual_seed(0)) for each in (fresh, generator)]
    torch.testing.assert_close(*samples, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "limit"), [("stylegan-emoji", 1.4e6), ("stylegan-avatars", 1.0e6)])
def test_what_will_be_shipped_is_small(name, limit):
    recipe = resolve(name)
    (generator,) = recipe.build(recipe.default_config()).values()
    config = recipe.default_config()
    previews = recipe.budgets["laptop"].n_previews * 16 * config.n_channels * config.resolution**2
    in_half = 2 * sum(tensor.numel() for tensor in generator.state_dict().values())
    assert in_half + previews + len(json.dumps(list(generator.state_dict()))) < limit


def test_it_is_judged_as_the_gan_of_chapter_3_and_by_its_path_length(monkeypatch):
    def coarse(network, images):
        return F.adaptive_avg_pool2d(images, 2).flatten(1)

    monkeypatch.setattr(gan, "features", coarse)
    monkeypatch.setattr(image_metrics, "features", coarse)
    torch.manual_seed(0)
    parts = EmojiStyleGAN.build(SMALL)
    found = EmojiStyleGAN.evaluate(parts, n=40, generator=torch.Generator().manual_seed(0))
    same = gan.EmojiGAN.evaluate(parts, n=40, generator=torch.Generator().manual_seed(0))
    assert found.pop("perceptual path length in W") > 0
    assert found == same
    assert len(same) == 6


class Shades(EmojiStyleGAN):
    """Class 0 is dark, class 1 is bright."""

    @classmethod
    def pictures(cls, split):
        labels = torch.arange(64) % 2
        images = (labels * 1.2 - 0.6).view(-1, 1, 1, 1).expand(-1, 3, 8, 8).contiguous()
        return Images(images, labels=labels, keys=[str(i) for i in range(64)], info=info("emoji"), split=split)


def test_a_network_of_classes_learns_to_paint_the_one_that_is_asked_for():
    config = StyleGANConfig(
        resolution=8, latent_dim=8, width=8, discriminator_width=8, max_width=8, n_layers=2, n_classes=2
    )
    result = run(Shades(config), profile="smoke", device="cpu", steps=150, progress=False)
    generator = result.recipe.parts["generator"]
    z = torch.randn(32, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        dark, bright = (generator(z, torch.full((32,), label)).mean() for label in (0, 1))
    assert bright - dark > 0.4


def test_the_chosen_avatars_are_of_64_pixels_and_each_has_the_label_of_its_style():
    pictures = ChosenAvatarsStyleGAN.pictures("validation")
    assert pictures.images.shape[1:] == (3, 64, 64)
    for label, style in enumerate(STYLES):
        expected = datasets.load("avatars", "validation", style=style, resolution=64).images
        assert torch.equal(pictures.images[pictures.labels == label], expected)


def test_the_chosen_avatars_train_and_are_judged(monkeypatch):
    config = StyleGANConfig(
        resolution=64, latent_dim=8, width=2, discriminator_width=2, max_width=4, n_layers=2, n_classes=len(STYLES)
    )
    whole = ChosenAvatarsStyleGAN.pictures

    def few(cls, split):
        pictures = whole(split)
        pictures.images, pictures.labels = pictures.images[::40], pictures.labels[::40]
        return pictures

    monkeypatch.setattr(ChosenAvatarsStyleGAN, "pictures", classmethod(few))
    result = run(ChosenAvatarsStyleGAN(config), profile="smoke", device="cpu", steps=2, progress=False)
    parts = result.recipe.inference_parts()
    assert parts["generator"].sample(2, generator=torch.Generator().manual_seed(0)).shape == (2, 3, 64, 64)
    quality = ChosenAvatarsStyleGAN.evaluate(parts, n=8, generator=torch.Generator().manual_seed(0))
    assert quality["perceptual path length in W"] > 0
