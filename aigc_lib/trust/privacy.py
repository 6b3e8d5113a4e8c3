"""What a generative model gives away about its training data: measured by attacks, bounded by private training.

*Measured*: `membership_roc` (who was in the training set? Yeom et al. 2018, arXiv:1709.01604; reported as Carlini et
al. 2022, arXiv:2112.03570, ask, by the share found at few false alarms) and `exposure` of planted secrets (Carlini et
al. 2019, arXiv:1802.08232). *Bounded*: a mechanism M is (ε, δ)-differentially private if for all data sets S and S'
that differ in one record and for every set of outputs E

    P(M(S) ∈ E)  ≤  e^ε P(M(S') ∈ E) + δ

(Dwork and Roth 2014). `fit` trains so with Opacus: DP-SGD of Abadi et al. (2016, arXiv:1607.00133), the budget counted
by the accountant of Gopi et al. (2021, arXiv:2106.02848). *Audited*: `audit` turns an attack into a lower bound of ε
that a sound mechanism stays above (Jagielski et al. 2020, arXiv:2006.07709).

Axis letters: B records, T tokens, M members, N others, R candidates of a secret, K secrets, P points of a curve.
"""

import math
import warnings
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from opacus import PrivacyEngine
from opacus.accountants.utils import get_noise_multiplier
from opacus.data_loader import DPDataLoader
from scipy import optimize, special, stats
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from aigc_lib.models.ngram import NGramModel, check_records, record_nats

_LARGEST_EPSILON = 100.0


# Attacks -------------------------------------------------------------------------------------------------------------


class Roc(NamedTuple):
    """How well a score tells members from others.

    Attributes:
        false_positive_rate, true_positive_rate: (P,), from (0, 0) to (1, 1), one point a distinct score.
        auc: P(member scores higher) + P(equal) / 2; 1/2 is guessing.
        low, high: 95 % interval of auc.
    """

    false_positive_rate: NDArray
    true_positive_rate: NDArray
    auc: float
    low: float
    high: float


def membership_roc(members: Tensor, others: Tensor) -> Roc:
    """ROC of an attack that calls "member" whatever scores above a threshold, such as −loss (Yeom et al.).

    The interval is that of DeLong, DeLong and Clarke-Pearson (1988, Biometrics 44): the variance of the mean over
    members of the share of others they beat, plus that over others. It would have no width where the samples do not
    overlap; there min(M, N) disjoint pairs, all in order, give the Clopper–Pearson limit instead.

    Args:
        members, others: scores (M,) and (N,), at least two each; members are meant to score higher.
    """
    a, b = _scores(members, "members"), _scores(others, "others")
    beaten = (np.searchsorted(np.sort(b), a, "left") + np.searchsorted(np.sort(b), a, "right")) / (2 * len(b))  # (M,)
    beating = 1 - (np.searchsorted(np.sort(a), b, "left") + np.searchsorted(np.sort(a), b, "right")) / (2 * len(a))
    auc = float(beaten.mean())
    half = stats.norm.ppf(0.975) * math.sqrt(beaten.var(ddof=1) / len(a) + beating.var(ddof=1) / len(b))
    apart = 0.025 ** (1 / min(len(a), len(b)))
    low, high = max(0.0, auc - half), min(1.0, auc + half)
    thresholds = np.concatenate([[np.inf], np.unique(np.concatenate([a, b]))[::-1]])
    false, true = (1 - np.searchsorted(np.sort(x), thresholds, "left") / len(x) for x in (b, a))
    return Roc(false, true, auc, min(low, apart) if auc == 1 else low, max(high, 1 - apart) if auc == 0 else high)


def found_at(false_positive_rate: float, members: Tensor, others: Tensor) -> float:
    """Share of members above the lowest threshold that at most this share of the others passes."""
    if not 0 <= false_positive_rate < 1:
        raise ValueError(f"expected a false positive rate in [0, 1), got {false_positive_rate}")
    a, b = _scores(members, "members"), np.sort(_scores(others, "others"))
    return float((a > b[len(b) - 1 - int(false_positive_rate * len(b))]).mean())


