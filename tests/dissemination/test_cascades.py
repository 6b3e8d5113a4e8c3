"""Cascades: two ways to compute the reach agree, greedy choice keeps its promise, and thresholds break it."""

import math
from itertools import combinations

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lib.dissemination.cascades import (
    all_worlds,
    best_seeds,
    greedy_seeds,
    sampled_worlds,
    simulate,
    threshold_reach,
)


def numbers(seed=0):
    return torch.Generator().manual_seed(seed)


@st.composite
def small_worlds(draw, n_nodes=6, most_edges=9):
    """A random small graph with a probability for every edge, and its live-edge graphs."""
    pairs = list(combinations(range(n_nodes), 2))
    edges = draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=most_edges, unique=True))
    graph = nx.empty_graph(n_nodes)
    graph.add_edges_from(edges)
    chances = draw(st.lists(st.floats(0, 1), min_size=len(edges), max_size=len(edges)))
    return graph, torch.tensor(chances, dtype=torch.float64)


# Reach ---------------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.floats(0, 1))
def test_closed_forms(p):
    path, triangle = nx.path_graph(4), nx.complete_graph(3)
    assert all_worlds(path, p).spread([0]) == pytest.approx(1 + p + p**2 + p**3)
    assert all_worlds(path, p).spread([0, 3]) == pytest.approx(2 + 2 * (1 - (1 - p) * (1 - p**2)))
    assert all_worlds(triangle, p).spread([0]) == pytest.approx(1 + 2 * (p + (1 - p) * p**2))


@settings(max_examples=10, deadline=None)
@given(small_worlds(), st.sets(st.integers(0, 5), min_size=1, max_size=3))
def test_telling_step_by_step_reaches_as_many_as_tossing_all_coins_beforehand(given_graph, seeds):
    graph, chances = given_graph
    exact = all_worlds(graph, chances).spread(seeds)
    stepwise = (simulate(graph, chances, seeds, 4000, generator=numbers(1)) >= 0).sum(dim=1).double()
    error = stepwise.std().item() / math.sqrt(4000)
    assert stepwise.mean().item() == pytest.approx(exact, abs=4.5 * error + 1e-2)
    drawn = sampled_worlds(graph, chances, 4000, generator=numbers(2))
    error = drawn.reach(seeds).std().item() / math.sqrt(4000)
    assert drawn.spread(seeds) == pytest.approx(exact, abs=4.5 * error + 1e-2)


def test_everybody_hears_of_it_one_step_after_a_friend():
    heard = simulate(nx.path_graph(4), 1.0, [0], 2, generator=numbers())
    assert heard.tolist() == [[0, 1, 2, 3]] * 2
    assert simulate(nx.path_graph(3), 0.0, [1], 2, generator=numbers()).tolist() == [[-1, 0, -1]] * 2


def test_nodes_may_have_any_names_and_no_friends():
    graph = nx.Graph([("Ada", "Bo"), ("Bo", "Cy")])
    graph.add_node("Di")
    worlds = all_worlds(graph, torch.tensor([1.0, 0.0]))
    assert worlds.spread(["Ada"]) == 2
    assert worlds.spread(["Di", "Di"]) == 1
    assert worlds.spread([]) == 0


# Monotone and submodular ---------------------------------------------------------------------------------------------

sets = st.sets(st.integers(0, 5))


@settings(deadline=None, max_examples=60)
@given(small_worlds(), sets, sets, st.integers(0, 5))
def test_the_reach_grows_with_the_set_and_a_further_seed_adds_ever_less(given_graph, few, more, node):
    spread = all_worlds(*given_graph).spread
    many = few | more
    assert spread(few) <= spread(many) + 1e-12
    assert spread(few | {node}) - spread(few) >= spread(many | {node}) - spread(many) - 1e-12


@settings(deadline=None, max_examples=50)
@given(small_worlds(), sets, sets)
def test_the_reach_of_a_threshold_grows_with_the_set(given_graph, few, more):
    graph, _ = given_graph
    assert threshold_reach(graph, few) <= threshold_reach(graph, few | more)


def test_with_a_threshold_of_two_the_second_friend_adds_more_than_the_first():
    graph = nx.path_graph(3)  # the one in the middle needs both ends

    def added(seeds):
        return threshold_reach(graph, [*seeds, 0]) - threshold_reach(graph, seeds)

    assert (added([]), added([2])) == (1, 2)


