"""Drawing a next token: temperature, top-k, nucleus; for any autoregressive model. Axis letters: B batch, V tokens."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def token_probabilities(
    logits: Tensor, *, temperature: float, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """The distribution that `sample_token` draws from: softmax(logits / temperature), cut off, and normalised again.

    Args:
        logits: (B, V).
        temperature: above 0. 1 leaves the model's own distribution; towards 0 the likeliest token takes all.
        top_k: keep the k likeliest tokens; of equal ones at the edge, those with the lower number.
        top_p: keep the smallest set of likeliest tokens that together have at least this probability (nucleus
            sampling, Holtzman et al. 2020, arXiv:1904.09751, section 3.1), after temperature and top-k.

    Returns:
        (B, V), float32 or wider; every row sums to 1.

    Raises:
        ValueError: logits not (B, V), temperature ≤ 0, top_k outside 1 to V, top_p outside (0, 1].
    """
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise ValueError(f"logits must be (B, V) with V ≥ 1, got {tuple(logits.shape)}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}; for the likeliest token alone use top_k=1")
    if top_k is not None and not 1 <= top_k <= logits.shape[1]:
        raise ValueError(f"top_k must be between 1 and the {logits.shape[1]} tokens there are, got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, got {top_p}")
    wide = logits if logits.dtype == torch.float64 else logits.float()
    ordered, order = wide.sort(dim=1, descending=True, stable=True)
    # The largest logit becomes 0 before the division, which then cannot overflow upwards.
    ordered = (ordered - ordered[:, :1]) / temperature
    if top_k is not None:
        ordered[:, top_k:] = -torch.inf
    probabilities = ordered.softmax(dim=1)  # (B, V), falling
    if top_p is not None:
        # A token stays while those before it have not reached p. The first one has nothing before it.
        before = probabilities.cumsum(dim=1) - probabilities
        before[:, 0] = 0
        probabilities = probabilities.masked_fill(before >= top_p, 0)
        probabilities = probabilities / probabilities.sum(dim=1, keepdim=True)
    return torch.zeros_like(probabilities).scatter(1, order, probabilities)


def sample_token(
    logits: Tensor,
    *,
    temperature: float,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator,
) -> Tensor:
    """One token a row, (B,) int64, drawn from `token_probabilities`; the draw is made on the generator's device.

    Raises:
        ValueError: as `token_probabilities`.
    """
    probabilities = token_probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    drawn = torch.multinomial(probabilities.to(generator.device), 1, generator=generator).squeeze(1)
    return drawn.to(logits.device)


def check_tokens(tokens: Tensor, vocab_size: int) -> None:
    """Refuse what is no batch of known tokens, (B, T) int64 in 0 to vocab_size - 1.

    Raises:
        ValueError: wrong rank or dtype, no token at all, or an unknown one; the message names its place.
    """
    if tokens.ndim != 2 or tokens.dtype != torch.int64 or tokens.numel() == 0:
        raise ValueError(f"tokens must be int64 (B ≥ 1, T ≥ 1), got {tokens.dtype} {tuple(tokens.shape)}")
    unknown = ((tokens < 0) | (tokens >= vocab_size)).nonzero()
    if len(unknown):
        row, place = unknown[0].tolist()
        raise ValueError(
            f"token {int(tokens[row, place])} at position {place} of sequence {row} is not among the {vocab_size} known"
        )


@torch.no_grad()
def fill_in(
    model: torch.nn.Module,
    tokens: Tensor,
    free: Tensor,
    *,
    allowed: Callable[[Tensor], Tensor] | None = None,
    temperature: float = 1.0,
    generator: torch.Generator,
    watch: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Tensor:
    """Draw the tokens that are free, from left to right; the others stay, and are read as if the model had said them.

    A free token depends on what is before it alone. What comes later must be told before, as `datasets.scores` does.

    Args:
        model: a `LanguageModel`.
        tokens: (B, T); what stands at free places does not matter. The first token of a row is given.
        free: (T,) bool.
        allowed: from what stands before a free place, (B, t), to what may stand there, (B, V) bool; None: anything.
        temperature: see `token_probabilities`.
        watch: what the places are drawn through, such as tqdm, which shows progress.

    Returns:
        (B, T).

    Raises:
        ValueError: shapes that do not fit, a free first token, a place where nothing is allowed, unknown tokens.
    """
    tokens = tokens.masked_fill(free.to(tokens.device), 0)
    check_tokens(tokens, model.config.vocab_size)
    length = tokens.shape[1]
    if free.shape != (length,) or bool(free[0]):
        raise ValueError(f"free must be ({length},) bool and its first entry False, got {tuple(free.shape)}, {free[0]}")
    cache, read = model.new_cache(len(tokens), length), 0
    for place in watch(free.nonzero().flatten().tolist()):
        logits = _read(model, tokens[:, read:place], cache)
        if allowed is not None:
            may = allowed(tokens[:, :place]).expand(logits.shape)
            if not may.any(dim=1).all():
                raise ValueError(f"no token is allowed at place {place}")
            logits = logits.masked_fill(~may.to(logits.device), -torch.inf)
        tokens[:, place] = sample_token(logits, temperature=temperature, generator=generator)
        read = place
    return tokens


def _read(model: torch.nn.Module, tokens: Tensor, cache: list) -> Tensor:
    """Logits (B, V) of what follows. An empty cache takes a whole context at once, one that has begun single tokens."""
    whole = model.config.context_length if cache[0].position == 0 else 1
    for some in (tokens[:, :whole], *tokens[:, whole:].split(1, dim=1)):
        if some.shape[1]:
            logits = model(some, cache=cache)
    return logits[:, -1]
