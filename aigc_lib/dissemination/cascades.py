"""Cascades: how far something spreads from friend to friend, and whom to tell first.

In the *independent cascade* everybody who has just heard of it tells each friend once, and each time it takes with the
probability of that friendship (Goldenberg, Libai and Muller 2001). Kempe, Kleinberg and Tardos (2003, KDD) toss all
those coins beforehand: a friendship whose coin shows heads is *live*, and reached is whoever is joined to a seed by
live friendships. In such a *world* the reach of a set is a union, so the expected reach is monotone and submodular, and
greedy choice gets at least 1 − 1/e of the best (Nemhauser, Wolsey and Fisher 1978). `greedy_seeds` evaluates lazily, as
CELF does (Leskovec et al. 2007, KDD).

Friendships are mutual: one coin serves both directions, because only the first of the two to hear of it can use it.

Axis letters: N nodes in the order of the graph, E edges, W worlds, R runs.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from heapq import heapify, heappop, heappushpop
from itertools import combinations
from typing import NamedTuple

import networkx as nx
import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

_MOST_EDGES = 16  # whose live-edge graphs are enumerated: 65,536


class Worlds:
    """Live-edge graphs with their probabilities: the reach of every seed set in all of them at once.

    Args:
        graph: undirected.
        live: (W, E) bool, the live edges of each world in the order of `graph.edges`.
        weights: (W,) the probabilities of the worlds, which sum to 1.
    """

    def __init__(self, graph: nx.Graph, live: Tensor, weights: Tensor) -> None:
        self.weights, self._index = weights, {node: i for i, node in enumerate(graph)}
        (n_worlds, _), n = live.shape, len(graph)
        world, edge = (part.numpy() for part in live.nonzero(as_tuple=True))
        ends = _ends(graph).numpy()[:, edge] + n * world  # all worlds side by side in one graph
        joined = coo_array((np.ones(len(edge), dtype=np.int8), tuple(ends)), shape=(n_worlds * n,) * 2)
        labels = torch.from_numpy(connected_components(joined, directed=False)[1].astype(np.int64))
        self._label = labels.view(n_worlds, n)  # of a node's component; no two worlds share one
        self._size = labels.bincount()[self._label].double()  # (W, N), of a node's component

    def reach(self, seeds: Iterable[Hashable]) -> Tensor:
        """How many are reached from the seeds, themselves included, in each world: (W,) float64.

        Raises:
            ValueError: a seed is no node of the graph.
        """
        at = torch.tensor([_position(self._index, seed) for seed in seeds], dtype=torch.int64)
        label, order = self._label[:, at].sort(dim=1)
        first = torch.ones_like(label, dtype=torch.bool)
        first[:, 1:] = label[:, 1:] != label[:, :-1]  # a component counts once
        return (self._size[:, at].gather(1, order) * first).sum(dim=1)

    def spread(self, seeds: Iterable[Hashable]) -> float:
        """The expected reach: exact for `all_worlds`, an estimate for `sampled_worlds`."""
        return (self.weights @ self.reach(seeds)).item()


def sampled_worlds(
    graph: nx.Graph, probability: float | Tensor, n_worlds: int, *, generator: torch.Generator
) -> Worlds:
    """`n_worlds` live-edge graphs, drawn and equally likely.

    Args:
        graph: undirected.
        probability: of every edge, or (E,) in the order of `graph.edges`.

    Raises:
        ValueError: the graph is directed or empty, a probability is outside [0, 1], or no world is asked for.
    """
    p = _probabilities(graph, probability)
    if n_worlds < 1:
        raise ValueError(f"n_worlds has to be at least 1, got {n_worlds}")
    live = torch.rand(n_worlds, len(p), generator=generator, dtype=torch.float64) < p
    return Worlds(graph, live, torch.full((n_worlds,), 1 / n_worlds, dtype=torch.float64))


def all_worlds(graph: nx.Graph, probability: float | Tensor) -> Worlds:
    """All 2^E live-edge graphs of a small graph with their probabilities: expectations are exact.

    Raises:
        ValueError: as `sampled_worlds`; or more than 16 edges.
    """
    p = _probabilities(graph, probability)
    if len(p) > _MOST_EDGES:
        raise ValueError(
            f"{len(p)} edges have 2^{len(p)} live-edge graphs; beyond {_MOST_EDGES} edges use sampled_worlds"
        )
    live = (torch.arange(2 ** len(p))[:, None] >> torch.arange(len(p))) % 2 == 1
    return Worlds(graph, live, torch.where(live, p, 1 - p).prod(dim=1))


def simulate(
    graph: nx.Graph,
    probability: float | Tensor,
    seeds: Iterable[Hashable],
    n_runs: int,
    *,
    generator: torch.Generator,
) -> Tensor:
    """The cascade itself, step by step: in which step everybody hears of it, (R, N) int64; 0 for seeds, −1 for never.

    Args and errors as in `sampled_worlds`; a seed that is no node raises ValueError, too.
    """
    p = _probabilities(graph, probability).repeat(2)
    teller, told = torch.cat([_ends(graph), _ends(graph).flip(0)], dim=1)  # each edge in both directions, (2E,)
    index = {node: i for i, node in enumerate(graph)}
    heard = torch.full((n_runs, len(graph)), -1)
    heard[:, [_position(index, seed) for seed in seeds]] = 0
    step = 0
    while (news := heard == step).any():
        tries = news[:, teller] & (torch.rand(n_runs, len(p), generator=generator, dtype=torch.float64) < p)
        reached = torch.zeros_like(news).int().index_add_(1, told, tries.int()) > 0
        step += 1
        heard[reached & (heard < 0)] = step
    return heard


def threshold_reach(graph: nx.Graph, seeds: Iterable[Hashable], *, needed: int = 2) -> int:
    """How many are active in the end if everybody joins in once `needed` friends have: no coins.

    Not submodular for `needed` > 1: the second of two friends does what neither does alone, so the bound of greedy
    choice is lost. (Complex contagion: Centola and Macy 2007, American Journal of Sociology 113.)
    """
    active = set(seeds)
    while joining := {v for v in set(graph) - active if sum(u in active for u in graph[v]) >= needed}:
        active |= joining
    return len(active)


class Choice(NamedTuple):
    """Seeds in the order in which they were chosen, their value, and how many sets were evaluated for it."""

    seeds: tuple[Hashable, ...]
    value: float
    n_evaluations: int


def greedy_seeds(value: Callable[[Sequence[Hashable]], float], nodes: Iterable[Hashable], n_seeds: int) -> Choice:
    """Add the node that adds most, `n_seeds` times; lazily, which for a submodular `value` gives the same.

    What a node adds can only shrink as the set grows, so an old number is an upper bound: nodes are looked at in its
    order, and the first whose number is new and still the largest is the best one. Ties go to the earlier node.

    Args:
        value: of a sequence of seeds, such as `Worlds.spread`; 0 for none.

    Raises:
        ValueError: `n_seeds` is below 1 or above the number of nodes.
    """
    nodes = _candidates(nodes, n_seeds)
    # Gains with their sign changed, for the heap gives the smallest; and the number of seeds they were computed for.
    queue = [(-value([node]), i, 1) for i, node in enumerate(nodes)]
    heapify(queue)
    seeds, total, n_evaluations = [], 0.0, len(nodes)
    while len(seeds) < n_seeds:
        gain, i, known = heappop(queue)
        while known <= len(seeds):
            gain = total - value([*seeds, nodes[i]])
            n_evaluations += 1
            gain, i, known = heappushpop(queue, (gain, i, len(seeds) + 1))
        seeds.append(nodes[i])
        total -= gain
    return Choice(tuple(seeds), total, n_evaluations)


def best_seeds(value: Callable[[Sequence[Hashable]], float], nodes: Iterable[Hashable], n_seeds: int) -> Choice:
    """The best of all sets of `n_seeds` nodes, by trying them all. Arguments and errors as in `greedy_seeds`."""
    sets = list(combinations(_candidates(nodes, n_seeds), n_seeds))
    values = [value(seeds) for seeds in sets]
    best = max(range(len(sets)), key=values.__getitem__)
    return Choice(sets[best], values[best], len(sets))


def _candidates(nodes: Iterable[Hashable], n_seeds: int) -> list[Hashable]:
    nodes = list(nodes)
    if not 1 <= n_seeds <= len(nodes):
        raise ValueError(f"n_seeds has to be 1 to {len(nodes)}, the number of nodes, got {n_seeds}")
    return nodes


def _position(index: dict[Hashable, int], seed: Hashable) -> int:
    if seed not in index:
        raise ValueError(f"the seed {seed!r} is no node of the graph")
    return index[seed]


def _ends(graph: nx.Graph) -> Tensor:
    """(2, E): the two ends of every edge, as positions in the order of the nodes."""
    index = {node: i for i, node in enumerate(graph)}
    return torch.tensor([[index[u], index[v]] for u, v in graph.edges], dtype=torch.int64).view(-1, 2).T


def _probabilities(graph: nx.Graph, probability: float | Tensor) -> Tensor:
    """(E,) float64, after a look at the graph."""
    if graph.is_directed() or graph.is_multigraph() or not len(graph):
        raise ValueError(f"expected an undirected simple graph with at least one node, got {graph}")
    p = torch.as_tensor(probability, dtype=torch.float64)
    n_edges = graph.number_of_edges()
    if p.shape not in ((), (n_edges,)) or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"expected one probability in [0, 1], or ({n_edges},), one an edge; got {p}")
    return p.expand(n_edges)
