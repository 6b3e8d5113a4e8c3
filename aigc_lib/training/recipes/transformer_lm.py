"""Training a decoder-only model on a long row of tokens; the first is Shakespeare's plays, character by character."""

from abc import abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aigc_lib.datasets.text import SHAKESPEARE_CHARACTERS, plays
from aigc_lib.models.transformer import LanguageModel, LanguageModelConfig
from aigc_lib.training.optimisers import for_transformer, warmed_up
from aigc_lib.training.recipe import Budget, Context, Recipe
from aigc_lib.training.recipes.characters import CharacterRecipe


class StreamRecipe(Recipe):
    """Windows from anywhere in one long row of tokens; every position of a window predicts the next token."""

    config_class = LanguageModelConfig
    main_part = "model"
    unit: ClassVar[str] = "token"

    @classmethod
    @abstractmethod
    def stream(cls) -> Tensor:
        """The training tokens, (T,), of any integer type."""

    @staticmethod
    def build(config: LanguageModelConfig) -> dict[str, nn.Module]:
        return {"model": LanguageModel(config)}

    def prepare(self, context: Context, total_steps: int) -> None:
        self.context = context
        self.text = self.stream()
        self.parts = {name: part.to(context.device) for name, part in self.build(self.config).items()}
        self.model = self.parts["model"]
        self.optimisers = for_transformer(self.model)
        self.schedulers = warmed_up(self.optimisers, total_steps)
        self.forward = context.compiled(self.model)

    @property
    def n_examples(self) -> int:
        """Windows that differ by a token at least."""
        return len(self.text) - self.config.context_length

    def batch(self, indices: Tensor) -> tuple[Tensor]:
        return (self.text[indices[:, None] + torch.arange(self.config.context_length + 1)].long(),)

    def step(self, text: Tensor) -> dict[str, Tensor]:
        self.model.train()
        with self.context.accelerator.autocast():
            logits = self.forward(text[:, :-1])
        loss = F.cross_entropy(logits.float().flatten(0, 1), text[:, 1:].flatten())
        self.context.update(loss, *self.optimisers.values())
        for scheduler in self.schedulers.values():
            scheduler.step()
        return {f"nats a {self.unit}": loss.detach()}


class ShakespeareTransformer(StreamRecipe, CharacterRecipe):
    name = "transformer-shakespeare"
    unit = "character"
    budgets: ClassVar[dict[str, Budget]] = {
        "smoke": Budget(steps=20, batch_size=4, log_every=5, n_previews=2),
        "laptop": Budget(steps=100, batch_size=16, log_every=10),
        "gpu": Budget(steps=20_000, batch_size=64, log_every=100, checkpoint_every=2_000),
    }

    @classmethod
    def default_config(cls) -> LanguageModelConfig:
        return LanguageModelConfig(vocab_size=len(SHAKESPEARE_CHARACTERS))

    @classmethod
    def stream(cls) -> Tensor:
        return SHAKESPEARE_CHARACTERS.encode("".join(plays("train").values()))

    @staticmethod
    def surprises_of(model: nn.Module, texts: list[Tensor]) -> list[Tensor]:
        return [surprises(model, text) for text in texts]


@torch.no_grad()
def surprises(model: LanguageModel, text: Tensor, *, stride: int | None = None, at_once: int = 16) -> Tensor:
    """−log p of every character but the first, (T,) → (T − 1,), in nats.

    Windows of the trained length, each `stride` further (by default five eighths of it). A window judges only the
    characters that the one before it did not reach, so each but the first few has more than three eighths of the
    context before it, and none is judged twice.
    """
    place, length = next(model.parameters()).device, model.config.context_length
    stride = stride or length * 5 // 8
    starts = [*range(0, max(len(text) - 1 - length, 0), stride), max(len(text) - 1 - length, 0)]
    found = torch.empty(len(text) - 1)
    for begin in range(0, len(starts), at_once):
        windows = torch.stack([text[start : start + length + 1] for start in starts[begin : begin + at_once]]).to(place)
        losses = F.cross_entropy(model(windows[:, :-1]).float().transpose(1, 2), windows[:, 1:], reduction="none").cpu()
        for start, each in zip(starts[begin : begin + at_once], losses, strict=True):
            first = 0 if start == 0 else length - stride
            found[start + first : start + length] = each[first:]
    return found
