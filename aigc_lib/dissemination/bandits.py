"""Bandits: which of several variants to show next, learned from the answers to those that were shown.

Every round a policy shows one variant and sees one number in [0, 1], such as a click. `ThompsonSampling` (Thompson
1933, Biometrika 25) keeps a Beta distribution of each variant's mean, draws from all of them and shows the variant
with the largest draw. For yes-or-no answers its regret attains the lower bound of Lai and Robbins (1985, Advances in
Applied Mathematics 6), as Kaufmann, Korda and Munos (2012, arXiv:1205.4217) proved after Agrawal and Goyal (2012,
arXiv:1111.1797) had shown that it is logarithmic. `LinUCB` (Li et al. 2010, arXiv:1003.0146; with one weight vector
for all variants) sees features of viewer and variant, so it can show everybody something else and judge a variant
that nobody has seen. The bound √(D T), up to logarithms, is proved for a form that learns in stages (Chu et al. 2011,
PMLR 15).

Axis letters: T rounds, R independent runs side by side, A variants, D features.
"""

from collections.abc import Iterable
from math import isfinite
from typing import NamedTuple, Protocol

import numpy as np
import torch
from scipy import stats
from torch import Tensor


class Policy(Protocol):
    """What `play` needs: both methods get what was known before the choice, (R, A, D) or None."""

    def choose(self, contexts: Tensor | None) -> Tensor: ...

    def update(self, chosen: Tensor, rewards: Tensor, contexts: Tensor | None) -> None: ...


class ThompsonSampling:
    """A Beta(1, 1) prior for the mean of every variant, the same for all viewers: contexts are not looked at.

    Args:
        n_runs: R.
        n_variants: A.
        generator: seeds the draws. torch has no Beta draws that take a generator, so they are NumPy's.

    Attributes:
        wins, losses: (R, A) float64; the posterior is Beta(1 + wins, 1 + losses).
    """

    def __init__(self, n_runs: int, n_variants: int, *, generator: torch.Generator) -> None:
        if n_runs < 1 or n_variants < 1:
            raise ValueError(f"expected at least one run and one variant, got {n_runs} and {n_variants}")
        self.wins = torch.zeros(n_runs, n_variants, dtype=torch.float64)
        self.losses = torch.zeros_like(self.wins)
        seed = torch.randint(2**63 - 1, (), generator=generator, device=generator.device)
        self._numbers = np.random.default_rng(int(seed))

    def choose(self, contexts: Tensor | None = None) -> Tensor:
        """The variant to show in each run, (R,) int64: each with the probability that it is the best one."""
        draws = self._numbers.beta(1 + self.wins.numpy(), 1 + self.losses.numpy())  # (R, A)
        return torch.from_numpy(draws.argmax(axis=1))

    def update(self, chosen: Tensor, rewards: Tensor, contexts: Tensor | None = None) -> None:
        """Args: chosen: (R,) int64; rewards: (R,), 0 or 1 (a number between counts as that share of a win)."""
        _check_rewards(rewards, len(self.wins))
        runs = torch.arange(len(self.wins))
        self.wins[runs, chosen] += rewards
        self.losses[runs, chosen] += 1 - rewards


class LinUCB:
    """Ridge regression of rewards on features with an upper confidence bound: shows the highest xᵀθ + α √(xᵀ A⁻¹ x).

    Args:
        n_runs: R.
        n_features: D.
        width: α, of the confidence bound; 0 always shows what looks best.
        ridge: λ of the prior, A = λ I + Σ x xᵀ.

    Attributes:
        weights: (R, D) float64, the present θ = A⁻¹ Σ reward · x.
    """

    def __init__(self, n_runs: int, n_features: int, *, width: float = 1.0, ridge: float = 1.0) -> None:
        if n_runs < 1 or n_features < 1:
            raise ValueError(f"expected at least one run and one feature, got {n_runs} and {n_features}")
        if not (width >= 0 and isfinite(width)) or not (ridge > 0 and isfinite(ridge)):
            raise ValueError(f"expected a finite width ≥ 0 and a finite ridge > 0, got {width} and {ridge}")
        self.width = width
        self._inverse = (torch.eye(n_features, dtype=torch.float64) / ridge).repeat(n_runs, 1, 1)  # A⁻¹, (R, D, D)
        self._sum = torch.zeros(n_runs, n_features, dtype=torch.float64)  # Σ reward · x

    @property
    def weights(self) -> Tensor:
        return (self._inverse @ self._sum[..., None])[..., 0]

    def choose(self, contexts: Tensor) -> Tensor:
        """The variant to show in each run, (R,) int64, for the features (R, A, D) of this round's viewer and variants.

        Raises:
            ValueError: the contexts have another shape.
        """
        n_runs, n_features = self._sum.shape
        if contexts is None or contexts.ndim != 3 or contexts.shape[::2] != (n_runs, n_features):
            got = None if contexts is None else tuple(contexts.shape)
            raise ValueError(f"expected contexts ({n_runs}, variants, {n_features}), got {got}")
        x = contexts.double()
        variance = ((x @ self._inverse) * x).sum(dim=2)  # (R, A), in units of the noise
        bound = (x @ self.weights[..., None])[..., 0] + self.width * variance.clamp(min=0).sqrt()
        return bound.argmax(dim=1)

    def update(self, chosen: Tensor, rewards: Tensor, contexts: Tensor) -> None:
        """Args: chosen: (R,) int64; rewards: (R,) in [0, 1]; contexts: (R, A, D), those of the choice."""
        _check_rewards(rewards, len(self._sum))
        x = contexts[torch.arange(len(chosen)), chosen].double()  # (R, D)
        v = (self._inverse @ x[..., None])[..., 0]
        # Sherman and Morrison: (A + x xᵀ)⁻¹ without inverting anew.
        self._inverse -= v[:, :, None] * v[:, None, :] / (1 + (x * v).sum(dim=1))[:, None, None]
        self._sum += rewards[:, None] * x


