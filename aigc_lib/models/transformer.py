"""Transformer: an encoder–decoder that translates, and a decoder-only language model.

Vaswani et al. 2017, "Attention Is All You Need", arXiv:1706.03762. The encoder reads the whole source; the decoder
writes the target token by token, looks back at what it wrote (causal self-attention) and over to the source (cross-
attention). The language model is a decoder without a source. Both keep keys and values of what is already written.

Axis letters: B batch, T tokens, S tokens of a source, d width, V vocabulary. Tokens are int64.

Differs from the paper in
- normalisation before each sub-layer by default (pre-norm; Xiong et al. 2020, arXiv:2002.04745), which trains without
  care; `pre_norm=False` is the paper's order;
- rotary positions in the language model (Su et al. 2021, arXiv:2104.09864): queries and keys are turned by an angle
  that grows with their position, so that a score depends on the distance alone; "sinusoidal" is the paper's;
- the language model looks back at most `context_length` tokens in every layer, so it can write texts of any length in
  bounded memory, and the same whether keys and values are kept or computed anew;
- dropout acts on embeddings and sub-layers, not on attention weights.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aigc_lib.models.attention import Block, KeyValueCache, attention, rotations, sinusoidal_positions  # noqa: F401
from aigc_lib.models.sampling import check_tokens, sample_token

PAD, BEGIN, END = 0, 1, 2  # tokens that an encoder–decoder's vocabularies reserve


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    """What both models share.

    Args:
        vocab_size: V; of a translator's target, with PAD, BEGIN and END.
        width, n_heads, n_layers: d, heads of each attention, layers (of encoder and decoder each).
        dropout: share of channels that training leaves out, in [0, 1).
        positions: "rotary" or "sinusoidal".
        pre_norm: LayerNorm before the sub-layers; False after them, as the paper.

    Raises:
        ValueError: one of them is none of these.
    """

    vocab_size: int
    width: int
    n_heads: int
    n_layers: int
    dropout: float
    positions: str
    pre_norm: bool = True

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if type(value) is int and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.width % (2 * self.n_heads):
            raise ValueError(f"width must be a multiple of twice n_heads, got {self.width} and {self.n_heads}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.positions not in ("rotary", "sinusoidal"):
            raise ValueError(f"positions must be 'rotary' or 'sinusoidal', got {self.positions!r}")


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(_Sizes):
    """Sizes of an encoder–decoder, see `_Sizes`; `source_vocab_size` counts PAD, BEGIN and END too."""

    source_vocab_size: int = 32
    vocab_size: int = 42
    width: int = 128
    n_heads: int = 4
    n_layers: int = 3
    dropout: float = 0.05
    positions: str = "sinusoidal"


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig(_Sizes):
    """Sizes of a decoder-only model, see `_Sizes`; a token sees `context_length` tokens, itself included."""

    vocab_size: int = 69
    width: int = 160
    n_heads: int = 5
    n_layers: int = 4
    context_length: int = 256
    dropout: float = 0.0
    positions: str = "rotary"


class _Embedding(nn.Module):
    """Tokens to vectors, times √d (section 3.4), with sinusoidal positions where those are asked for."""

    def __init__(self, vocab_size: int, config: _Sizes) -> None:
        super().__init__()
        self.config, self.dropout = config, nn.Dropout(config.dropout)
        self.tokens = nn.Embedding(vocab_size, config.width)
        nn.init.normal_(self.tokens.weight, std=config.width**-0.5)

    def forward(self, tokens: Tensor, start: int = 0) -> tuple[Tensor, Tensor | None]:
        """(B, T) from position `start` on → vectors (B, T, d), and the rotation of the positions or None."""
        check_tokens(tokens, self.tokens.num_embeddings)
        c = self.config
        positions = torch.arange(start, start + tokens.shape[1], device=tokens.device)
        x = self.tokens(tokens) * math.sqrt(c.width)
        if c.positions == "rotary":
            return self.dropout(x), rotations(positions, c.width // c.n_heads)
        return self.dropout(x + sinusoidal_positions(positions, c.width)), None


def _blocks(c: _Sizes, *, cross: bool = False) -> nn.ModuleList:
    blocks = [Block(c.width, c.n_heads, c.dropout, pre_norm=c.pre_norm, cross=cross) for _ in range(c.n_layers)]
    for block in blocks:  # each adds to the stream: keep its size independent of the depth (GPT-2)
        for last in (block.attend.output, block.feed_forward[2], *([block.cross.output] if cross else [])):
            nn.init.normal_(last.weight, std=(last.in_features * 3 * c.n_layers) ** -0.5)
    return nn.ModuleList(blocks)


def _caches(c: _Sizes, batch: int, length: int, like: Tensor) -> list[KeyValueCache]:
    return [KeyValueCache(batch, c.n_heads, length, c.width // c.n_heads, like) for _ in range(c.n_layers)]


class LanguageModel(nn.Module):
    """Decoder-only Transformer: tokens (B, T) → logits (B, T, V) of the next one; column t scores tokens[:, t + 1]."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = _Embedding(config.vocab_size, config)
        self.blocks = _blocks(config)
        self.norm = nn.LayerNorm(config.width) if config.pre_norm else nn.Identity()

    def forward(
        self, tokens: Tensor, *, cache: list[KeyValueCache] | None = None, weights: list[Tensor] | None = None
    ) -> Tensor:
        """Logits. `cache`, from `new_cache`, holds earlier tokens; `weights` gets each layer's (B, heads, T, S).

        Raises:
            ValueError: as `check_tokens`.
        """
        start, n, window = cache[0].position if cache else 0, tokens.shape[-1], self.config.context_length
        x, rotation = self.embed(tokens, start)
        mask = None
        if n > window:  # a band: the token itself and the window − 1 before it
            mask = torch.ones(n, n, dtype=torch.bool, device=tokens.device).tril().triu(1 - window)
        # A single token may look at everything that is kept. With is_causal it would see the first key alone.
        is_causal = mask is None and start == 0
        for block, kept in zip(self.blocks, cache or [None] * len(self.blocks), strict=True):
            x = block(x, mask=mask, is_causal=is_causal, rotation=rotation, cache=kept, weights=weights)
        return F.linear(self.norm(x), self.embed.tokens.weight)  # shared with the embedding (section 3.4)

    def new_cache(self, batch: int, length: int | None = None) -> list[KeyValueCache]:
        """Empty, for the last `length` tokens (by default the whole context) of `batch` sequences."""
        length = min(length or self.config.context_length, self.config.context_length)
        return _caches(self.config, batch, length, self.embed.tokens.weight.detach())

    @torch.no_grad()
    def generate(
        self,
        prompt: Tensor,
        n_tokens: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        use_cache: bool = True,
        generator: torch.Generator,
    ) -> Tensor:
        """Go on from `prompt` (B, T) → the new tokens (B, n_tokens), each drawn after all before it.

        Args:
            n_tokens: any number; a token sees the last `context_length`.
            temperature, top_k: see `sample_token`; top_k = 1 takes the most probable token.
            use_cache: keep keys and values. False computes all anew for each token: the same, but slow.

        Raises:
            ValueError: empty, unknown or too long prompt, n_tokens < 1, or as `sample_token`.
        """
        check_tokens(prompt, self.config.vocab_size)
        if prompt.shape[1] > self.config.context_length:
            raise ValueError(
                f"the prompt has {prompt.shape[1]} tokens; pass at most its last {self.config.context_length}"
            )
        if n_tokens < 1:
            raise ValueError(f"n_tokens must be at least 1, got {n_tokens}")
        cache = self.new_cache(len(prompt), prompt.shape[1] + n_tokens) if use_cache else None
        tokens, new = prompt, prompt
        for _ in range(n_tokens):
            logits = self(new, cache=cache) if use_cache else self(tokens)
            new = sample_token(logits[:, -1], temperature=temperature, top_k=top_k, generator=generator)[:, None]
            tokens = torch.cat([tokens, new], dim=1)
        return tokens[:, prompt.shape[1] :]


