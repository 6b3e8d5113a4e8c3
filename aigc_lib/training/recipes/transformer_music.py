"""Training decoder-only Transformers on music: four-part chorales, and tunes for one voice."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from aigc_lib import datasets
from aigc_lib.datasets import scores
from aigc_lib.datasets.base import MusicItem, stable_hash
from aigc_lib.models.sampling import fill_in
from aigc_lib.models.transformer import LanguageModel, LanguageModelConfig
from aigc_lib.training.recipe import Budget
from aigc_lib.training.recipes.transformer_lm import StreamRecipe, surprises


class Chorales(StreamRecipe):
    """Bach's chorales in every key that the voices' ranges allow, the soprano a bar ahead."""

    name = "transformer-chorales"
    dataset = "bach"
    samples_suffix = ".mid"
    budgets: ClassVar[dict[str, Budget]] = {
        "smoke": Budget(steps=10, batch_size=4, log_every=2),
        "laptop": Budget(steps=30, batch_size=8, log_every=5),
        "gpu": Budget(steps=6000, batch_size=16, log_every=50),
    }

    @classmethod
    def default_config(cls) -> LanguageModelConfig:
        return LanguageModelConfig(
            vocab_size=scores.CHORALE_TOKENS, width=128, n_heads=4, n_layers=4, context_length=320, dropout=0.15
        )

    @classmethod
    def stream(cls) -> Tensor:
        rows = []
        for item in datasets.load(cls.dataset):
            grid = scores.chorale_grid(item)
            metre = scores.metre_signs(item, len(grid))
            rows += [scores.chorale_tokens(grid, metre, shift).flatten() for shift in scores.shifts(grid)]
        return torch.cat(_shuffled(rows)).to(torch.int16)

    @classmethod
    def evaluate(cls, parts: dict[str, torch.nn.Module], *, n: int, generator: torch.Generator) -> dict[str, float]:
        """Nats a note of the test chorales: the lower three voices given the melody, and the melody."""
        items = list(datasets.load(cls.dataset, "test"))[:n]
        nats, notes = torch.zeros(2), torch.zeros(2)
        for item in items:
            frames = chorale_frames(item)
            losses = F.pad(surprises(parts["model"], frames.flatten()), (1, 0)).view(frames.shape)
            nats += torch.stack([losses[:, 2:].sum(), losses[:, 1].sum()])
            notes += torch.stack([(frames[:, 2:] > scores.BEFORE).sum(), (frames[:, 1] > scores.BEFORE).sum()])
        lower, melody = (nats / notes).tolist()
        return {"nats a note, lower voices": lower, "nats a note, soprano": melody, "chorales": len(items)}


def chorale_frames(item: MusicItem) -> Tensor:
    """A chorale as the model reads it, (T + AHEAD, 5)."""
    grid = scores.chorale_grid(item)
    return scores.chorale_tokens(grid, scores.metre_signs(item, len(grid)))


def harmonise(
    model: LanguageModel, frames: Tensor, *, temperature: float = 1.0, generator: torch.Generator, watch=iter
) -> Tensor:
    """Alto, tenor and bass for a soprano: frames (T + AHEAD, 5), whose lower voices do not matter, → (T + AHEAD, 5).

    `watch` as in `fill_in`.
    """
    free = torch.zeros(frames.shape, dtype=torch.bool)
    free[scores.AHEAD :, 2:] = True
    allowed, place = scores.allowed_tokens(), next(model.parameters()).device
    filled = fill_in(
        model,
        frames.flatten()[None].to(place),
        free.flatten(),
        allowed=lambda before: allowed[before.shape[1] % scores.FRAME],
        temperature=temperature,
        generator=generator,
        watch=watch,
    )
    return filled.view(frames.shape).cpu()


class Tunes(StreamRecipe):
    """O'Neill's tunes in many keys, and now and then the rhythm of one alone."""

    name = "transformer-tunes"
    dataset = "oneill"
    samples_suffix = ".mid"
    budgets: ClassVar[dict[str, Budget]] = {
        "smoke": Budget(steps=10, batch_size=4, log_every=2),
        "laptop": Budget(steps=30, batch_size=8, log_every=5),
        "gpu": Budget(steps=6000, batch_size=16, log_every=50),
    }
    keys: ClassVar[tuple[int, ...]] = tuple(range(-5, 7))

    @classmethod
    def default_config(cls) -> LanguageModelConfig:
        return LanguageModelConfig(
            vocab_size=scores.TUNE_TOKENS, width=128, n_heads=4, n_layers=4, context_length=320, dropout=0.1
        )

    @classmethod
    def stream(cls) -> Tensor:
        rows = []
        for item in readable(datasets.load(cls.dataset)):
            low, high = item.notes[:, 2].aminmax()
            keys = [k for k in cls.keys if scores.PITCHES[0] <= low + k and high + k <= scores.PITCHES[-1]]
            tokens = torch.tensor(scores.tune_tokens(item))
            rows += [torch.where(tokens >= scores.FIRST_PITCH, tokens + key, tokens) for key in keys]
            rows += [torch.tensor(scores.tune_tokens(item, rhythm=True))] * 2
        return torch.cat(_shuffled(rows)).to(torch.int16)

    @classmethod
    def evaluate(cls, parts: dict[str, torch.nn.Module], *, n: int, generator: torch.Generator) -> dict[str, float]:
        """Nats a note of the test tunes, bar lines and the end counted in, and nats a duration of their rhythms."""
        items = readable(datasets.load(cls.dataset, "test"))[:n]
        totals = []
        for rhythm in (False, True):
            tokens = [torch.tensor(scores.tune_tokens(item, rhythm=rhythm)) for item in items]
            # What is fed in first, the kind of piece, is given; the metre after it is not judged.
            totals.append(sum(float(surprises(parts["model"], row)[1:].sum()) for row in tokens))
        notes = sum(len(item.notes) for item in items)
        return {"nats a note": totals[0] / notes, "nats a note, rhythm": totals[1] / notes, "tunes": len(items)}


def readable(items) -> list[MusicItem]:
    """The tunes that have tokens: one voice, and no rare metre or duration."""
    found = []
    for item in items:
        try:
            scores.tune_tokens(item)
        except ValueError:
            continue
        found.append(item)
    return found


def _shuffled(rows: list[Tensor]) -> list[Tensor]:
    """In an order that is the same everywhere, so that neighbours in the stream are not one piece in two keys."""
    return [rows[i] for i in sorted(range(len(rows)), key=lambda i: stable_hash("order", i))]
