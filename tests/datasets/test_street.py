"""The shots of the street: in six pieces that are not of the same thing, for testing alone."""

from itertools import combinations

import pytest

from aigc_lib.datasets import load


def test_within_a_shot_little_changes_between_shots_all_does():
    shots = [item.frames for item in load("street", "test")]
    assert len(shots) == 6
    assert all(shot.shape == (8, 3, 136, 320) and shot.abs().max() <= 1 for shot in shots)
    within = max((shot[1:] - shot[:-1]).abs().mean() for shot in shots)
    between = min((one[0] - other[0]).abs().mean() for one, other in combinations(shots, 2))
    assert within < between / 3


@pytest.mark.parametrize("split", ["train", "validation"])
def test_nothing_is_there_to_be_trained_on(split):
    with pytest.raises(ValueError, match="kept for testing"):
        load("street", split)
