"""Attention written out, in several heads, with positions, masks and a cache: what Transformers are made of.

Vaswani et al. 2017, "Attention Is All You Need", arXiv:1706.03762. Axis letters: B batch, T tokens that look (queries),
S tokens that are looked at (keys), d width. Masks are bool, True where a query may look.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """softmax(QKᵀ/√d_k + M)·V, equation 1 of the paper, with M = 0 where `mask` is True and −∞ elsewhere.

    Args:
        query: (…, T, d_k). key: (…, S, d_k). value: (…, S, d_v).
        mask: bool, broadcastable to (…, T, S). A query that may look nowhere gets zeros.

    Returns:
        output (…, T, d_v), weights (…, T, S) with rows that sum to 1.

    Raises:
        ValueError: shapes do not fit, or the mask is not bool.
    """
    if query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        shapes = ", ".join(str(tuple(each.shape)) for each in (query, key, value))
        raise ValueError(f"expected query (…, T, d_k), key (…, S, d_k), value (…, S, d_v), got {shapes}")
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # (…, T, S)
    if mask is None:
        weights = scores.softmax(dim=-1)
    else:
        _check_mask(mask, scores.shape)
        weights = scores.masked_fill(~mask, -math.inf).softmax(dim=-1).masked_fill(~mask, 0.0)
    return weights @ value, weights


def _check_mask(mask: Tensor, shape: torch.Size) -> None:
    pairs = zip(reversed(mask.shape), reversed(shape), strict=False)
    if mask.dtype != torch.bool or mask.ndim > len(shape) or any(m not in (1, s) for m, s in pairs):
        found = f"{mask.dtype} {tuple(mask.shape)}"
        raise ValueError(f"mask must be bool and fit {tuple(shape)} (True: may look), got {found}")


def sinusoidal_positions(positions: Tensor, width: int) -> Tensor:
    """PE(p, 2i) = sin(p/10000^(2i/d)), PE(p, 2i + 1) = cos(…) (section 3.5): positions (T,) → (T, width)."""
    angles = _angles(positions, width)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def rotations(positions: Tensor, d_head: int) -> Tensor:
    """e^(i·p·θ_j) with θ_j = 10000^(−2j/d_head) (arXiv:2104.09864, section 3.2): (T,) → complex (T, 1, d_head/2)."""
    angles = _angles(positions, d_head)
    return torch.polar(torch.ones_like(angles), angles)[:, None]


def _angles(positions: Tensor, width: int) -> Tensor:
    return positions[:, None] * 10_000.0 ** -(torch.arange(0, width, 2, device=positions.device) / width)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn each pair of neighbouring channels, as one complex number, by its position's angle: x (B, T, heads, d)."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotation).flatten(-2).type_as(x)


class KeyValueCache:
    """One layer's keys and values of the last `length` tokens: 2·length·d numbers a sequence, whatever is generated."""

    def __init__(self, batch: int, n_heads: int, length: int, d_head: int, like: Tensor) -> None:
        self.length, self.position = length, 0
        self.keys, self.values = (like.new_zeros(batch, n_heads, length, d_head) for _ in range(2))

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keep those of new tokens, (B, heads, T, d_head), in place of the oldest; return all that are kept.

        Several tokens at once only into an empty cache. Their order does not matter later: positions are in the keys.
        """
        start, n = self.position % self.length, key.shape[2]
        self.keys[:, :, start : start + n], self.values[:, :, start : start + n] = key, value
        self.position += n
        kept = min(self.position, self.length)
        return self.keys[:, :, :kept], self.values[:, :, :kept]

    def select(self, rows: Tensor) -> None:
        """Go on with these sequences of the batch (a beam search drops some and doubles others)."""
        self.keys, self.values = self.keys[rows], self.values[rows]


class MultiHeadAttention(nn.Module):
    """Attention in `n_heads` subspaces of width d/n_heads, joined by one matrix (section 3.2.2)."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.width, self.n_heads = width, n_heads
        self.project = nn.Linear(width, 3 * width, bias=False)  # W^Q, W^K, W^V of all heads, stacked
        self.output = nn.Linear(width, width, bias=False)

    def keys_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """What is looked at, (B, S, d) → two of (B, heads, S, d_head). For cross-attention: once a source."""
        both = F.linear(memory, self.project.weight[self.width :]).unflatten(-1, (2, self.n_heads, -1))
        key, value = both.permute(2, 0, 3, 1, 4)
        return key, value

    def forward(
        self,
        x: Tensor,
        memory: tuple[Tensor, Tensor] | None = None,
        *,
        mask: Tensor | None = None,
        is_causal: bool = False,
        rotation: Tensor | None = None,
        cache: KeyValueCache | None = None,
        weights: list[Tensor] | None = None,
    ) -> Tensor:
        """(B, T, d) → (B, T, d), looking at x itself, or at `memory` = `keys_values(…)`.

        Args:
            mask: bool, broadcastable to (B, heads, T, S). `is_causal` is the mask j ≤ i without storing it.
            rotation: of x's positions; self-attention only.
            cache: earlier tokens of self-attention; x is appended to it.
            weights: the attention weights, (B, heads, T, S), are appended to this list.
        """
        if memory is None:
            parts = self.project(x).unflatten(-1, (3 * self.n_heads, -1))  # (B, T, 3·heads, d_head)
            turned, value = parts.split([2 * self.n_heads, self.n_heads], dim=2)
            turned = turned if rotation is None else rotate(turned, rotation)
            query, key = turned.transpose(1, 2).chunk(2, dim=1)  # (B, heads, T, d_head)
            value = value.transpose(1, 2)
            if cache is not None:
                key, value = cache.append(key, value)
        else:
            query = F.linear(x, self.project.weight[: self.width]).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            key, value = memory
        if weights is None:
            out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=is_causal)
        else:
            if is_causal:
                mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
            out, each = attention(query, key, value, mask)
            weights.append(each)
        return self.output(out.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Self-attention, cross-attention where there is a source, FFN(x) = max(0, xW₁ + b₁)W₂ + b₂; residuals around each.

    Pre-norm: x + f(LayerNorm(x)). Post-norm, as in the paper: LayerNorm(x + f(x)).
    """

    def __init__(self, width: int, n_heads: int, dropout: float, *, pre_norm: bool, cross: bool = False) -> None:
        super().__init__()
        self.pre_norm, self.dropout = pre_norm, nn.Dropout(dropout)
        self.attend = MultiHeadAttention(width, n_heads)
        self.cross = MultiHeadAttention(width, n_heads) if cross else None
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3 if cross else 2))

    def forward(self, x: Tensor, memory=None, memory_mask=None, cross_weights=None, **self_attention) -> Tensor:
        """(B, T, d) → (B, T, d). `memory` as in `MultiHeadAttention`, the rest goes to the self-attention."""
        layers = [lambda h: self.attend(h, **self_attention)]
        if self.cross is not None:
            layers.append(lambda h: self.cross(h, memory, mask=memory_mask, weights=cross_weights))
        for norm, layer in zip(self.norms, [*layers, self.feed_forward], strict=True):
            x = x + self.dropout(layer(norm(x))) if self.pre_norm else norm(x + self.dropout(layer(x)))
        return x