@dataclass(frozen=True, kw_only=True)
class Memory:
    """A source as the decoder sees it: keys and values for each layer's cross-attention, and what is no padding."""

    keys_values: list[tuple[Tensor, Tensor]]
    mask: Tensor  # (B, 1, 1, S)


class Transformer(nn.Module):
    """Encoder–decoder: source (B, S), target (B, T) → logits (B, T, V); column t scores target[:, t + 1].

    A target begins with BEGIN. Shorter sequences are filled up with PAD at their end, which changes nothing.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_source, self.embed = (_Embedding(n, config) for n in (config.source_vocab_size, config.vocab_size))
        self.encoder, self.decoder = _blocks(config), _blocks(config, cross=True)
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) if config.pre_norm else nn.Identity() for _ in range(2))

    def forward(self, source: Tensor, target: Tensor, *, weights: list[Tensor] | None = None) -> Tensor:
        """Logits; `weights` gets each decoder layer's cross-attention (B, heads, T, S).

        Raises:
            ValueError: as `check_tokens`, different batches, a source of padding alone, padding before a token.
        """
        if len(source) != len(target):
            raise ValueError(f"as many sources as targets, please: got {len(source)} and {len(target)}")
        _check_padding(target)
        return self.decode(target, self.encode(source), weights=weights)

    def encode(self, source: Tensor) -> Memory:
        """Read the source, once for however many decoding steps. Raises as `forward`."""
        x, rotation = self.embed_source(source)
        _check_padding(source)
        mask = (source != PAD)[:, None, None]
        for block in self.encoder:
            x = block(x, mask=mask, rotation=rotation)
        x = self.norms[0](x)
        return Memory(keys_values=[block.cross.keys_values(x) for block in self.decoder], mask=mask)

    def decode(
        self,
        target: Tensor,
        memory: Memory,
        *,
        cache: list[KeyValueCache] | None = None,
        weights: list[Tensor] | None = None,
    ) -> Tensor:
        """Logits (B, T, V) of what follows each token of `target`; with a cache, one token at a time."""
        start = cache[0].position if cache else 0
        x, rotation = self.embed(target, start)
        # Padding follows the tokens, so the causal mask hides it from them already.
        how = {"is_causal": start == 0, "rotation": rotation, "memory_mask": memory.mask, "cross_weights": weights}
        for block, pair, kept in zip(
            self.decoder, memory.keys_values, cache or [None] * len(self.decoder), strict=True
        ):
            x = block(x, pair, cache=kept, **how)
        return F.linear(self.norms[1](x), self.embed.tokens.weight)

    @torch.no_grad()
    def translate(
        self, source: Tensor, *, beam_size: int = 4, max_tokens: int = 64, length_penalty: float = 0.6
    ) -> Tensor:
        """Search for the most probable targets: (B, S) → (B, ≤ max_tokens), each its tokens, END, and PAD.

        Of all hypotheses the `beam_size` best are kept in each step, by log p / ((5 + length)/6)^length_penalty (Wu et
        al. 2016, arXiv:1609.08144, equation 14). One that is not finished after `max_tokens` has no END.

        Args:
            beam_size: 1 is greedy: the most probable token each time.
            length_penalty: 0 is the sum of log-probabilities, which favours short targets.

        Raises:
            ValueError: beam_size or max_tokens < 1, length_penalty < 0, or the source as in `forward`.
        """
        if beam_size < 1 or max_tokens < 1 or length_penalty < 0:
            raise ValueError(
                "beam_size and max_tokens must be at least 1 and length_penalty at least 0, "
                f"got {beam_size}, {max_tokens}, {length_penalty}"
            )
        batch, device = len(source), source.device
        memory = self.encode(source.repeat_interleave(beam_size, dim=0))
        cache = _caches(self.config, batch * beam_size, max_tokens, self.embed.tokens.weight)
        tokens = torch.full((batch * beam_size, 1), BEGIN, device=device)
        scores = torch.full((batch, beam_size), -math.inf, device=device)
        scores[:, 0] = 0.0  # one empty hypothesis to begin with
        lengths, first = torch.zeros_like(scores), torch.arange(batch, device=device)[:, None] * beam_size
        finished = torch.zeros_like(scores, dtype=torch.bool)
        for _ in range(max_tokens):
            log_p = self.decode(tokens[:, -1:], memory, cache=cache)[:, -1].float().log_softmax(dim=-1)
            log_p[:, [PAD, BEGIN]] = -math.inf
            log_p[finished.flatten()] = -math.inf
            log_p[finished.flatten(), PAD] = 0.0  # what is finished stays as it is
            totals = scores[..., None] + log_p.unflatten(0, (batch, beam_size))  # (B, beam, V)
            lengths += ~finished
            ranked = totals / ((5 + lengths[..., None]) / 6) ** length_penalty
            chosen = ranked.flatten(1).topk(beam_size).indices  # (B, beam), best first
            parents, last = chosen // self.config.vocab_size, chosen % self.config.vocab_size
            scores, lengths = totals.flatten(1).gather(1, chosen), lengths.gather(1, parents)
            finished = finished.gather(1, parents) | (last == END)
            rows = (first + parents).flatten()
            tokens = torch.cat([tokens[rows], last.view(-1, 1)], dim=1)
            for each in cache:
                each.select(rows)
            if finished.all():
                break
        return tokens[::beam_size, 1:]


def _check_padding(tokens: Tensor) -> None:
    real = tokens != PAD
    if not real[:, 0].all() or (real[:, 1:] > real[:, :-1]).any():
        raise ValueError(f"a sequence begins with a token, and padding ({PAD}) follows the last one")


def sequence_loss(logits: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean −Σᵢ ỹ[i]·log ŷ[i] over tokens that are no padding, in nats; ỹ = (1 − ε)·onehot + ε/V (section 5.4).

    Args:
        logits: (B, T, V). target: (B, T), what each column should have said.
        smoothing: ε in [0, 1]; 0.1 in the paper.
    """
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=PAD, label_smoothing=smoothing)


def warmup(step: int, *, warmup_steps: int, total_steps: int | None = None) -> float:
    """Share of the peak learning rate at `step`, counted from 0: a linear rise, then a fall.

    Without `total_steps` the fall is the paper's, √(warmup/step) (equation 3); with it half a cosine that ends in 0.
    """
    step += 1
    if step <= warmup_steps:
        return step / warmup_steps
    if total_steps is None:
        return math.sqrt(warmup_steps / step)
    return 0.5 + 0.5 * math.cos(math.pi * min((step - warmup_steps) / max(total_steps - warmup_steps, 1), 1.0))
