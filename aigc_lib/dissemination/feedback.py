"""A recommender that learns from the clicks on what it has shown itself, and what that does to its users.

Each round every user asks once, gets a list, and the clicks are added to all that came before; then the recommender
is fitted anew. It factorises the table of clicks as a_u · b_i by alternating least squares, as Hu, Koren and Volinsky
(2008, ICDM) do, without their confidence weights. Two ways to read an empty cell:

    missing_is_no = True    every pair of user and item counts alike; what was never shown counts as "did not want it"
    missing_is_no = False   a pair counts as often as it was looked at: position k counts examination_k, unseen 0

The first feeds its own choices back as evidence. Chaney, Stewart and Engelhardt (2018, RecSys, arXiv:1710.11214)
simulate such loops and find users made more alike without a gain in utility. The control is the same recommender
fitted to random lists (`exploration` = 1), whose own list is measured and never shown.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from aigc_lib.dissemination.platform import Platform

_RIDGE = 1.0  # as strong as one look at an item whose factors have norm 1


class Exposure(NamedTuple):
    """What one round of lists is worth, and how it spreads attention. Of one list for each user."""

    value: float  # expected clicks a list: Σ_k examination_k · relevance
    coverage: float  # share of all items that anybody was given
    gini: float  # of the items' numbers of lists; 0: all alike, near 1: a few have everything
    effective_items: float  # exp(entropy): as many equally frequent items would be as diverse
    overlap: float  # mean Jaccard index of two users' lists; 1: everybody gets the same


class Round(NamedTuple):
    """One round of a loop."""

    shown: Exposure  # the lists that users saw, exploration included
    ranked: Exposure  # the recommender's own lists


def feedback_loop(
    platform: Platform,
    *,
    n_rounds: int,
    missing_is_no: bool,
    exploration: float = 0.0,
    n_factors: int = 5,
    generator: torch.Generator,
) -> list[Round]:
    """Let a recommender live on its own clicks; the first round shows random lists.

    Args:
        platform: every user asks once a round and gets `config.n_positions` items.
        n_rounds: at least 2.
        missing_is_no: see above.
        exploration: probability, for each place of each list, of a random item instead of the recommended one.
        n_factors: length of a_u and b_i.

    Returns:
        One entry a round. The ranking of round 0 is the random list itself.

    Raises:
        ValueError: a number is out of range, or the platform has fewer items than two lists take.
    """
    n_users, n_items, n_positions = len(platform.tastes), len(platform.features), platform.config.n_positions
    if n_rounds < 2 or not 0 <= exploration <= 1 or n_factors < 1:
        raise ValueError(
            "expected n_rounds ≥ 2, exploration in 0 to 1 and n_factors ≥ 1, "
            f"got {n_rounds}, {exploration} and {n_factors}"
        )
    if n_items < 2 * n_positions:
        raise ValueError(f"expected at least {2 * n_positions} items, two lists of {n_positions}, got {n_items}")
    users = torch.arange(n_users)
    relevance, examination = platform.relevance(users), platform.examination
    clicks = torch.zeros(n_users, n_items, dtype=torch.float64)
    looks = torch.zeros_like(clicks)  # expected number of times that each pair was looked at
    item_factors = torch.randn(n_items, n_factors, generator=generator, dtype=torch.float64)
    rounds = []
    for number in range(n_rounds):
        if number == 0:
            shown = ranked = _random_order(clicks, generator)[:, :n_positions]
        else:
            weights = torch.ones_like(looks) if missing_is_no else looks
            user_factors, item_factors = _fit(weights, clicks, item_factors)
            ranked = (user_factors @ item_factors.T).topk(n_positions, dim=1).indices
            other = _random_order(clicks.scatter(1, ranked, torch.inf), generator)[:, :n_positions]
            explore = torch.rand(ranked.shape, generator=generator) < exploration
            shown = torch.where(explore, other, ranked)
        feedback = platform.show(users, shown, generator=generator)
        clicks.scatter_add_(1, shown, feedback.clicks.double())
        looks.scatter_add_(1, shown, examination.expand(shown.shape).contiguous())
        rounds.append(Round(*(exposure(lists, relevance, examination) for lists in (shown, ranked))))
    return rounds


def exposure(lists: Tensor, relevance: Tensor, examination: Tensor) -> Exposure:
    """Measure one list for each user.

    Args:
        lists: (U, P) int64, U ≥ 2, no item twice in a list.
        relevance: (U, I), the true one.
        examination: (P,).

    Raises:
        ValueError: other shapes, or an item twice in a list.
    """
    if lists.ndim != 2 or len(lists) < 2 or len(lists) != len(relevance) or lists.shape[1:] != examination.shape:
        shapes = [tuple(x.shape) for x in (lists, relevance, examination)]
        raise ValueError(f"expected lists (U, P) of 2 users or more, relevance (U, I), examination (P,), got {shapes}")
    given = torch.zeros_like(relevance).scatter_(1, lists, 1.0)  # (U, I)
    if not (given.sum(1) == lists.shape[1]).all():
        raise ValueError("an item stands twice in one list")
    counts = given.sum(0)
    value = (relevance.gather(1, lists) * examination).sum(1).mean()
    common = given @ given.T
    jaccard = common / (2 * lists.shape[1] - common)  # of two lists of equal length
    pairs = len(lists) * (len(lists) - 1)
    overlap = (jaccard.sum() - len(lists)) / pairs  # without everybody's overlap with himself
    return Exposure(
        value.item(), (counts > 0).double().mean().item(), gini(counts), effective_number(counts), overlap.item()
    )


def gini(counts: Tensor) -> float:
    """Gini coefficient of counts (I,) ≥ 0: mean absolute difference of two of them over twice the mean.

    0 when all are equal, 1 − 1/I when one has everything.

    Raises:
        ValueError: no counts, negative ones, or all zero.
    """
    ordered = _require_counts(counts).sort().values
    ranks = torch.arange(1, len(ordered) + 1, dtype=torch.float64)
    return ((2 * ranks - len(ordered) - 1) @ ordered / (len(ordered) * ordered.sum())).item()


def effective_number(counts: Tensor) -> float:
    """exp of Shannon's entropy of counts (I,), also called Hill number of order 1: between 1 and I.

    Raises:
        ValueError: as `gini`.
    """
    counts = _require_counts(counts)
    return torch.special.entr(counts / counts.sum()).sum().exp().item()


def _require_counts(counts: Tensor) -> Tensor:
    if counts.ndim != 1 or not len(counts) or not (counts >= 0).all() or not counts.sum() > 0:
        raise ValueError(f"expected counts (I,) ≥ 0 and not all 0, got {tuple(counts.shape)}")
    return counts.double()


def _random_order(last: Tensor, generator: torch.Generator) -> Tensor:
    """Items (U, I) in random order for each user, those with an infinite entry in `last` at the end."""
    keys = torch.rand(last.shape, generator=generator, dtype=torch.float64)
    return torch.where(last.isinf(), torch.inf, keys).argsort(dim=1)


def _fit(weights: Tensor, clicks: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """One sweep of alternating least squares from the item factors (I, F) of the last round.

    Minimises Σ weight · (click rate − a_u · b_i)² + ridge · (Σ |a_u|² + Σ |b_i|²), with click rate = clicks / weight.
    """
    users = _solve(weights, clicks, items)
    return users, _solve(weights.T, clicks.T, users)


def _solve(weights: Tensor, clicks: Tensor, fixed: Tensor) -> Tensor:
    ridge = _RIDGE * torch.eye(fixed.shape[1], dtype=fixed.dtype)
    outer = (fixed[:, :, None] * fixed[:, None, :]).flatten(1)  # (I, F F)
    normal = (weights @ outer).unflatten(1, ridge.shape) + ridge
    return torch.linalg.solve(normal, (clicks @ fixed)[..., None])[..., 0]
