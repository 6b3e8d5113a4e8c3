"""What all character models of Shakespeare's plays have in common: how they are shown, sampled and judged."""

from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from aigc_lib.datasets.text import SHAKESPEARE_CHARACTERS, plays
from aigc_lib.training.recipe import Recipe

BEGINNING = SHAKESPEARE_CHARACTERS.encode("\n\n")  # a speech begins after an empty line


class CharacterRecipe(Recipe):
    """A language model, the part "model", whose `generate` goes on from a prompt."""

    dataset = "shakespeare"
    samples_suffix = ".txt"
    main_part = "model"

    @staticmethod
    @abstractmethod
    def surprises_of(model: nn.Module, texts: list[Tensor]) -> Iterable[Tensor]:
        """-log p of every character but the first given those before it: for each text (T,) a (T - 1,), in nats."""

    def inference_parts(self) -> dict[str, nn.Module]:
        return {"model": self.parts["model"]}

    def preview(self) -> Tensor:
        """Four passages of 240 characters, always from the same random numbers, uint8."""
        return passages(self.parts["model"].eval(), 4, 240, generator=torch.Generator().manual_seed(0)).to(torch.uint8)

    def save_preview(self, preview: Tensor, stem: Path) -> None:
        _write(preview.long(), stem.with_suffix(".txt"))

    @classmethod
    def sample(cls, parts: dict[str, nn.Module], out: Path, *, n: int, generator: torch.Generator) -> Path:
        """`n` passages of 400 characters."""
        if out.suffix.lower() != ".txt":
            raise ValueError(f"texts go into a .txt file, got {out.name!r}")
        out.parent.mkdir(parents=True, exist_ok=True)
        _write(passages(parts["model"], n, 400, generator=generator), out)
        return out

    @classmethod
    def evaluate(cls, parts: dict[str, nn.Module], *, n: int, generator: torch.Generator) -> dict[str, float]:
        """Nats a character over the whole test plays, at most `n` of them, each read from its start to its end."""
        texts = [SHAKESPEARE_CHARACTERS.encode(play) for play in list(plays("test").values())[:n]]
        surprise = torch.cat(list(cls.surprises_of(parts["model"], texts)))
        return {"nats a character": surprise.mean().item(), "perplexity": surprise.mean().exp().item()}


def passages(model: nn.Module, n: int, length: int, *, generator: torch.Generator) -> Tensor:
    """`n` speeches or parts of them, (n, length), a little more likely than the model's own mean (temperature 0.8)."""
    prompt = BEGINNING.to(next(model.parameters()).device).expand(n, -1)
    return model.generate(prompt, length, temperature=0.8, generator=generator).cpu()


def _write(tokens: Tensor, path: Path) -> None:
    """Passages as text, a line of dashes between them."""
    path.write_text("\n\n----\n\n".join(SHAKESPEARE_CHARACTERS.decode(row) for row in tokens) + "\n", encoding="utf-8")