def roc_band(
    rates: NDArray, members: Tensor, others: Tensor, *, n_resamples: int = 200, generator: torch.Generator
) -> tuple[NDArray, NDArray]:
    """Pointwise 95 % band of the true positive rate at these false positive rates, by the percentile bootstrap.

    Members and others are drawn again with replacement; a rate r counts as the threshold at the (1 − r)-quantile.

    Returns:
        Low and high, each with the shape of `rates`.
    """
    a, b = (torch.from_numpy(_scores(x, name)) for x, name in ((members, "members"), (others, "others")))
    curves = []
    for _ in range(n_resamples):
        mine = a[torch.randint(len(a), (len(a),), generator=generator)].numpy()
        theirs = b[torch.randint(len(b), (len(b),), generator=generator)].numpy()
        thresholds = np.quantile(theirs, 1 - np.asarray(rates))
        curves.append(1 - np.searchsorted(np.sort(mine), thresholds, "right") / len(mine))
    low, high = np.quantile(curves, (0.025, 0.975), axis=0)
    return low, high


def _scores(scores: Tensor, name: str) -> NDArray:
    if scores.ndim != 1 or len(scores) < 2 or not scores.isfinite().all():
        raise ValueError(f"{name}: expected at least two finite scores (B,), got shape {tuple(scores.shape)}")
    return scores.detach().double().numpy()


def exposure(nats: Tensor, secrets: Tensor) -> Tensor:
    """log2 R − log2 rank of each secret among its candidates, in bits (Carlini et al. 2019, definition 2).

    Of a secret that was drawn uniformly and never trained on, every rank is equally likely: P(exposure ≥ b) ≤ 2^−b.

    Args:
        nats: (K, R), −ln p of every candidate; the lowest ranks first, of equals the secret last.
        secrets: (K,) int64, which candidate is the secret.

    Returns:
        (K,) from 0 to log2 R; at log2 R the model's best guess is the secret.
    """
    if nats.ndim != 2 or not nats.numel() or secrets.shape != nats.shape[:1] or secrets.dtype != torch.int64:
        shapes = tuple(nats.shape), tuple(secrets.shape)
        raise ValueError(f"expected nats (K, R) and int64 secrets (K,), got {shapes}, {secrets.dtype}")
    if secrets.min() < 0 or secrets.max() >= nats.shape[1] or nats.isnan().any():
        raise ValueError(f"expected numbers and secrets from 0 to {nats.shape[1] - 1}, got {secrets} or NaN")
    ranks = (nats <= nats.gather(1, secrets[:, None])).sum(dim=1)
    return math.log2(nats.shape[1]) - ranks.double().log2()


# Budgets -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What may leak, (ε, δ): `epsilon` in (0, 100] (beyond it nothing is promised), `delta` in (0, 1)."""

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= _LARGEST_EPSILON:
            raise ValueError(f"expected a budget ε in (0, {_LARGEST_EPSILON:g}], got {self.epsilon}; not private")
        if not 0 < self.delta < 1:
            raise ValueError(f"expected δ in (0, 1), got {self.delta}; not private")


def auc_bound(budget: Budget) -> float:
    """The largest AUC of any membership attack on an (ε, δ)-private mechanism: 1 − (1 − δ)² / (1 + e^ε).

    The area under min(e^ε f + δ, 1 − e^−ε (1 − δ − f), 1) (the region of Kairouz et al. 2015, arXiv:1311.0776).
    """
    return 1 - (1 - budget.delta) ** 2 * float(special.expit(-budget.epsilon))


