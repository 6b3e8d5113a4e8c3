"""A neural n-gram: the next token from the few before it (Bengio et al. 2003, JMLR 3, pages 1137 to 1155).

The oldest neural language model. The course uses it where gradients are wanted one record at a time: Opacus gets them
by hooks on layers, so it cannot train the Transformer of `aigc_lib.models.transformer`, whose output shares the
embedding's weight outside of any layer.

Axis letters: B records, T tokens, V vocabulary, A symbols of a secret's alphabet.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NGramModel(nn.Module):
    """p(x) = Π p(x_t | the `context` tokens before it): embeddings side by side, one tanh layer, logits.

    Differs from the paper in having no direct connections from embeddings to logits; before the first token stands a
    token of its own.
    """

    def __init__(self, vocab_size: int, *, context: int = 8, width: int = 8, hidden: int = 64) -> None:
        super().__init__()
        if min(vocab_size, context, width, hidden) < 1:
            raise ValueError(f"all sizes have to be at least 1, got {vocab_size}, {context}, {width}, {hidden}")
        self.vocab_size, self.context = vocab_size, context
        self.embed = nn.Embedding(vocab_size + 1, width)
        self.hidden, self.output = nn.Linear(context * width, hidden), nn.Linear(hidden, vocab_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T) int64 → logits (B, T + 1, V); column t scores tokens[:, t], the last one what comes next."""
        check_records(tokens, self.vocab_size)  # a batch may be empty: those of private training sometimes are
        padded = F.pad(tokens, (self.context, 0), value=self.vocab_size)
        seen = self.embed(padded.unfold(1, self.context, 1))  # (B, T + 1, context, width)
        return self.output(torch.tanh(self.hidden(seen.flatten(2))))

    def nats(self, tokens: Tensor) -> Tensor:
        """−ln p of each record, (B,)."""
        return record_nats(self(tokens), tokens)

    @torch.no_grad()
    def nats_of_secrets(self, prefix: Tensor, alphabet: Tensor, length: int) -> Tensor:
        """−ln p(secret | prefix) of every string over an alphabet: (A**length,), in the order of its symbols.

        Args:
            prefix: (T,) int64, T ≥ 1.
            alphabet: (A,) int64.
            length: of the secret, ≥ 1.
        """
        if prefix.ndim != 1 or alphabet.ndim != 1 or not len(alphabet) or length < 1:
            shapes = tuple(prefix.shape), tuple(alphabet.shape)
            raise ValueError(f"expected a prefix (T,), an alphabet (A,) and a length ≥ 1, got {shapes}, {length}")
        total, texts = torch.zeros(1), prefix[None]
        for _ in range(length):
            scores = -self(texts[:, -self.context :])[:, -1].log_softmax(dim=1)[:, alphabet]
            total = (total[:, None] + scores).flatten()
            texts = torch.cat([texts.repeat_interleave(len(alphabet), 0), alphabet.repeat(len(texts))[:, None]], dim=1)
        return total


def record_nats(logits: Tensor, tokens: Tensor) -> Tensor:
    """−ln p of each record, (B,), from the logits (B, T + 1, V) of the model."""
    return F.cross_entropy(logits[:, :-1].mT, tokens, reduction="none").sum(dim=1)


def check_records(tokens: Tensor, vocab_size: int) -> None:
    """Raise ValueError unless `tokens` are (B, T) int64 from 0 to vocab_size − 1; there may be no records."""
    if tokens.ndim != 2 or tokens.dtype != torch.int64 or not tokens.shape[1]:
        raise ValueError(f"expected records (B, T) int64, T ≥ 1, got {tuple(tokens.shape)}, {tokens.dtype}")
    if len(tokens) and (tokens.min() < 0 or tokens.max() >= vocab_size):
        raise ValueError(f"expected tokens from 0 to {vocab_size - 1}, got {tokens.min()} to {tokens.max()}")