@settings(deadline=None, max_examples=50)
@given(small_worlds(), sets)
def test_with_a_threshold_of_one_it_is_a_cascade_that_never_fails(given_graph, seeds):
    graph, _ = given_graph
    assert threshold_reach(graph, seeds, needed=1) == all_worlds(graph, 1.0).spread(seeds)


# Greedy choice -------------------------------------------------------------------------------------------------------


def plainly_greedy(value, nodes, n_seeds):
    seeds = []
    for _ in range(n_seeds):
        seeds.append(max(nodes, key=lambda node: value([*seeds, node])))
    return value(seeds)


@settings(deadline=None, max_examples=30)
@given(small_worlds(), st.integers(1, 4))
def test_lazy_is_as_good_as_plain_and_both_keep_the_bound(given_graph, k):
    spread = all_worlds(*given_graph).spread
    chosen, best = greedy_seeds(spread, range(6), k), best_seeds(spread, range(6), k)
    assert chosen.value == pytest.approx(plainly_greedy(spread, range(6), k))
    assert chosen.value == pytest.approx(spread(chosen.seeds))
    assert (1 - (1 - 1 / k) ** k) * best.value - 1e-12 <= chosen.value <= best.value + 1e-12
    assert best.n_evaluations == math.comb(6, k)


def test_coverage_where_greedy_gets_three_quarters_of_the_best():
    """The bound is tight for two seeds: the set that looks best overlaps with both that are best together."""
    covers = {"looks best": {1, 2, 5, 6}, "left": {1, 2, 3, 4}, "right": {5, 6, 7, 8}}

    def covered(names):
        return len(set().union(*(covers[name] for name in names)))

    chosen, best = greedy_seeds(covered, covers, 2), best_seeds(covered, covers, 2)
    assert chosen.value / best.value == 1 - (1 - 1 / 2) ** 2


def test_with_a_threshold_greedy_can_miss_nearly_everything():
    graph = nx.empty_graph(2)  # two loners come first
    graph.add_edges_from((pair, follower) for pair in ("a", "b") for follower in range(10, 30))

    def reach(seeds):
        return threshold_reach(graph, seeds)

    assert greedy_seeds(reach, graph, 2).value == 2
    assert best_seeds(reach, ["a", "b", 0, 1], 2).value == 22


def test_laziness_saves_most_of_the_evaluations_and_changes_nothing():
    graph = nx.barabasi_albert_graph(150, 2, seed=0)
    spread = sampled_worlds(graph, 0.1, 100, generator=numbers()).spread
    chosen = greedy_seeds(spread, graph, 4)
    assert chosen.value == pytest.approx(plainly_greedy(spread, graph, 4))
    assert chosen.n_evaluations < 0.6 * 4 * 150


# Bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("graph", [nx.DiGraph([(0, 1)]), nx.MultiGraph([(0, 1)]), nx.empty_graph(0)])
def test_graphs_are_undirected_and_simple(graph):
    with pytest.raises(ValueError, match="expected an undirected simple graph"):
        all_worlds(graph, 0.5)


@pytest.mark.parametrize("chance", [-0.1, 1.1, float("nan"), torch.tensor([0.5]), torch.tensor([[0.5, 0.5]])])
def test_probabilities_are_probabilities_one_or_one_an_edge(chance):
    with pytest.raises(ValueError, match=r"expected one probability in \[0, 1\], or \(2,\)"):
        sampled_worlds(nx.path_graph(3), chance, 5, generator=numbers())


def test_too_many_edges_and_too_few_worlds():
    with pytest.raises(ValueError, match="beyond 16 edges use sampled_worlds"):
        all_worlds(nx.path_graph(18), 0.5)
    with pytest.raises(ValueError, match="n_worlds has to be at least 1"):
        sampled_worlds(nx.path_graph(3), 0.5, 0, generator=numbers())


@pytest.mark.parametrize("n_seeds", [0, 4])
@pytest.mark.parametrize("choose", [greedy_seeds, best_seeds])
def test_the_number_of_seeds_is_1_to_n(choose, n_seeds):
    with pytest.raises(ValueError, match="n_seeds has to be 1 to 3"):
        choose(len, range(3), n_seeds)


def test_seeds_are_nodes():
    with pytest.raises(ValueError, match="the seed 7 is no node"):
        all_worlds(nx.path_graph(3), 0.5).spread([7])
    with pytest.raises(ValueError, match="the seed 7 is no node"):
        simulate(nx.path_graph(3), 0.5, [7], 2, generator=numbers())