def gaussian_delta(epsilon: float, sigma: float, sensitivity: float = 1.0) -> float:
    """The least δ with which f + N(0, σ²) is (ε, δ)-private, ‖f(S) − f(S')‖ ≤ sensitivity.

    Φ(Δ/2σ − εσ/Δ) − e^ε Φ(−Δ/2σ − εσ/Δ): Balle and Wang (2018, arXiv:1805.06530), theorem 8.

    Raises:
        ValueError: ε < 0, or σ or the sensitivity not positive and finite: without noise nothing is private.
    """
    if not 0 <= epsilon < math.inf or not 0 < sigma < math.inf or not 0 < sensitivity < math.inf:
        raise ValueError(f"expected ε ≥ 0, noise and sensitivity > 0, finite; got {epsilon}, {sigma}, {sensitivity}")
    half, shift = sensitivity / (2 * sigma), epsilon * sigma / sensitivity
    return float(special.ndtr(half - shift) - math.exp(min(epsilon + special.log_ndtr(-half - shift), 0.0)))


def gaussian_sigma(budget: Budget, sensitivity: float = 1.0) -> float:
    """The least noise of `gaussian_delta` that keeps a budget. ValueError: as there."""
    if not 0 < sensitivity < math.inf:
        raise ValueError(f"expected a sensitivity > 0, finite; got {sensitivity}")
    spread = optimize.brentq(  # δ falls as σ rises; the bracket holds every budget that `Budget` allows down to 1e-7
        lambda log_sigma: gaussian_delta(budget.epsilon, math.exp(log_sigma)) - budget.delta, -7, 25, xtol=1e-13
    )
    return math.exp(spread) * sensitivity


class Spent(NamedTuple):
    """What a private training run promises, and its noise in units of the clipping norm."""

    epsilon: float
    delta: float
    noise_multiplier: float


def fit(
    model: NGramModel,
    records: Tensor,
    *,
    n_steps: int,
    batch_size: int,
    learning_rate: float = 1e-2,
    budget: Budget | None = None,
    clip_norm: float = 1.0,
    generator: torch.Generator,
) -> Spent | None:
    """Train with Adam on batches that every record joins with the same probability, 1 / ⌈B / batch_size⌉.

    With a budget each record's gradient is clipped to `clip_norm`, the sum gets noise N(0, (σ · clip_norm)² I), and σ
    is the least (to 1 %) with which Opacus' RDP accountant keeps the budget for adding or removing one record. Its
    tighter PRV accountant then counts what was spent. Noise from a `torch.Generator` can be predicted by who knows
    the seed: fit for experiments, not for a release (Opacus' `secure_mode` needs the package torchcsprng).

    Returns:
        What was spent; None without a budget, because nothing is promised then.

    Raises:
        ValueError: records that `NGramModel` cannot read, a count below 1, a rate or norm not positive and finite, or
            δ ≥ 1/B, which publishing one record at random would satisfy.
    """
    check_records(records, model.vocab_size)
    if not len(records):
        raise ValueError("expected at least one record to train on, got none")
    if n_steps < 1 or batch_size < 1:
        raise ValueError(f"expected n_steps and batch_size ≥ 1, got {n_steps} and {batch_size}")
    if not 0 < learning_rate < math.inf or not 0 < clip_norm < math.inf:
        raise ValueError(f"expected a learning rate and clip norm > 0, finite; got {learning_rate} and {clip_norm}")
    if budget and budget.delta >= 1 / len(records):
        raise ValueError(f"expected δ < 1/{len(records)}, one over the number of records, got {budget.delta}")
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    loader = DataLoader(TensorDataset(records), batch_size=batch_size, generator=generator)
    if budget is None:
        _descend(model, optimizer, DPDataLoader.from_data_loader(loader), n_steps)
        return None
    with warnings.catch_warnings():  # of predictable numbers (said above), of hooks on layers, of log 0 in accountants
        warnings.filterwarnings("ignore", module="opacus")
        warnings.filterwarnings("ignore", message="Full backward hook")
        sigma = get_noise_multiplier(
            target_epsilon=budget.epsilon,
            target_delta=budget.delta,
            sample_rate=1 / len(loader),
            steps=n_steps,
            accountant="rdp",
            epsilon_tolerance=budget.epsilon / 100,
        )
        engine = PrivacyEngine(accountant="prv")
        wrapped, optimizer, loader = engine.make_private(
            module=model,
            optimizer=optimizer,
            data_loader=loader,
            noise_multiplier=sigma,
            max_grad_norm=clip_norm,
            loss_reduction="sum",
            noise_generator=generator,
        )
        try:
            _descend(wrapped, optimizer, loader, n_steps)
        finally:
            optimizer.zero_grad(set_to_none=True)  # the gradients of single records must not stay behind in the model
            wrapped.remove_hooks()
        return Spent(float(engine.get_epsilon(budget.delta)), budget.delta, sigma)


