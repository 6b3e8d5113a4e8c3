"""Training the translator of Chinese sentences."""

import re
from collections import Counter
from functools import cache
from typing import ClassVar

import sacrebleu
import torch
from torch import nn

from aigc_lib import datasets
from aigc_lib.datasets.vocabulary import SymbolVocabulary
from aigc_lib.models.transformer import TransformerConfig
from aigc_lib.training.recipe import Budget
from aigc_lib.training.recipes.transformer import PairsRecipe, Symbols


class ChineseEnglish(PairsRecipe):
    """Chinese characters to English words; words seen once are spelt letter by letter."""

    name = "transformer-zh-en"
    dataset = "zh-en"
    budgets: ClassVar[dict[str, Budget]] = {
        "smoke": Budget(steps=10, batch_size=16, log_every=5),
        "laptop": Budget(steps=100, batch_size=64, log_every=10),
        "gpu": Budget(steps=3000, batch_size=256, log_every=50),
    }

    @classmethod
    def default_config(cls) -> TransformerConfig:
        source, target = cls.vocabularies()
        return TransformerConfig(
            source_vocab_size=len(source), vocab_size=len(target), width=128, n_layers=2, dropout=0.3
        )

    @classmethod
    @cache
    def vocabularies(cls) -> tuple[SymbolVocabulary, SymbolVocabulary]:
        """From the training split. Chinese characters seen once teach what an unknown one means."""
        items = datasets.load(cls.dataset)
        characters = Counter(character for item in items for character in item.source)
        pieces = Counter(piece for item in items for piece in split_words(item.target))
        letters = {letter for piece in pieces for letter in piece}
        return (
            SymbolVocabulary(["〓", *sorted(c for c, n in characters.items() if n > 1)], unknown="〓"),
            SymbolVocabulary(["�", *sorted(letters | {p for p, n in pieces.items() if n > 1})], unknown="�"),
        )

    @classmethod
    def pairs(cls, split: str) -> list[tuple[Symbols, Symbols]]:
        known = set(cls.vocabularies()[1].symbols)
        return [
            (
                list(item.source),
                [s for piece in split_words(item.target) for s in ([piece] if piece in known else piece)],
            )
            for item in datasets.load(cls.dataset, split)
        ]

    @classmethod
    def joined(cls, symbols: Symbols) -> str:
        return "".join(symbols).strip()

    @classmethod
    def evaluate(cls, parts: dict[str, nn.Module], *, n: int, generator: torch.Generator) -> dict[str, float]:
        """chrF and BLEU by sacrebleu, 0 to 100, beam 4, on `n` sentences of the test split."""
        items = datasets.load(cls.dataset, "test")
        chosen = [items[i] for i in torch.randperm(len(items), generator=generator)[:n].tolist()]
        answers = map(cls.joined, cls.answers(parts["transformer"], [list(item.source) for item in chosen]))
        made, right = list(answers), [[item.target for item in chosen]]
        return {
            "chrF": sacrebleu.corpus_chrf(made, right).score,
            "BLEU": sacrebleu.corpus_bleu(made, right).score,
            "sentences": len(chosen),
        }


def split_words(text: str) -> Symbols:
    """English text in pieces that join to the text again: words with the blank before them, and single signs."""
    return re.findall(r" ?[A-Za-z]+|.", text)
