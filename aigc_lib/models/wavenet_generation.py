"""Three ways to draw a sound from a WaveNet, sample by sample: naive, cached, compiled. All give the same sound.

- `naive` runs the network over the whole receptive field for each new sample: O(layers · receptive field).
- `cached` keeps for each layer what it saw. A layer of dilation d needs its own input of d samples ago, which it
  computed then: O(layers) a sample (Paine et al. 2016, Fast WaveNet, arXiv:1611.09482).
- `compiled` is the same loop as machine code (numba), with all that does not depend on the samples computed before.

A level is drawn by inversion: the first whose cumulative probability exceeds a uniform number. So one list of uniform
numbers (T, B) gives the same sound whichever way.

Axis letters as in `wavenet`; G gate channels, R residual channels, S skip channels, L layers.
"""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numba import njit
from torch import Tensor

from aigc_lib.models.wavenet import WaveNet

CHUNK = 1024  # samples whose conditions are computed at a time, to the next frame


def draw(logits: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
    """The first level q with Σ_{i ≤ q} softmax(logits / temperature)_i > u: (B, Q) and (B,) → (B,)."""
    wide = logits.cpu().double()  # not every accelerator has float64
    sums = ((wide - wide.amax(dim=1, keepdim=True)) / temperature).exp().cumsum(dim=1)
    passed = sums <= uniforms.cpu()[:, None] * sums[:, -1:]
    return passed.sum(dim=1).clamp(max=logits.shape[1] - 1).to(logits.device)


def naive(model: WaveNet, mel: Tensor | None, labels: Tensor | None, uniforms: Tensor, temperature: float) -> Tensor:
    """Levels (B, T). The network reads the receptive field anew for each of them."""
    y = None if mel is None else model.upsample(mel)
    levels = torch.full((uniforms.shape[1], 1), model.silence, device=model.embed.weight.device)
    for t, u in enumerate(uniforms):
        first = max(0, t + 1 - model.receptive_field)
        logits = model.score(levels[:, first:], None if y is None else y[:, :, first : t + 1], labels)
        levels = torch.cat([levels, draw(logits[:, :, -1], u, temperature)[:, None]], dim=1)
    return levels[:, 1:]


def cached(model: WaveNet, mel: Tensor | None, labels: Tensor | None, uniforms: Tensor, temperature: float) -> Tensor:
    """Levels (B, T). Every layer has a queue of its last inputs, zeros at first: the padding of the convolution."""
    y = None if mel is None else model.upsample(mel)
    batch, weight = uniforms.shape[1], model.embed.weight
    empty = weight.new_zeros(batch, model.config.residual_channels, 1)
    queues = [deque([empty] * layer.reach, maxlen=layer.reach) for layer in model.layers]
    new, levels = torch.full((batch,), model.silence, device=weight.device), []
    for t, u in enumerate(uniforms):
        x, total = model.embed(new)[:, :, None], 0  # (B, R, 1)
        for layer, queue in zip(model.layers, queues, strict=True):
            taps = torch.cat([*(queue[i] for i in range(0, layer.reach, layer.dilated.dilation[0])), x], dim=2)
            queue.append(x)
            a = F.conv1d(taps, layer.dilated.weight, layer.dilated.bias)  # (B, G, 1)
            x, skip = layer.gate(a, x, None if y is None else y[:, :, t : t + 1], labels)
            total = total + skip
        new = draw(model.head(total)[:, :, 0], u, temperature)
        levels.append(new)
    return torch.stack(levels, dim=1)


@torch.no_grad()
def compiled(
    model: WaveNet,
    mel: Tensor | None,
    labels: Tensor | None,
    uniforms: Tensor,
    temperature: float,
    *,
    keep: bool = True,
    scores: np.ndarray | None = None,
) -> Tensor:
    """Levels (B, T), on the CPU, in the arithmetic of the weights (float32 or float64).

    Args:
        keep: False empties the queues before each sample and fills them by reading the receptive field again: naive,
            in the very same arithmetic, so that its logits are those of the cached way to the last bit.
        scores: (B, T, Q), filled with the logits where it is given.

    Raises:
        ValueError: weights of another type.
    """
    dtype = model.embed.weight.dtype
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"compiled generation works in float32 or float64, the weights are {dtype}; use model.float()")
    weights, (length, batch) = _pack(model), uniforms.shape
    levels = np.full((batch, length + 1), model.silence)  # behind the silence that comes first
    numbers = uniforms.T.contiguous().cpu().numpy()
    queues = np.zeros((batch, weights.places[-1], model.config.residual_channels), weights.embed.dtype)
    logits = np.empty((batch, 1, model.config.n_levels), weights.embed.dtype) if scores is None else scores
    reread = 0 if keep else model.receptive_field
    for begin, end, condition in _conditions(model, mel, labels, length if reread else CHUNK, length):
        for row in range(batch):
            state = levels[row], numbers[row], queues[row], logits[row]
            _run(weights, *state, condition[min(row, len(condition) - 1)], begin, end, reread, temperature)
    return torch.from_numpy(levels[:, 1:].copy())