def _descend(model: nn.Module, optimizer: torch.optim.Optimizer, loader: DataLoader, n_steps: int) -> None:
    for (batch,) in islice(chain.from_iterable(repeat(loader)), n_steps):
        optimizer.zero_grad()
        record_nats(model(batch), batch).sum().backward()  # a sum: the size of a batch must not scale one record's part
        optimizer.step()


class Audit(NamedTuple):
    """A lower bound of ε, and the attack that proves it.

    Attributes:
        epsilon: with the stated confidence the mechanism is not (ε', δ)-private for any ε' below it; 0 proves nothing.
        threshold: outputs scoring at least this were called "with".
        true_positive_rate, false_positive_rate: of that call, on the half that did not choose the threshold.
    """

    epsilon: float
    threshold: float
    true_positive_rate: float
    false_positive_rate: float


def audit(with_record: Tensor, without: Tensor, *, delta: float, confidence: float = 0.95) -> Audit:
    """How private a mechanism cannot be, from its outputs with and without one record.

    Every test obeys TPR ≤ e^ε FPR + δ, and the same for the opposite call, so ε ≥ ln((TPR − δ) / FPR) and
    ε ≥ ln((1 − FPR − δ) / (1 − TPR)). As Jagielski et al. (2020) do, one half of the outputs chooses threshold and
    side; Clopper–Pearson limits of both rates on the other half, each at half of the error, go in.

    Args:
        with_record, without: scores (M,) and (N,) of independent runs, at least 20 each; higher speaks for "with".
        delta: in [0, 1).
        confidence: of the bound, in (0, 1).
    """
    if not 0 <= delta < 1 or not 0 < confidence < 1:
        raise ValueError(f"expected δ in [0, 1) and a confidence in (0, 1), got {delta} and {confidence}")
    a, b = _scores(with_record, "with_record"), _scores(without, "without")
    if min(len(a), len(b)) < 20:
        raise ValueError(f"expected at least 20 runs with and without the record, got {len(a)} and {len(b)}")
    tail = (1 - confidence) / 2

    def bounds(a: NDArray, b: NDArray, thresholds: NDArray) -> NDArray:
        """Of both sides, (2, P)."""
        hits, alarms = (len(x) - np.searchsorted(np.sort(x), thresholds, "left") for x in (a, b))
        sides = ((hits, len(a), alarms, len(b)), (len(b) - alarms, len(b), len(a) - hits, len(a)))
        return np.stack([_epsilon_above(*side, delta, tail) for side in sides])

    thresholds = np.unique(np.concatenate([a[::2], b[::2]]))
    side, best = np.unravel_index(bounds(a[::2], b[::2], thresholds).argmax(), (2, len(thresholds)))
    a, b, threshold = a[1::2], b[1::2], thresholds[best]
    epsilon = bounds(a, b, threshold[None])[side, 0]
    return Audit(float(epsilon), float(threshold), float((a >= threshold).mean()), float((b >= threshold).mean()))


def _epsilon_above(k: NDArray, n: int, j: NDArray, m: int, delta: float, tail: float) -> NDArray:
    """ln((p − δ) / q), at least 0, with the lower limit of p from k of n and the upper limit of q from j of m."""
    p = np.where(k > 0, stats.beta.ppf(tail, np.maximum(k, 1), n - k + 1), 0.0)
    q = np.where(j < m, stats.beta.ppf(1 - tail, j + 1, np.maximum(m - j, 1)), 1.0)
    return np.log(np.maximum((p - delta) / q, 1.0))
