"""Training an encoder–decoder Transformer on pairs of sequences; the first are spelling and sound."""

from abc import abstractmethod
from collections import defaultdict
from functools import cache
from pathlib import Path
from string import ascii_lowercase
from typing import ClassVar

import torch
from torch import Tensor, nn

from aigc_lib import datasets
from aigc_lib.datasets.vocabulary import SymbolVocabulary
from aigc_lib.metrics.text import error_rates
from aigc_lib.models.transformer import PAD, Transformer, TransformerConfig, sequence_loss
from aigc_lib.training.optimisers import for_transformer, warmed_up
from aigc_lib.training.recipe import Budget, Context, Recipe

Symbols = list[str]
# fmt: off
PHONEMES = [
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY", "JH", "K",
    "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH",
]
# fmt: on


class PairsRecipe(Recipe):
    """Cross-entropy with label smoothing under teacher forcing; Muon and AdamW, warm-up and half a cosine."""

    config_class = TransformerConfig
    main_part = "transformer"
    samples_suffix = ".txt"
    smoothing: ClassVar[float] = 0.1
    n_chunks: ClassVar[int] = 4  # a batch is sorted by length and cut: short pairs do not pay for long ones

    @classmethod
    @abstractmethod
    def vocabularies(cls) -> tuple[SymbolVocabulary, SymbolVocabulary]:
        """Of source and target."""

    @classmethod
    @abstractmethod
    def pairs(cls, split: str) -> list[tuple[Symbols, Symbols]]:
        """Sources and targets as symbols."""

    @staticmethod
    def build(config: TransformerConfig) -> dict[str, nn.Module]:
        return {"transformer": Transformer(config)}

    def prepare(self, context: Context, total_steps: int) -> None:
        self.context = context
        source, target = self.vocabularies()
        sources, targets = zip(*self.pairs("train"), strict=True)
        self.sources, self.targets = source.encode(sources), target.encode(targets, begin=True)
        self.parts = {name: part.to(context.device) for name, part in self.build(self.config).items()}
        self.network = self.parts["transformer"]
        self.optimisers = for_transformer(self.network)
        self.schedulers = warmed_up(self.optimisers, total_steps)
        self.forward = context.compiled(self.network)

    @property
    def n_examples(self) -> int:
        return len(self.sources)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.sources[indices], self.targets[indices]

    def step(self, source: Tensor, target: Tensor) -> dict[str, Tensor]:
        self.network.train()
        lengths = (source != PAD).sum(dim=1) + (target != PAD).sum(dim=1)
        n_tokens = (target[:, 1:] != PAD).sum()
        loss = torch.zeros((), device=source.device)
        for chunk in lengths.argsort().chunk(self.n_chunks):
            some, wanted = trimmed(source[chunk]), trimmed(target[chunk])
            with self.context.accelerator.autocast():
                logits = self.forward(some, wanted[:, :-1])  # what is fed in is one token behind what is asked for
            share = (wanted[:, 1:] != PAD).sum() / n_tokens
            loss = loss + share * sequence_loss(logits.float(), wanted[:, 1:], self.smoothing)
        self.context.update(loss, *self.optimisers.values())
        for scheduler in self.schedulers.values():
            scheduler.step()
        return {"cross-entropy": loss.detach()}

    @classmethod
    def answers(cls, network: Transformer, sources: list[Symbols], *, beam_size: int = 4) -> list[Symbols]:
        """What the network makes of sources, in batches of similar length."""
        vocabulary, spoken = cls.vocabularies()
        device = next(network.parameters()).device
        order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
        found: dict[int, Symbols] = {}
        for start in range(0, len(order), 100):
            some = order[start : start + 100]
            tokens = vocabulary.encode([sources[i] for i in some]).to(device)
            best = network.translate(tokens, beam_size=beam_size, max_tokens=3 * tokens.shape[1] + 5)
            found |= zip(some, spoken.decode(best), strict=True)
        return [found[i] for i in range(len(sources))]

    @classmethod
    def sample(cls, parts: dict[str, nn.Module], out: Path, *, n: int, generator: torch.Generator) -> Path:
        """`n` held-out sources, what the network makes of them, and what the data say."""
        if out.suffix.lower() != ".txt":
            raise ValueError(f"text goes into a .txt file, got {out.name!r}")
        pairs = cls.pairs("test")
        chosen = [pairs[i] for i in torch.randperm(len(pairs), generator=generator)[:n].tolist()]
        made = cls.answers(parts["transformer"], [source for source, _ in chosen])
        lines = [
            f"{''.join(source)}\t{cls.joined(answer)}\t({cls.joined(target)})\n"
            for (source, target), answer in zip(chosen, made, strict=True)
        ]
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("".join(lines), encoding="utf-8")
        return out

    @classmethod
    def joined(cls, symbols: Symbols) -> str:
        """A target as people write it."""
        return " ".join(symbols)


def trimmed(tokens: Tensor) -> Tensor:
    """Without the columns that are padding alone."""
    return tokens[:, : int((tokens != PAD).sum(dim=1).max())]


class Pronunciations(PairsRecipe):
    """Letters to phonemes."""

    name = "transformer-pronunciations"
    dataset = "pronunciations"
    budgets: ClassVar[dict[str, Budget]] = {
        "smoke": Budget(steps=10, batch_size=32, log_every=5),
        "laptop": Budget(steps=150, batch_size=128),
        "gpu": Budget(steps=30_000, batch_size=1024, log_every=100, checkpoint_every=2_000),
    }

    @classmethod
    def default_config(cls) -> TransformerConfig:
        source, target = cls.vocabularies()
        return TransformerConfig(source_vocab_size=len(source), vocab_size=len(target), dropout=0.0)

    @classmethod
    @cache
    def vocabularies(cls) -> tuple[SymbolVocabulary, SymbolVocabulary]:
        return SymbolVocabulary("'-._" + ascii_lowercase), SymbolVocabulary(PHONEMES)

    @classmethod
    def pairs(cls, split: str) -> list[tuple[Symbols, Symbols]]:
        return [(list(item.word), list(item.phonemes)) for item in datasets.load(cls.dataset, split)]

    @classmethod
    def evaluate(cls, parts: dict[str, nn.Module], *, n: int, generator: torch.Generator) -> dict[str, float]:
        """Phoneme and word error rates, beam 4, on `n` words of the test split; the closest reference counts."""
        right: dict[str, list[Symbols]] = defaultdict(list)
        for word, phonemes in cls.pairs("test"):
            right["".join(word)].append(phonemes)
        words = [list(right)[i] for i in torch.randperm(len(right), generator=generator)[:n].tolist()]
        rates = error_rates(
            cls.answers(parts["transformer"], [list(word) for word in words]), [right[word] for word in words]
        )
        return {"phoneme error rate": rates.symbols, "word error rate": rates.sequences, "words": len(words)}
