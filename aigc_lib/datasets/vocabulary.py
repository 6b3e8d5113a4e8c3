"""Symbols of any kind (letters, phonemes, pieces of words) as the tokens of an encoder–decoder."""

from collections.abc import Sequence

import torch
from torch import Tensor

SPECIAL = ("<pad>", "<begin>", "<end>")  # tokens 0, 1, 2, as `aigc_lib.models.transformer` has them


class SymbolVocabulary:
    """Token i + 3 is the i-th of `symbols`; 0, 1 and 2 are padding, begin and end.

    Args:
        symbols: each once.
        unknown: one of them that stands for whatever is not among them; None refuses it.

    Raises:
        ValueError: a symbol twice, or `unknown` not among them.
    """

    def __init__(self, symbols: Sequence[str], *, unknown: str | None = None) -> None:
        self.symbols, self.unknown = (*SPECIAL, *symbols), unknown
        self._tokens = {symbol: token for token, symbol in enumerate(self.symbols)}
        if len(self._tokens) < len(self.symbols) or unknown not in (None, *symbols):
            raise ValueError("a vocabulary holds every symbol once, the one for unknown ones among them")

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, sequences: Sequence[Sequence[str]], *, begin: bool = False) -> Tensor:
        """B sequences of symbols to (B, T) int64: begin where asked for, the symbols, end, padding.

        Raises:
            ValueError: no sequence, an empty one, or an unknown symbol; the message names it and its place.
        """
        if not sequences or not all(sequences):
            raise ValueError("expected at least one sequence, and at least one symbol in each")
        rows = [[1] * begin + [self._token(sequence, i) for i in range(len(sequence))] + [2] for sequence in sequences]
        longest = max(map(len, rows))
        return torch.tensor([row + [0] * (longest - len(row)) for row in rows])

    def _token(self, sequence: Sequence[str], place: int) -> int:
        token = self._tokens.get(sequence[place], self._tokens.get(self.unknown))
        if token is None or token < len(SPECIAL):
            raise ValueError(
                f"symbol {sequence[place]!r} at position {place} of {''.join(sequence)!r} is unknown; "
                f"known are: {' '.join(self.symbols[3:40])}{' …' * (len(self) > 40)}"
            )
        return token

    def decode(self, tokens: Tensor) -> list[list[str]]:
        """(B, T) to B lists of symbols, each up to its end, without what is special."""
        rows = []
        for row in tokens.tolist():
            row = row[: row.index(2)] if 2 in row else row
            rows.append([self.symbols[token] for token in row if token >= len(SPECIAL)])
        return rows
