"""The Transformer's recipes: what is asked of the network, what is judged, and what is written."""

import functools
import math
import signal

import pytest
import torch
import torch.nn.functional as F

from aigc_lib import datasets
from aigc_lib.datasets.text import SHAKESPEARE_CHARACTERS
from aigc_lib.models.transformer import (
    LanguageModel,
    LanguageModelConfig,
    Transformer,
    TransformerConfig,
    sequence_loss,
)
from aigc_lib.training.checkpoints import read
from aigc_lib.training.engine import run
from aigc_lib.training.recipes.transformer import Pronunciations, trimmed
from aigc_lib.training.recipes.transformer_lm import ShakespeareTransformer, surprises
from aigc_lib.training.recipes.transformer_zh_en import ChineseEnglish, split_words

TINY = {"width": 16, "n_heads": 2, "n_layers": 1}


def tiny(recipe: type):
    return recipe(recipe.config_class(**{**vars(recipe.default_config()), **TINY, "dropout": 0.1}))


@functools.cache
def some_words(split: str):
    items = datasets.load("pronunciations", split)
    return [(list(items[i].word), list(items[i].phonemes)) for i in range(0, len(items), 67)][:200]


@pytest.fixture(autouse=True)
def few_examples(monkeypatch):
    play = "ACT ONE\n" * 200
    monkeypatch.setattr(Pronunciations, "pairs", classmethod(lambda cls, split: some_words(split)))
    for module in ("transformer_lm", "characters"):
        two = lambda split: {"comedies/one": play, "comedies/two": play}  # noqa: E731
        monkeypatch.setattr(f"aigc_lib.training.recipes.{module}.plays", two)


def test_the_vocabularies_know_every_word_of_every_split():
    for recipe in (Pronunciations, ChineseEnglish):
        config = recipe.default_config()
        assert (config.source_vocab_size, config.vocab_size) == tuple(map(len, recipe.vocabularies()))
        for split in ("train", "test"):
            sources, targets = zip(*recipe.pairs(split), strict=True)
            for vocabulary, symbols in zip(recipe.vocabularies(), (sources, targets), strict=True):
                assert len(vocabulary.encode(symbols)) == len(symbols)


def test_english_is_cut_into_pieces_that_join_again_and_rare_words_are_spelt():
    text = "I can't buy 3 books, Anna!"
    assert "".join(split_words(text)) == text
    assert split_words(text)[:4] == ["I", " can", "'", "t"]
    for item, (_, target) in zip(datasets.load("zh-en", "test"), ChineseEnglish.pairs("test"), strict=True):
        assert "".join(target) == item.target
    assert ["".join(target) for _, target in ChineseEnglish.pairs("test")].count("") == 0


def test_a_step_asks_for_the_next_symbol_of_every_pair_whatever_the_chunks():
    recipe = tiny(Pronunciations)
    run(recipe, profile="smoke", device="cpu", steps=0, progress=False)
    recipe.network.eval()
    recipe.network.train = lambda mode=True: recipe.network  # no dropout: chunks draw it in another order
    source, target = recipe.batch(torch.arange(37))
    expected = sequence_loss(recipe.network(trimmed(source), target[:, :-1]), target[:, 1:], recipe.smoothing)
    assert recipe.step(source, target)["cross-entropy"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("recipe", [Pronunciations, ShakespeareTransformer])
def test_an_interrupted_run_ends_with_the_same_bits(recipe, tmp_path):
    def stop_in_the_second_step(*batch):
        if step.__self__.schedulers["rest"].last_epoch == 1:
            signal.raise_signal(signal.SIGINT)
        return step(*batch)

    how = {"profile": "smoke", "device": "cpu", "steps": 4, "progress": False}
    run(tiny(recipe), out=tmp_path / "whole", **how)
    interrupted = tiny(recipe)
    step, interrupted.step = interrupted.step, stop_in_the_second_step
    with pytest.raises(KeyboardInterrupt):
        run(interrupted, out=tmp_path / "parts", **how)
    assert read(tmp_path / "parts" / "last.safetensors")["step"] == 2
    run(tiny(recipe), out=tmp_path / "parts", **how)
    whole, parts = ((tmp_path / name / "last.safetensors").read_bytes() for name in ("whole", "parts"))
    assert whole == parts


def test_answers_come_back_in_the_order_of_the_questions():
    torch.manual_seed(0)
    network = Transformer(TransformerConfig(**{**vars(Pronunciations.default_config()), **TINY})).eval()
    words = [list(word) for word in ("aardvark", "i", "zebras", "a")]
    together = Pronunciations.answers(network, words, beam_size=2)
    assert len(together) == 4
    assert [len(each) for each in together] == [
        len(Pronunciations.answers(network, [w], beam_size=2)[0]) for w in words
    ]


def test_evaluation_judges_each_word_once_by_its_closest_pronunciation():
    torch.manual_seed(0)
    network = Transformer(TransformerConfig(**{**vars(Pronunciations.default_config()), **TINY})).eval()
    with pytest.MonkeyPatch.context() as patch:
        right = dict(reversed([("".join(word), phonemes) for word, phonemes in Pronunciations.pairs("test")]))
        patch.setattr(Pronunciations, "answers", classmethod(lambda cls, n, s, **k: [right["".join(x)] for x in s]))
        metrics = Pronunciations.evaluate({"transformer": network}, n=20, generator=torch.Generator().manual_seed(0))
    assert metrics == {"phoneme error rate": 0, "word error rate": 0, "words": 20}


def test_every_character_but_the_first_is_judged_with_enough_before_it():
    torch.manual_seed(0)
    model = LanguageModel(LanguageModelConfig(**TINY, context_length=16)).eval()
    text = SHAKESPEARE_CHARACTERS.encode("To be, or not to be, that is the question:\nWhether" * 3)
    found = surprises(model, text, stride=4)
    assert found.shape == (len(text) - 1,)
    with torch.no_grad():
        for t in (0, 5, 15, 16, 40, len(text) - 2):
            start = max(0, -(-max(t - 15, 0) // 4) * 4)
            start = min(start, len(text) - 1 - 16)
            logits = model(text[None, start : t + 1])[0, -1]
            assert found[t].item() == pytest.approx(F.cross_entropy(logits, text[t + 1]).item(), abs=1e-4)
            assert t - start >= min(t, 11)


def test_evaluation_of_an_even_guesser_is_log_69():
    model = LanguageModel(LanguageModelConfig(**TINY)).eval()
    torch.nn.init.zeros_(model.embed.tokens.weight)
    metrics = ShakespeareTransformer.evaluate({"model": model}, n=1, generator=torch.Generator())
    assert metrics["nats a character"] == pytest.approx(math.log(69), abs=1e-5)
    assert metrics["perplexity"] == pytest.approx(69, rel=1e-4)


def test_samples_go_into_text_files(tmp_path):
    torch.manual_seed(0)
    speaker = Transformer(TransformerConfig(**{**vars(Pronunciations.default_config()), **TINY})).eval()
    author = LanguageModel(LanguageModelConfig(**TINY)).eval()
    for recipe, parts in ((Pronunciations, {"transformer": speaker}), (ShakespeareTransformer, {"model": author})):
        files = [
            recipe.sample(parts, tmp_path / "deep" / f"{i}.txt", n=2, generator=torch.Generator().manual_seed(0))
            for i in range(2)
        ]
        assert files[0].read_text() == files[1].read_text() != ""
        with pytest.raises(ValueError, match=r"\.txt file, got 'a\.png'"):
            recipe.sample(parts, tmp_path / "a.png", n=1, generator=torch.Generator())
