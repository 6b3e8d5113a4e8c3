"""Events are matched one to one, and no other matching of them has more pairs."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from aigc_lib.metrics.events import detected

TIMES = st.lists(st.integers(0, 40), max_size=8)


def test_precision_recall_and_their_harmonic_mean():
    assert detected([10, 50, 90], [12, 48], within=2) == (2 / 3, 1, 0.8)


def test_two_found_beside_one_are_one_error():
    assert detected([9, 11], [10], within=1) == (0.5, 1, 2 / 3)


def test_nothing_found_is_found_without_error():
    assert detected(torch.tensor([]), torch.tensor([1.0]), within=1) == (1, 0, 0)


@given(TIMES, TIMES.filter(len), st.integers(0, 6))
def test_no_assignment_has_more_pairs(found, truth, within):
    far = (torch.tensor(found).view(-1, 1) - torch.tensor(truth)).abs() > within
    rows, columns = linear_sum_assignment(far.numpy())
    pairs = (~far[rows, columns]).sum().item()
    assert detected(found, truth, within=within).recall == pytest.approx(pairs / len(truth))


@pytest.mark.parametrize(("truth", "within"), [([], 1), ([1], -1)])
def test_there_is_something_to_find(truth, within):
    with pytest.raises(ValueError, match="at least one true event and within"):
        detected([1], truth, within=within)
