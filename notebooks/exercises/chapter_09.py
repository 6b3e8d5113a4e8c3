"""Exercises of chapter 9: questions and answers."""

import math
from collections.abc import Callable, Sequence

import networkx as nx

from aigc_lib.dissemination.cascades import best_seeds, greedy_seeds, threshold_reach
from aigc_lib.teaching.exercises import exercise


@exercise(
    "9.4-untried-variant",
    question="chance(n): how likely Thompson sampling shows a variant nobody saw, beside one clicked n times out of n.",
    hint="The untried one draws uniformly from 0 to 1; the other one from Beta(n + 1, 1), whose distribution function "
    "is x to the power n + 1. With n = 0 both are alike. Which draw has to be the larger one?",
)
def untried_variant(answer: Callable[[int], float]) -> bool:
    return all(math.isclose(answer(n), 1 / (n + 2), abs_tol=1e-9) for n in (0, 1, 2, 7, 100))


@exercise(
    "9.4-greedy-fails",
    question="Edges of a graph on 0 to 5 where two friends are needed and greed for two seeds gets less than 63 %.",
    hint="Alone no seed moves anybody, so the first choice is a tie and goes to node 0: make sure that it is useless. "
    "Then look for two nodes that move everybody else, but only together.",
)
def greedy_fails(answer: Sequence[tuple[int, int]]) -> bool:
    graph = nx.empty_graph(6)
    graph.add_edges_from(answer)

    def reach(seeds: Sequence[int]) -> int:
        return threshold_reach(graph, seeds)

    chosen, best = greedy_seeds(reach, range(6), 2), best_seeds(reach, range(6), 2)
    return set(graph) == set(range(6)) and chosen.value < (1 - 1 / math.e) * best.value