def _conditions(
    model: WaveNet, mel: Tensor | None, labels: Tensor | None, chunk: int, length: int
) -> Iterator[tuple[int, int, np.ndarray]]:
    """b + V y + E[h] of all layers, (1 or B, 1 or samples, L, G), for stretches of `chunk` samples or a little more."""
    layers, hop = model.layers, model.config.hop_length
    fixed = torch.stack([layer.dilated.bias for layer in layers])[None]  # (1, L, G)
    for i in range(len(model.config.n_classes)):
        fixed = fixed + torch.stack([layer.labels[i](labels[:, i]) for layer in layers], dim=1)
    if mel is None:
        yield 0, length, fixed[:, None].cpu().numpy()
        return
    frames = model.upsample.frames(mel)
    project = torch.cat([layer.mel.weight[:, :, 0] for layer in layers])  # (L · G, K)
    step = -(-chunk // hop)
    for first in range(0, mel.shape[2], step):
        y = model.upsample.interpolate(frames[:, :, first : first + step + 2])
        local = (y.transpose(1, 2) @ project.T).unflatten(2, fixed.shape[1:])
        yield first * hop, first * hop + y.shape[2], (local + fixed[:, None]).cpu().numpy()


class _Weights(NamedTuple):
    """The network as arrays whose last axis runs over outputs: a vector register holds sums for several of them."""

    embed: np.ndarray  # (Q, R)
    dilated: np.ndarray  # (L, taps, R, G), the oldest tap first
    mix: np.ndarray  # (L, G / 2, S + R)
    mix_bias: np.ndarray  # (L, S + R)
    hidden: np.ndarray  # (S, S)
    hidden_bias: np.ndarray
    output: np.ndarray  # (S, Q)
    output_bias: np.ndarray
    dilations: np.ndarray  # (L,)
    places: np.ndarray  # (L + 1,) where each layer's queue begins among all
    constants: np.ndarray  # typed numbers for `_tanh`: a literal would make it float64


def _pack(model: WaveNet) -> _Weights:
    c, dtype = model.config, model.embed.weight.dtype

    def array(tensor: Tensor) -> np.ndarray:
        return np.ascontiguousarray(tensor.detach().to("cpu", dtype).numpy())

    width = c.skip_channels + c.residual_channels  # the last layer's residual does not exist: zeros
    mix = [F.pad(layer.mix.weight[:, :, 0].T, (0, width - len(layer.mix.bias))) for layer in model.layers]
    _, hidden, _, output = model.head
    return _Weights(
        embed=array(model.embed.weight),
        dilated=array(torch.stack([layer.dilated.weight.permute(2, 1, 0) for layer in model.layers])),
        mix=array(torch.stack(mix)),
        mix_bias=array(
            torch.stack([F.pad(layer.mix.bias, (0, width - len(layer.mix.bias))) for layer in model.layers])
        ),
        hidden=array(hidden.weight[:, :, 0].T),
        hidden_bias=array(hidden.bias),
        output=array(output.weight[:, :, 0].T),
        output_bias=array(output.bias),
        dilations=np.array(c.dilations),
        places=np.cumsum([0] + [layer.reach for layer in model.layers]),
        constants=array(torch.tensor([*_LAMBERT, 1 / 32, 20.0, 0.5])),
    )


# tanh x = x · P(x²)/Q(x²), the eighth convergent of Lambert's continued fraction x/(1 + x²/(3 + x²/(5 + …))): below
# |x| = 5/8 its error is below 1e-17. P is of degree 3, Q of degree 4 with leading coefficient 1.
_LAMBERT = (2027025.0, 270270.0, 6930.0, 36.0, 2027025.0, 945945.0, 51975.0, 630.0, 1.0)


@njit(inline="always", fastmath={"contract"})
def _tanh(x, c):
    """tanh by Lambert's fraction at x/32 and tanh 2u = 2 tanh u / (1 + tanh² u) five times, which damps errors.

    Without a branch or a call, so that it is computed for a whole register; error below 5e-7 (float32), 1e-15 (64).
    """
    u = max(min(x, c[10]), -c[10]) * c[9]
    s = u * u
    t = u * (c[0] + s * (c[1] + s * (c[2] + s * c[3]))) / (c[4] + s * (c[5] + s * (c[6] + s * (c[7] + s))))
    for _ in range(5):
        t = (t + t) / (c[8] + t * t)
    return t


@njit(fastmath={"contract"})
def _add_product(total, matrix, x):
    """total[m] += Σ_k x[k] · matrix[k, m], added up in the order of k; four rows a pass over `total`."""
    n, k = len(total), 0
    while k + 4 <= len(x):
        a, b, c, d = matrix[k], matrix[k + 1], matrix[k + 2], matrix[k + 3]
        for m in range(n):
            total[m] = (((total[m] + a[m] * x[k]) + b[m] * x[k + 1]) + c[m] * x[k + 2]) + d[m] * x[k + 3]
        k += 4
    for j in range(k, len(x)):
        for m in range(n):
            total[m] += matrix[j, m] * x[j]


@njit(cache=True, fastmath={"contract"})
def _run(w, levels, uniforms, queues, logits, conditions, begin, end, reread, temperature):
    """Draw levels[begin + 1] … levels[end]; with `reread` > 0, from empty queues and so many inputs each time."""
    n_layers, n_taps, n_residual, n_gate = w.dilated.shape
    n_half, n_skip, n_levels = n_gate // 2, len(w.hidden_bias), len(w.embed)
    x, a, z = np.empty_like(w.embed[0]), np.empty_like(w.dilated[0, 0, 0]), np.empty_like(w.mix[0, :, 0])
    mixed, total, hidden = np.empty_like(w.mix_bias[0]), np.empty_like(w.hidden_bias), np.empty_like(w.hidden_bias)
    sums, half = np.empty(n_levels), w.constants[11]
    for t in range(begin, end):
        first = t
        if reread:
            queues[:] = 0
            first = max(0, t + 1 - reread)
        for s in range(first, t + 1):
            x[:] = w.embed[levels[s]]
            total[:] = 0
            for i in range(n_layers):
                reach = w.places[i + 1] - w.places[i]
                a[:] = conditions[min(s - begin, len(conditions) - 1), i]
                for tap in range(n_taps - 1):
                    place = (s - (n_taps - 1 - tap) * w.dilations[i]) % reach
                    _add_product(a, w.dilated[i, tap], queues[w.places[i] + place])
                queues[w.places[i] + s % reach] = x  # in place of the oldest, which was just read
                _add_product(a, w.dilated[i, n_taps - 1], x)
                for m in range(n_half):
                    z[m] = _tanh(a[m], w.constants) * (half + half * _tanh(half * a[n_half + m], w.constants))
                mixed[:] = w.mix_bias[i]
                _add_product(mixed, w.mix[i], z)
                for m in range(n_skip):
                    total[m] += mixed[m]
                for m in range(n_residual):
                    x[m] += mixed[n_skip + m]
        for m in range(n_skip):
            total[m] = max(total[m], 0)
        hidden[:] = w.hidden_bias
        _add_product(hidden, w.hidden, total)
        for m in range(n_skip):
            hidden[m] = max(hidden[m], 0)
        scores = logits[t % len(logits)]
        scores[:] = w.output_bias
        _add_product(scores, w.output, hidden)

        largest, cumulative = scores.max(), 0.0
        for q in range(n_levels):
            cumulative += np.exp((np.float64(scores[q]) - largest) / temperature)
            sums[q] = cumulative
        threshold, level = uniforms[t] * cumulative, 0
        while level < n_levels - 1 and sums[level] <= threshold:
            level += 1
        levels[t + 1] = level
