"""Symbols to tokens and back."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aigc_lib.datasets.vocabulary import SPECIAL, SymbolVocabulary
from aigc_lib.models.transformer import BEGIN, END, PAD

LETTERS = SymbolVocabulary("abc")


def test_special_tokens_are_those_of_the_model():
    assert [SPECIAL[token] for token in (PAD, BEGIN, END)] == ["<pad>", "<begin>", "<end>"]


@given(st.lists(st.text("abc", min_size=1, max_size=6), min_size=1, max_size=4), st.booleans())
def test_decoding_undoes_encoding(words, begin):
    tokens = LETTERS.encode(words, begin=begin)
    assert tokens.shape == (len(words), max(map(len, words)) + 1 + begin)
    assert tokens.dtype == torch.int64
    assert ["".join(symbols) for symbols in LETTERS.decode(tokens)] == words


def test_begin_end_and_padding_stand_where_they_should():
    assert LETTERS.encode(["ab", "c"], begin=True).tolist() == [[1, 3, 4, 2], [1, 5, 2, 0]]


def test_what_follows_the_end_is_not_read():
    assert LETTERS.decode(torch.tensor([[3, 2, 4], [4, 4, 4]])) == [["a"], ["b", "b", "b"]]


def test_unknown_symbols_are_named_with_their_place_or_replaced():
    with pytest.raises(ValueError, match="symbol 'x' at position 2 of 'abx' is unknown; known are: a b c"):
        LETTERS.encode(["a", "abx"])
    assert SymbolVocabulary("ab?", unknown="?").encode(["axb"]).tolist() == [[3, 5, 4, 2]]
    with pytest.raises(ValueError, match="symbol '<pad>'"):
        LETTERS.encode([["<pad>"]])


def test_empty_sequences_and_double_symbols_are_refused():
    for empty in ([], [""], ["a", ""]):
        with pytest.raises(ValueError, match="at least one symbol in each"):
            LETTERS.encode(empty)
    for symbols, unknown in (("aa", None), ("ab", "?")):
        with pytest.raises(ValueError, match="holds every symbol once"):
            SymbolVocabulary(symbols, unknown=unknown)
