"""Splits cannot leak, and data sets behave as sequences."""

import subprocess
import sys
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aigc_lib.datasets.base import (
    SPLITS,
    Dataset,
    DatasetInfo,
    Images,
    Items,
    OnDemand,
    from_bytes,
    split_groups,
    split_of,
    stable_hash,
)

INFO = DatasetInfo(
    name="made-up", title="", modality="text", packages={}, licence="", attribution="", counts={}, files=(), recipe="",
    digest="",
)  # fmt: skip


@given(st.text(), st.integers(0, 5))
def test_a_group_has_one_split_whatever_else_there_is(group, seed):
    assert split_of(group, seed=seed) == split_of(group, seed=seed)
    assert split_of(group, seed=seed) in SPLITS


def test_shares_of_many_groups_are_80_10_10_within_four_standard_errors():
    n = 10_000
    found = Counter(split_of(f"group {i}") for i in range(n))
    for split, share in zip(SPLITS, (0.8, 0.1, 0.1), strict=True):
        assert abs(found[split] - share * n) < 4 * (n * share * (1 - share)) ** 0.5


def test_another_seed_draws_other_splits():
    assert [split_of(str(i), seed=0) for i in range(50)] != [split_of(str(i), seed=1) for i in range(50)]


def test_hashes_are_the_same_in_every_process():
    code = "from aigc_lib.datasets.base import stable_hash; print(stable_hash('字', 7))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == f"{stable_hash('字', 7)}\n"
    assert stable_hash("a", "b") != stable_hash("ab")


@given(st.sets(st.text(), min_size=3, max_size=60), st.randoms())
def test_closed_groups_fill_every_split_in_any_order(groups, random):
    shuffled = sorted(groups)
    random.shuffle(shuffled)
    splits = split_groups(shuffled)
    assert splits == split_groups(sorted(groups))
    assert set(splits) == groups
    assert set(splits.values()) == set(SPLITS)


def test_two_groups_cannot_make_three_splits():
    with pytest.raises(ValueError, match=r"at least 3 groups.*got 2"):
        split_groups(["a", "b", "a"])


def test_bytes_become_exactly_minus_one_to_one():
    converted = from_bytes(torch.arange(256, dtype=torch.uint8))
    assert converted[0] == -1
    assert converted[255] == 1
    assert torch.equal(torch.round((converted + 1) * 127.5), torch.arange(256.0))


def test_items_are_a_sequence_that_knows_its_end():
    data = Items(["a", "b", "c"], info=INFO, split="train")
    assert isinstance(data, Dataset)
    assert list(data) == ["a", "b", "c"]
    assert data[-1] == "c"
    for index in (3, -4):
        with pytest.raises(IndexError, match="3 items"):
            data[index]
    assert repr(data) == "<made-up, train: 3 items>"


def test_items_on_demand_are_made_only_when_asked_for():
    made = []
    data = OnDemand(3, lambda i: made.append(i) or i, info=INFO, split="test")
    assert not made
    assert data[-1] == 2
    assert made == [2]
    assert list(data) == [0, 1, 2]


def test_an_empty_split_is_refused():
    with pytest.raises(ValueError, match="'test' split of 'made-up' is empty"):
        Items([], info=INFO, split="test")


def test_image_items_share_the_memory_of_the_whole():
    images = torch.zeros(2, 3, 4, 4)
    data = Images(
        images,
        labels=torch.tensor([5, 6]),
        captions=[{"en": "a"}, {"en": "b"}],
        keys=["x", "y"],
        info=INFO,
        split="train",
    )
    assert data[1].image.data_ptr() == images[1].data_ptr()
    assert (data[1].label, data[1].caption, data[1].key) == (6, {"en": "b"}, "y")
