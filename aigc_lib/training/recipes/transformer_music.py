"""Training decoder-only Transformers on music: four-part chorales, and tunes for one voice."""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from aigc_lib import datasets
from aigc_lib.datasets import scores
from aigc_lib.datasets.base import MusicItem
from aigc_lib.datasets.music import first_bars, first_voice, in_order
from aigc_lib.metrics.music import voice_leading
from aigc_lib.models.sampling import fill_in
from aigc_lib.models.transformer import LanguageModel, LanguageModelConfig
from aigc_lib.training.recipe import Budget
from aigc_lib.training.recipes.transformer_lm import StreamRecipe, surprises


class MusicRecipe(StreamRecipe):
    """One size and one budget for both kinds of music."""

    n_tokens: ClassVar[int]
    context_length: ClassVar[int]
    budgets: ClassVar[dict[str, Budget]] = {
        "smoke": Budget(steps=10, batch_size=4, log_every=2),
        "laptop": Budget(steps=30, batch_size=8, log_every=5),
        "gpu": Budget(steps=6000, batch_size=16, log_every=50),
    }

    @classmethod
    def default_config(cls) -> LanguageModelConfig:
        sizes = {"width": 128, "n_heads": 4, "n_layers": 4, "dropout": 0.1}
        return LanguageModelConfig(vocab_size=cls.n_tokens, context_length=cls.context_length, **sizes)


class Chorales(MusicRecipe):
    """Bach's chorales, each in C and in the six keys around it: so few are learned by heart in one key."""

    name = "transformer-chorales"
    dataset = "bach"
    n_tokens = scores.CHORALE_TOKENS
    context_length = 54 * scores.FRAME

    @classmethod
    def stream(cls) -> Tensor:
        items = datasets.load(cls.dataset)
        rows = [scores.chorale_frames(item, key).flatten() for key in range(-3, 4) for item in items]
        return torch.cat(rows).to(torch.int16)

    @classmethod
    def evaluate(cls, parts: dict[str, torch.nn.Module], *, n: int, generator: torch.Generator) -> dict[str, float]:
        """Nats a note of the test chorales, and the faults in a hundred chords of harmonies for their first 16 bars."""
        items = list(datasets.load(cls.dataset, "test"))[:n]
        nats, notes = torch.zeros(2), torch.zeros(2)
        for item in items:
            frames = scores.chorale_frames(item)
            losses = F.pad(surprises(parts["model"], frames.flatten()), (1, 0)).view(frames.shape)
            nats += torch.stack([losses[:, scores.LOWER].sum(), losses[:, 1].sum()])
            notes += torch.stack([scores.is_onset(frames[:, place]).sum() for place in (scores.LOWER, 1)])
        lower, melody = (nats / notes).tolist()
        openings = [first_bars(item, 16) for item in items]
        made = harmonise(parts["model"], openings, temperature=0.9, parallels=True, generator=generator)
        faults = voice_leading(made)
        return {
            "nats a note, lower voices": lower,
            "nats a note, soprano": melody,
            "parallel fifths": faults.parallel_fifths,
            "parallel octaves": faults.parallel_octaves,
            "crossing": faults.crossing,
            "chorales": len(items),
        }


def harmonise(
    model: LanguageModel,
    melodies: Sequence[MusicItem],
    *,
    temperature: float = 1.0,
    parallels: bool = False,
    generator: torch.Generator,
    watch=iter,
) -> list[Tensor]:
    """Four voices for each melody: its own notes, and alto, tenor and bass on the grid of eighths; (N, 4) each.

    Args:
        melodies: their lower voices, if there are any, are not looked at.
        parallels: let the model write parallel fifths and octaves; otherwise it has to choose another note.
        watch: as in `fill_in`.

    Raises:
        ValueError: as `chorale_frames`.
    """
    sopranos = [first_voice(melody) for melody in melodies]
    given = [scores.chorale_frames(soprano) for soprano in sopranos]
    longest = max(map(len, given))
    rows = torch.stack([F.pad(frames, (0, 0, 0, longest - len(frames)), value=scores.SILENCE) for frames in given])
    free = torch.zeros(rows.shape[1:], dtype=torch.bool)
    free[scores.AHEAD :, scores.LOWER] = True
    keys = [melody.key_signature for melody in melodies]
    filled = fill_in(
        model,
        rows.flatten(1).to(next(model.parameters()).device),
        free.flatten(),
        allowed=lambda before: scores.allowed_tokens(before, keys, parallels=parallels),
        temperature=temperature,
        generator=generator,
        watch=watch,
    )
    pieces = []
    for soprano, frames, made in zip(sopranos, given, filled.view(rows.shape).cpu(), strict=True):
        notes = scores.chorale_notes(made[: len(frames)], soprano.key_signature)
        pieces.append(in_order(torch.cat([soprano.notes, notes[notes[:, 3] > 0]])))
    return pieces


class Tunes(MusicRecipe):
    """O'Neill's tunes, each followed by its rhythm alone."""

    name = "transformer-tunes"
    dataset = "oneill"
    n_tokens = scores.TUNE_TOKENS
    context_length = 320

    @classmethod
    def stream(cls) -> Tensor:
        items = readable(datasets.load(cls.dataset))
        rows = [torch.tensor(scores.tune_tokens(item, rhythm=rhythm)) for item in items for rhythm in (False, True)]
        return torch.cat(rows).to(torch.int16)

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
