"""The exercises of chapter 9 accept right answers and refuse the usual wrong ones."""

from itertools import combinations

import pytest
import torch

from aigc_lib.dissemination.bandits import ThompsonSampling
from aigc_lib.teaching import exercises

PAIR_AND_LONER = [(1, 3), (1, 4), (1, 5), (2, 3), (2, 4), (2, 5)]


def is_right(exercise_id, answer):
    return exercises.all_exercises()[exercise_id].is_right(answer)


def test_an_untried_variant_is_shown_by_the_rule_of_succession():
    assert is_right("9.4-untried-variant", lambda n: 1 / (n + 2))
    assert is_right("9.4-untried-variant", lambda n: 1 - (n + 1) / (n + 2))


@pytest.mark.parametrize(
    "answer",
    [
        lambda n: 1 / (n + 1),  # without the prior
        lambda n: 0.5**n,  # as if one draw had to beat n others in turn
        lambda n: (n + 1) / (n + 2),  # the tried one
        lambda n: 1 / 2,
    ],
)
def test_wrong_chances_of_the_untried_variant_fail(answer):
    assert not is_right("9.4-untried-variant", answer)


def test_the_right_answer_is_what_thompson_sampling_does():
    policy = ThompsonSampling(40_000, 2, generator=torch.Generator().manual_seed(0))
    policy.wins[:, 0] = 3
    assert (policy.choose() == 1).double().mean() == pytest.approx(1 / 5, abs=0.008)  # 4 standard errors


@pytest.mark.parametrize("edges", [PAIR_AND_LONER, [(v, u) for u, v in PAIR_AND_LONER]])
def test_greed_fails_where_a_pair_moves_the_others_and_the_first_node_is_alone(edges):
    assert is_right("9.4-greedy-fails", edges)


@pytest.mark.parametrize(
    "edges",
    [
        [],
        list(combinations(range(6), 2)),  # everybody knows everybody: any two will do
        [(0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4)],  # the pair comes first in the list
        [(1, 3), (1, 4), (2, 3), (2, 4), (1, 9), (2, 9)],  # a seventh node
    ],
)
def test_graphs_on_which_greed_does_well_enough_fail(edges):
    assert not is_right("9.4-greedy-fails", edges)
