"""Off-policy evaluation: what would another policy have earned, judged from the log of the one that ran?

A log holds, for N requests, a reward r and the probability μ with which the old policy took the action it took. The
new policy would have taken that action with probability π; the weight is w = π / μ.

    IPS             V̂ = mean of w r                              Horvitz and Thompson 1952, JASA 47, 663–685
    self-normalised V̂ = Σ w r / Σ w                              Swaminathan and Joachims 2015, NeurIPS 28
    doubly robust   V̂ = mean of Σ_a π(a) q(a) + w (r − q)        Dudík, Langford and Li 2011, arXiv:1103.4601

with q any prediction of the reward made without these rewards. IPS and the doubly robust estimate are unbiased when
the μ are the true ones and μ > 0 wherever π > 0 (overlap); `overlap` tells where that fails.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Estimate(NamedTuple):
    """Value of a policy, estimated from a log."""

    value: float
    standard_error: float  # from the spread within the log; blind to what the log does not contain


class Overlap(NamedTuple):
    """How well a log supports a new policy."""

    unsupported: float  # share of the new policy's decisions on actions that the old one never takes
    largest_weight: float
    effective_size: float  # (Σ w)² / Σ w² (Kish 1965): so many equally weighted requests are as good; at most N


def inverse_propensity(rewards: Tensor, logged: Tensor, target: Tensor) -> Estimate:
    """IPS estimate.

    Args:
        rewards: (N,), N ≥ 2, finite.
        logged: (N,) in (0, 1]: μ of the actions taken.
        target: (N,) in [0, 1]: π of the same actions.

    Raises:
        ValueError: other shapes or ranges.
    """
    return _mean(_weights(rewards, logged, target) * rewards)


def self_normalised(rewards: Tensor, logged: Tensor, target: Tensor) -> Estimate:
    """Self-normalised estimate: slightly biased, inside the range of the rewards, standard error by the delta method.

    Args and errors as in `inverse_propensity`; and ValueError if no action of the log has target > 0.
    """
    weights = _weights(rewards, logged, target)
    total = weights.sum()
    if not total > 0:
        raise ValueError("the new policy takes none of the logged actions: the log says nothing about it")
    value = (weights * rewards).sum() / total
    error = (weights * (rewards - value)).square().sum().sqrt() / total
    return Estimate(value.item(), error.item())


def doubly_robust(
    rewards: Tensor, logged: Tensor, target: Tensor, predicted: Tensor, predicted_value: Tensor
) -> Estimate:
    """Doubly robust estimate; with predictions of 0 it is IPS, with perfect ones only the requests differ.

    Args:
        rewards, logged, target: as in `inverse_propensity`.
        predicted: (N,) q of the action taken.
        predicted_value: (N,) Σ_a π(a) q(a) over all actions of the request.

    Raises:
        ValueError: other shapes or ranges.
    """
    weights = _weights(rewards, logged, target)
    if predicted.shape != rewards.shape or predicted_value.shape != rewards.shape:
        raise ValueError(f"expected two predictions {tuple(rewards.shape)}, got {tuple(predicted.shape)} and "
                         f"{tuple(predicted_value.shape)}")  # fmt: skip
    return _mean(predicted_value + weights * (rewards - predicted))


def overlap(logged: Tensor, target: Tensor, actions: Tensor) -> Overlap:
    """Report how far the new policy leaves the old one's ground.

    Args:
        logged, target: (N, A), rows add up to 1: probabilities of all actions under the old and the new policy.
        actions: (N,) int64, those that were taken; each with logged > 0.

    Raises:
        ValueError: other shapes, rows that are no distributions, or a log that cannot have been made by `logged`.
    """
    if logged.ndim != 2 or logged.shape != target.shape or actions.shape != logged.shape[:1] or not len(actions):
        shapes = [tuple(x.shape) for x in (logged, target, actions)]
        raise ValueError(f"expected logged and target (N, A) and actions (N,), got {shapes}")
    for probabilities in (logged, target):
        if not ((probabilities >= 0).all() and torch.allclose(probabilities.sum(1), torch.ones(()).to(probabilities))):
            raise ValueError("every row of logged and of target has to be ≥ 0 and to add up to 1")
    taken = [probabilities.gather(1, actions[:, None])[:, 0] for probabilities in (logged, target)]
    weights = _weights(torch.zeros_like(taken[0]), *taken)
    unsupported = (target * (logged == 0)).sum(1).mean()
    size = weights.sum().square() / weights.square().sum().clamp(min=1e-300)
    return Overlap(unsupported.item(), weights.max().item(), size.item())


def _weights(rewards: Tensor, logged: Tensor, target: Tensor) -> Tensor:
    if rewards.ndim != 1 or not rewards.shape == logged.shape == target.shape or len(rewards) < 2:
        shapes = [tuple(x.shape) for x in (rewards, logged, target)]
        raise ValueError(f"expected rewards, logged and target (N,), N ≥ 2, got {shapes}")
    if not rewards.isfinite().all():
        raise ValueError("rewards have to be finite")
    if not ((logged > 0) & (logged <= 1)).all() or not ((target >= 0) & (target <= 1)).all():
        raise ValueError("logged has to lie in (0, 1], since what it never takes is not in its log, target in [0, 1]")
    return target / logged


def _mean(x: Tensor) -> Estimate:
    return Estimate(x.mean().item(), (x.std() / len(x) ** 0.5).item())
