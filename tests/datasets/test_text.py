"""Plays are clean and whole, pairs are real translations, words have the phonemes of the dictionary."""

import re
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aigc_lib.datasets import load
from aigc_lib.datasets.base import SPLITS
from aigc_lib.datasets.text import HELD_OUT, SHAKESPEARE_CHARACTERS, CharacterVocabulary, sentence_groups
from aigc_lib.datasets.text import plays as whole_plays


@pytest.fixture(scope="module")
def plays():
    return {split: load("shakespeare", split) for split in SPLITS}


def text_of(data):
    return "".join(item.text for item in data)


def test_a_play_lies_in_one_split(plays):
    titles = [{item.key.rsplit("/", 1)[0] for item in data} for data in plays.values()]
    assert sum(map(len, titles)) == len(set.union(*titles)) == 38


def test_the_held_out_plays_are_the_named_ones(plays):
    titles = {item.key.rsplit("/", 1)[0] for item in plays["test"]}
    assert titles == {"comedies/twelfth-night", "histories/henry-v", "tragedies/macbeth"}
    held_out = titles | {item.key.rsplit("/", 1)[0] for item in plays["validation"]}
    assert held_out == set(HELD_OUT)


def test_whole_plays_are_their_scenes_in_order(plays):
    whole = whole_plays("test")
    assert "".join(whole.values()) == text_of(plays["test"])
    assert whole["tragedies/macbeth"].startswith("FIRST WITCH:\nWhen shall we three meet again\n")


def test_the_vocabulary_is_what_the_plays_are_made_of(plays):
    assert SHAKESPEARE_CHARACTERS.characters == "".join(sorted(set(text_of(plays["train"]))))


@given(st.text(alphabet=SHAKESPEARE_CHARACTERS.characters))
def test_decoding_undoes_encoding(line):
    tokens = SHAKESPEARE_CHARACTERS.encode(line)
    assert tokens.dtype == torch.int64
    assert tokens.shape == (len(line),)
    assert SHAKESPEARE_CHARACTERS.decode(tokens) == line


def test_a_token_is_the_place_of_its_character():
    assert CharacterVocabulary("ba妈").encode("妈ab").tolist() == [2, 1, 0]


def test_an_unknown_character_or_token_is_named_with_its_place():
    with pytest.raises(ValueError, match="character '€' at position 3 of the text is unknown"):
        SHAKESPEARE_CHARACTERS.encode("abc€€")
    with pytest.raises(ValueError, match="token 69 at position 1 is outside 0 to 68"):
        SHAKESPEARE_CHARACTERS.decode(torch.tensor([0, 69]))
    with pytest.raises(ValueError, match=r"tokens of one text, \(T,\), got \(2, 3\)"):
        SHAKESPEARE_CHARACTERS.decode(torch.zeros(2, 3, dtype=torch.int64))


@pytest.mark.parametrize("characters", ["", "aba"])
def test_a_vocabulary_holds_every_character_once(characters):
    with pytest.raises(ValueError, match="every character once"):
        CharacterVocabulary(characters)


def test_the_plays_use_few_characters_and_held_out_ones_no_new_one(plays):
    characters = {split: set(text_of(data)) for split, data in plays.items()}
    assert characters["validation"] | characters["test"] <= characters["train"]
    assert len(characters["train"]) == 69
    assert not characters["train"] & set("_*[]\\#—$")


def test_nothing_of_note_was_lost(plays):
    assert 4.5e6 < sum(len(text_of(data)) for data in plays.values()) < 5.3e6
    everything = "".join(text_of(data) for data in plays.values())
    for line in (
        "To be, or not to be: that is the question:",
        "Now is the winter of our discontent",
        "\nIs this a dagger which I see before me,\nThe handle toward my hand? Come, let me clutch thee.",
        "ROMEO:\n",
    ):
        assert line in everything


def test_every_speech_is_a_name_and_its_lines(plays):
    for data in plays.values():
        for item in data:
            assert item.text.endswith("\n\n")
            for speech in item.text.rstrip("\n").split("\n\n"):
                name, _, lines = speech.partition("\n")
                assert re.fullmatch(r"[A-Z][^a-z\n]*:", name), (item.key, name)
                assert lines.strip()


def test_stage_directions_are_gone(plays):
    everything = "".join(text_of(data) for data in plays.values())
    for direction in ("Exeunt", "[Aside]", "Enter HAMLET", "Re-enter"):
        assert direction not in everything


@pytest.fixture(scope="module")
def pairs():
    return {split: load("zh-en", split) for split in SPLITS}


def test_a_sentence_is_never_in_two_splits_on_either_side(pairs):
    for side in ("source", "target"):
        train, validation, test = ({getattr(pair, side) for pair in pairs[split]} for split in SPLITS)
        assert not train & test
        assert not train & validation
        assert not validation & test


def test_placeholders_are_left_out_and_levels_are_those_of_hsk(pairs):
    everything = [pair for data in pairs.values() for pair in data]
    assert len(everything) == 4270
    assert not any("placeholder" in pair.target or pair.target == "PH" for pair in everything)
    assert {pair.level for pair in everything} == {1, 2, 3, 4, 5, 6}


def test_a_pair_is_chinese_pinyin_and_english(pairs):
    first = pairs["train"][0]
    assert (first.source, first.target) == ("老师，您好！", "Hello, teacher!")
    assert first.pinyin == "lǎo shī nín hǎo"
    for pair in (pair for data in pairs.values() for pair in data):
        assert re.search(r"[\u4e00-\u9fff]", pair.source)
        assert re.search(r"[A-Za-z]", pair.target)
        assert not re.search(r"[\u4e00-\u9fff]", pair.target + pair.pinyin)


@given(st.lists(st.tuples(st.sampled_from("甲乙丙丁"), st.sampled_from("abcd")), min_size=1, max_size=12), st.randoms())
def test_pairs_that_share_a_side_share_their_group_in_any_order(sides, random):
    groups = dict(zip(sides, sentence_groups(sides), strict=True))
    for first in sides:
        for second in sides:
            if first[0] == second[0] or first[1] == second[1]:
                assert groups[first] == groups[second]
    shuffled = sides.copy()
    random.shuffle(shuffled)
    assert dict(zip(shuffled, sentence_groups(shuffled), strict=True)) == groups


def test_case_and_punctuation_do_not_make_another_sentence():
    assert len(set(sentence_groups([("他累了。", "He is tired."), ("他很累！", "he is tired")]))) == 1
    assert len(set(sentence_groups([("他累了。", "He is tired."), ("她累了。", "She is tired.")]))) == 2


@pytest.fixture(scope="module")
def words():
    return {split: load("pronunciations", split) for split in SPLITS}


def test_words_have_the_phonemes_of_the_dictionary(words):
    everything = {item.key: item for data in words.values() for item in data}
    assert len(everything) == 134_860
    assert everything["hello"].phonemes == ("HH", "AH", "L", "OW")
    assert everything["hello(2)"].word == "hello"
    assert len({phoneme for item in everything.values() for phoneme in item.phonemes}) == 39


def test_a_word_and_its_other_pronunciations_share_a_split(words):
    splits = Counter()
    for data in words.values():
        splits.update({re.sub("[^a-z]", "", item.word) for item in data})
    assert max(splits.values()) == 1