def _check_rewards(rewards: Tensor, n_runs: int) -> None:
    if rewards.shape != (n_runs,) or not ((rewards >= 0) & (rewards <= 1)).all():
        raise ValueError(f"expected rewards ({n_runs},) in [0, 1], got shape {tuple(rewards.shape)}: {rewards}")


def play(policy: Policy, rounds: Iterable[tuple[Tensor | None, Tensor]], *, generator: torch.Generator) -> Tensor:
    """Let a policy choose; every choice is answered by yes or no with the mean of what was chosen.

    Args:
        policy: learns as it goes.
        rounds: T pairs: contexts (R, A, D) or None, and true means (R, A) in [0, 1], which the policy never sees.
        generator: of the answers.

    Returns:
        The regret after each round, (T, R) float64: what the oracle, who shows each run's best variant of each round,
        expects to get more than what was chosen.

    Raises:
        ValueError: there are no rounds.
    """
    lost = []
    for contexts, means in rounds:
        chosen = policy.choose(contexts)
        mean = means.gather(1, chosen[:, None])[:, 0].double()
        policy.update(chosen, (torch.rand(len(mean), generator=generator) < mean).double(), contexts)
        lost.append(means.amax(dim=1).double() - mean)
    if not lost:
        raise ValueError("expected at least one round to play, got none")
    return torch.stack(lost).cumsum(dim=0)


def lai_robbins(means: Tensor) -> float:
    """The least factor of ln T in the regret of any policy that is good on every problem, for yes-or-no answers.

    Σ (μ* − μₐ) / KL(μₐ ‖ μ*) over the variants that are not the best. It is a limit for T → ∞, not a bound for one T.

    Raises:
        ValueError: `means` is not (A,) in [0, 1].
    """
    means = means.double()
    if means.ndim != 1 or not len(means) or not ((means >= 0) & (means <= 1)).all():
        raise ValueError(f"expected means (A,) in [0, 1], got {means}")
    best = means.max()
    worse = means[means < best]
    divergence = torch.xlogy(worse, worse / best) + torch.xlogy(1 - worse, (1 - worse) / (1 - best))
    return ((best - worse) / divergence).sum().item()


class Growth(NamedTuple):
    """A fitted slope and half the width of its 95 % interval."""

    slope: float
    half_width: float


_GROUPS = 10  # of runs: each gives one slope, and their scatter the interval


def growth(regret: Tensor, *, power: bool) -> Growth:
    """How fast regret grows over the last nine tenths of the rounds: least squares, with an interval over the runs.

    The runs are dealt out to ten groups; a line is fitted to the mean regret of each, and the interval of their mean
    slope is Student's. It covers what other runs would give, not the error of calling the curve a line.

    Args:
        regret: (T, R) as `play` gives it, T and R at least 20.
        power: False fits regret = slope · ln t + constant; True fits ln regret = slope · ln t + constant.

    Raises:
        ValueError: fewer rounds or runs; with `power`, a group that has lost nothing yet.
    """
    n_rounds, n_runs = regret.shape
    if min(n_rounds, n_runs) < 2 * _GROUPS:
        raise ValueError(f"expected at least {2 * _GROUPS} rounds and runs, got regret {tuple(regret.shape)}")
    start = n_rounds // 10
    x = torch.arange(start + 1, n_rounds + 1, dtype=torch.float64).log()
    y = torch.stack([group.mean(dim=1) for group in regret[start:].tensor_split(_GROUPS, dim=1)], dim=1)  # (T', 10)
    if power:
        if (y <= 0).any():
            raise ValueError("a group of runs has lost nothing yet: a power of t needs a regret above 0")
        y = y.log()
    x = x - x.mean()
    slopes = (x @ y) / (x @ x)
    error = slopes.std().item() / _GROUPS**0.5
    return Growth(slopes.mean().item(), float(stats.t.ppf(0.975, _GROUPS - 1)) * error)
