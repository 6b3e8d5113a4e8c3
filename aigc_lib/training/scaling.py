"""How the loss falls with parameters and with data: a family of small language models, and the law that is fitted.

    L(N, D) = E + A / N^α + B / D^β

N counts all parameters, D the tokens that were trained on, each once; E is what no size and no amount of data would
take away. Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models", arXiv:2203.15556, section 3.3;
power laws in N and in D alone: Kaplan et al. 2020, arXiv:2001.08361.

Differs from Hoffmann et al. in
- the logarithm of the loss is fitted by least squares, not by a Huber loss: a few dozen clean runs have no outliers;
- intervals come from a bootstrap of the residuals, so sizes stay as designed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares
from torch import Tensor

from aigc_lib.datasets.text import SHAKESPEARE_CHARACTERS, plays
from aigc_lib.models.transformer import LanguageModel, LanguageModelConfig

CONTEXT, BATCH = 64, 16  # characters of a window, windows of a step
_N_HELD_OUT = 500  # windows
_N_FREE = 5  # numbers of the law


class Run(NamedTuple):
    """One trained model."""

    n_parameters: int
    n_tokens: int
    loss: float  # nats a character, on plays that were held out


def windows(split: str) -> Tensor:
    """Shakespeare cut into windows (n, CONTEXT + 1) that share nothing, int64; "train" is in a fixed random order."""
    text = SHAKESPEARE_CHARACTERS.encode("".join(plays(split).values()))
    cut = text[: len(text) // (CONTEXT + 1) * (CONTEXT + 1)].view(-1, CONTEXT + 1)
    if split != "train":
        return cut[:_N_HELD_OUT]
    return cut[torch.randperm(len(cut), generator=torch.Generator().manual_seed(0))]


def train_run(width: int, n_steps: int, *, seed: int, train: Tensor, held_out: Tensor) -> Run:
    """Train one of the family on the first `n_steps` · BATCH windows, each once, and judge it on `held_out`.

    Two layers, rotary positions, Adam with a learning rate of min(0.03, 0.5 / width), tuned at widths 8, 24 and 64,
    that rises over the first twentieth and then falls to zero in a straight line: every n_steps is a run of its own,
    for a run cut short has seen the wrong schedule (arXiv:2203.15556, section 3.1).

    Args:
        width: even, at least 2; a head for every 16 channels.
        seed: of the initial weights. The caller's random state is left as it was.

    Raises:
        ValueError: n_steps < 1, or not enough windows; as `LanguageModelConfig`.
    """
    if not 1 <= n_steps <= len(train) // BATCH:
        raise ValueError(f"n_steps must be 1 to {len(train) // BATCH} ({len(train)} windows), got {n_steps}")
    heads = max(1, width // 16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LanguageModelConfig(
            vocab_size=len(SHAKESPEARE_CHARACTERS), width=width, n_heads=heads, n_layers=2, context_length=CONTEXT
        )
        model = LanguageModel(config)
    optimiser = torch.optim.Adam(model.parameters(), lr=min(0.03, 0.5 / width), betas=(0.9, 0.99))
    rise = max(5, n_steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda i: min((i + 1) / rise, (n_steps - i) / n_steps))
    for batch in train[: n_steps * BATCH].split(BATCH):
        optimiser.zero_grad()
        _loss(model, batch).backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        loss = _loss(model, held_out).item()
    return Run(sum(weight.numel() for weight in model.parameters()), n_steps * BATCH * CONTEXT, loss)


def _loss(model: LanguageModel, batch: Tensor) -> Tensor:
    return F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())


@dataclass(frozen=True, kw_only=True)
class ScalingLaw:
    """L(N, D) = E + A / N^α + B / D^β: `law(n_parameters, n_tokens)`, numbers or arrays."""

    E: float
    A: float
    alpha: float
    B: float
    beta: float

    def __call__(self, n_parameters: ArrayLike, n_tokens: ArrayLike) -> NDArray:
        return self.E + self.A / np.power(n_parameters, self.alpha) + self.B / np.power(n_tokens, self.beta)


def fit(runs: Sequence[Run]) -> ScalingLaw:
    """The law with the least squared error of the logarithm of the loss; the best of four starts.

    Raises:
        ValueError: fewer runs than the law has numbers, fewer than three sizes N or D, or a loss that is not positive.
    """
    n, d, loss = _columns(runs)
    low = math.log(loss.min())
    starts = [(low - 0.5, low, alpha, low, beta) for alpha, beta in product((0.3, 1.0), repeat=2)]
    return min((_solve(n, d, loss, start) for start in starts), key=lambda found: found[1])[0]


def bootstrap(runs: Sequence[Run], n_repeats: int, *, generator: torch.Generator) -> list[ScalingLaw]:
    """Laws of `n_repeats` data sets: the fit of `runs` times residuals drawn from its own, with replacement.

    Residuals of a fit are too small by √(1 − 5/n) on average, and are enlarged accordingly (Davison and Hinkley 1997).

    Raises:
        ValueError: as `fit`; n_repeats < 1; no more runs than the law has numbers.
    """
    n, d, loss = _columns(runs)
    if n_repeats < 1 or len(runs) <= _N_FREE:
        raise ValueError(f"needs at least one repeat and {_N_FREE + 1} runs, got {n_repeats} and {len(runs)}")
    law = fit(runs)
    residuals = np.log(loss / law(n, d)) / math.sqrt(1 - _N_FREE / len(runs))
    drawn = residuals[torch.randint(len(runs), (n_repeats, len(runs)), generator=generator).numpy()]
    scale = _middle(n), _middle(d)
    start = tuple(map(math.log, (law.E, law.A / scale[0] ** law.alpha, law.B / scale[1] ** law.beta)))
    start = (start[0], start[1], law.alpha, start[2], law.beta)
    return [_solve(n, d, law(n, d) * np.exp(each), start)[0] for each in drawn]


def interval(laws: Sequence[ScalingLaw], of: Callable[[ScalingLaw], float], level: float = 0.95) -> tuple[float, float]:
    """The central `level` of what `of` makes of the laws, such as `lambda law: law.alpha`."""
    low, high = np.quantile([of(law) for law in laws], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _columns(runs: Sequence[Run]) -> tuple[NDArray, NDArray, NDArray]:
    if len(runs) < _N_FREE or min(len({run[i] for run in runs}) for i in (0, 1)) < 3:
        raise ValueError(f"the law has {_N_FREE} numbers: give as many runs, of three N and three D at least")
    n, d, loss = np.array(runs, dtype=np.float64).T
    if not (np.isfinite(loss).all() and (loss > 0).all() and (n > 0).all() and (d > 0).all()):
        raise ValueError("sizes and losses must be positive and finite")
    return n, d, loss


def _middle(sizes: NDArray) -> float:
    return float(np.exp(np.log(sizes).mean()))


def _solve(n: NDArray, d: NDArray, loss: NDArray, start: Sequence[float]) -> tuple[ScalingLaw, float]:
    """Least squares from `start` = log E, log of the N term at the middle N, α, the same for D; the law, its cost."""
    log_n, log_d, target = np.log(n / _middle(n)), np.log(d / _middle(d)), np.log(loss)

    def terms(x: NDArray) -> NDArray:
        return np.stack([np.full_like(log_n, x[0]), x[1] - x[2] * log_n, x[3] - x[4] * log_d])  # logarithms, (3, runs)

    def residual(x: NDArray) -> NDArray:
        return np.logaddexp.reduce(terms(x)) - target

    def jacobian(x: NDArray) -> NDArray:
        share = np.exp(terms(x) - np.logaddexp.reduce(terms(x)))
        return np.stack([share[0], share[1], -share[1] * log_n, share[2], -share[2] * log_d], axis=1)

    bounds = ([-20, -20, 0, -20, 0], [20, 20, 5, 20, 5])
    found = least_squares(residual, np.clip(start, bounds[0], bounds[1]), jac=jacobian, bounds=bounds, max_nfev=300)
    e, a, alpha, b, beta = found.x
    law = ScalingLaw(
        E=math.exp(e),
        A=float(math.exp(a) * _middle(n) ** alpha),
        alpha=float(alpha),
        B=float(math.exp(b) * _middle(d) ** beta),
        beta=float(beta),
    )
    return law, float(found.cost)
