"""The recipes of flow matching: what a step sees, that runs resume to the bit, what is judged, and what is shipped."""

import json
import math

import pytest
import torch

from aigc_lib import datasets
from aigc_lib.models.flow_matching import FlowMatchingConfig, passes
from aigc_lib.training import checkpoints
from aigc_lib.training.engine import run
from aigc_lib.training.recipe import Budget
from aigc_lib.training.recipes import flow_matching, resolve
from aigc_lib.training.recipes.effect_pictures import N_LABELS, frames_heard, label_of
from aigc_lib.training.recipes.flow_matching import (
    DigitsFlow,
    EffectsFlow,
    EmojiFlow,
    FlowMatchingTraining,
    bits_per_dimension,
    draw,
    paint,
)

TINY = {"width": 4, "max_width": 16}
SMALL = FlowMatchingConfig(**TINY, n_classes=10)
COLOUR = FlowMatchingConfig(**TINY, resolution=32, n_channels=3)
SOUND = FlowMatchingConfig(**TINY, resolution=64, n_halvings=3, n_classes=N_LABELS)
RECIPES = [(DigitsFlow, SMALL), (EmojiFlow, COLOUR), (EffectsFlow, SOUND)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def few(monkeypatch):
    """Recipes that look at 45 sounds."""
    whole = datasets.load
    limited = lambda name, split="train", **how: whole(name, split, **how | ({"n": 45} if name == "effects" else {}))  # noqa: E731
    monkeypatch.setattr(datasets, "load", limited)


def trained(recipe=DigitsFlow, config=SMALL, steps=3, out=None, **how):
    fresh = recipe(config, FlowMatchingTraining(**how))
    return run(fresh, profile="smoke", device="cpu", steps=steps, out=out, progress=False)


def seen_by(recipe, config, steps=8):
    """What the network was shown: pictures before and after `varied`, and its inputs, (x_t, t, class)."""
    fresh = recipe(config)
    varied, prepare, pairs, inputs = fresh.varied, fresh.prepare, [], []
    fresh.varied = lambda images: pairs.append((images, varied(images))) or pairs[-1][1]

    def watched(context, total):
        prepare(context, total)
        fresh.parts["flow"].register_forward_pre_hook(lambda _, given: inputs.append(given))

    fresh.prepare = watched
    run(fresh, profile="smoke", device="cpu", steps=steps, progress=False)
    before, after = (torch.cat(each) for each in zip(*pairs, strict=True))
    return before, after, inputs


def test_the_loss_begins_at_that_of_standing_still_and_falls():
    losses = [line["matching"] for line in trained(steps=30, learning_rate=1e-2).history]
    images = datasets.load("digits").images
    assert losses[0] == pytest.approx(1 + images.square().mean().item(), rel=0.2)  # E (x₁ − x₀)², two steps later
    assert losses[-1] < 0.85 * losses[0]


def test_digits_are_moved_by_a_pixel_at_most_and_lie_between_the_levels():
    before, after, inputs = seen_by(DigitsFlow, SMALL)
    levels = (after + 1) * 127.5
    assert (levels - levels.round()).abs().max() > 0.4
    offsets = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    apart = torch.stack([(before.roll(o, (2, 3)) - after).abs()[:, :, 2:-2, 2:-2].amax((1, 2, 3)) for o in offsets])
    assert (apart.min(dim=0).values <= 1 / 255 + 1e-6).all()
    assert len(apart.argmin(dim=0).unique()) == 9
    times = torch.cat([time for _, time, _ in inputs])
    assert 0 <= times.min() < 0.1
    assert 0.9 < times.max() < 1


def test_emoji_are_mirrored_as_often_as_not_and_have_no_class():
    before, after, inputs = seen_by(EmojiFlow, COLOUR, steps=12)
    near = [(each - after).square().flatten(1).mean(1) for each in (before, before.flip(3))]
    assert 0.3 < (near[0] < near[1]).float().mean() < 0.7
    assert all(condition is None for _, _, condition in inputs)


def test_spectrograms_are_never_changed_and_come_with_their_labels(few):
    before, after, inputs = seen_by(EffectsFlow, SOUND, steps=12)
    assert torch.equal(before, after)
    asked = torch.cat([condition for *_, condition in inputs])
    sounds = datasets.load("effects")
    assert set(asked.tolist()) <= {*label_of(sounds.labels, sounds.seconds).tolist(), N_LABELS}
    assert (asked == N_LABELS).any()  # now and then the class is forgotten


@pytest.mark.parametrize(("recipe", "config"), RECIPES[:2])
def test_an_interrupted_run_ends_in_the_same_bits(tmp_path, recipe, config):
    trained(recipe, config, 5, tmp_path / "whole")
    whole = checkpoints.read(tmp_path / "whole" / "last.safetensors")["states"]
    stopped = recipe(config)
    step, count = stopped.step, []

    def interrupted(*batch):
        if len(count) == 2:
            raise InterruptedError
        count.append(1)
        return step(*batch)

    stopped.step = interrupted
    stopped.budgets = {"smoke": Budget(steps=5, batch_size=16, checkpoint_every=2)}
    with pytest.raises(InterruptedError):
        run(stopped, profile="smoke", device="cpu", out=tmp_path / "stopped", progress=False)
    trained(recipe, config, 5, tmp_path / "stopped")
    again = checkpoints.read(tmp_path / "stopped" / "last.safetensors")["states"]
    for part in ("part flow", "ema"):
        for name, tensor in whole[part].items():
            assert torch.equal(tensor, again[part][name]), name


def test_what_is_shipped_is_the_average_and_not_the_last_step():
    recipe = trained(steps=4, ema_decay=0.5).recipe
    shipped, last = recipe.inference_parts()["flow"], recipe.parts["flow"]
    assert any(not torch.equal(a, b) for a, b in zip(shipped.parameters(), last.parameters(), strict=True))


def test_classes_take_turns_and_samples_are_those_of_their_generator():
    torch.manual_seed(0)
    model = DigitsFlow.build(SMALL)["flow"]
    images, classes = draw(model, 103, n_steps=1, solver="euler", generator=generator())
    assert images.shape == (103, 1, 28, 28)
    assert classes.tolist() == [i % 10 for i in range(103)]
    noise = torch.randn(100, 1, 28, 28, generator=generator())
    torch.testing.assert_close(images[:100], noise.clamp(-1, 1))  # an untrained network stands still
    assert draw(EmojiFlow.build(COLOUR)["flow"], 2, n_steps=1, generator=generator())[1] is None


def test_bits_per_dimension_of_a_network_that_stands_still_are_those_of_noise():
    images = torch.full((2, 1, 28, 28), 0.5)
    model = DigitsFlow.build(SMALL)["flow"]
    bits = bits_per_dimension(model, (images, torch.tensor([0, 1])), n_steps=1, generator=generator())
    expected = (0.5 * math.log(2 * math.pi) + 0.125) / math.log(2) + math.log2(127.5)
    assert bits.tolist() == pytest.approx([expected] * 2, abs=1e-3)


def test_what_was_asked_for_reaches_the_painter_and_effects_have_their_length():
    torch.manual_seed(0)
    model = EffectsFlow.build(SOUND)["flow"]
    asked = []
    model.register_forward_pre_hook(lambda _, given: asked.append(given[2]))
    kinds, seconds = torch.tensor([0, 0, 14]), torch.tensor([0.3, 0.9, 1.0])
    pictures = paint(model, kinds, seconds, n_steps=1, generator=generator())
    assert len(asked) == passes(1)
    assert torch.equal(asked[0], label_of(kinds, seconds))
    assert frames_heard(pictures)[0] <= 19 < frames_heard(pictures)[1] <= 57


@pytest.mark.parametrize(("recipe", "config"), RECIPES)
def test_each_is_sampled_into_a_file_and_refuses_others(tmp_path, recipe, config):
    torch.manual_seed(0)
    parts = recipe.build(config)
    path = recipe.sample(parts, tmp_path / f"new{recipe.samples_suffix}", n=2, generator=generator())
    assert path.stat().st_size > 0
    with pytest.raises(ValueError, match=r"file, got 'new\.txt'"):
        recipe.sample(parts, tmp_path / "new.txt", n=2, generator=generator())


def test_evaluation_tells_everything_that_the_others_are_judged_by(few, monkeypatch):
    monkeypatch.setattr(flow_matching, "N_STEPS", 1)
    monkeypatch.setattr(flow_matching, "N_LIKELIHOODS", (4, 2))
    torch.manual_seed(0)
    digits = DigitsFlow.evaluate(DigitsFlow.build(SMALL), n=40, generator=generator())
    assert set(digits) > set(checkpoints.record_of("gan-digits")["metrics"]) - {"modes"}
    assert 0 <= digits["accuracy of the asked class"] < 0.5
    assert digits["bits per dimension of 4 images"] == pytest.approx(math.log2(127.5 * math.sqrt(2 * math.pi)), abs=0.8)
    sounds = EffectsFlow.evaluate(EffectsFlow.build(SOUND), n=15, generator=generator())
    assert set(sounds) < set(checkpoints.record_of("stylegan-effects")["metrics"])
    assert sounds["accuracy, generated"] < 0.5


@pytest.mark.parametrize(("name", "most"), [("digits", 0.6e6), ("emoji", 1.1e6), ("effects", 0.7e6)])
def test_the_checkpoints_are_small(name, most):
    recipe = resolve(f"flow-matching-{name}")
    (flow,) = recipe.build(recipe.default_config()).values()
    in_half = 2 * sum(tensor.numel() for tensor in flow.state_dict().values())
    assert in_half + 4 * len(json.dumps(list(flow.state_dict()))) < most
    assert not recipe.ships_previews
