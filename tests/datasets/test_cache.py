"""Prepared arrays are written whole or not at all, and found only by what they were made from."""

import dataclasses
import os

import numpy as np
import pytest

from aigc_lib.datasets.cache import cache_path, prepared
from aigc_lib.datasets.provenance import info

ENTRY = info("digits")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AIGC_CACHE", str(tmp_path))
    return tmp_path / "datasets"


@pytest.fixture
def calls():
    return []


@pytest.fixture
def build(calls):
    def build():
        calls.append("built")
        return {"numbers": np.arange(100.0), "names": np.array(["a", "字"])}

    return build


def test_arrays_come_back_as_they_were_without_building_again(own_cache, build, calls):
    first, second = (prepared(ENTRY, build, resolution=3) for _ in range(2))
    assert len(calls) == 1
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    assert [path.name for path in own_cache.iterdir()] == [cache_path(ENTRY, build, resolution=3).name]


def test_other_parameters_sources_and_code_have_other_files(build):
    changed = dataclasses.replace(ENTRY, digest="0" * 64)
    other_code = dataclasses.replace
    paths = {
        cache_path(ENTRY, build, n=1),
        cache_path(ENTRY, build, n=2),
        cache_path(changed, build, n=1),
        cache_path(ENTRY, other_code, n=1),
    }
    assert len(paths) == 4
    assert cache_path(ENTRY, build, n=1) in paths


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_a_damaged_file_is_noticed_and_made_again(damage, build, calls):
    prepared(ENTRY, build)
    path = cache_path(ENTRY, build)
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[200] ^= 0xFF
    path.write_bytes({"truncate": content[: len(content) // 2], "flip": content, "empty": b""}[damage])
    with pytest.warns(UserWarning, match="cannot be read .* made again"):
        arrays = prepared(ENTRY, build)
    np.testing.assert_array_equal(arrays["numbers"], np.arange(100.0))
    assert len(calls) == 2
    prepared(ENTRY, build)
    assert len(calls) == 2


def test_a_failed_write_leaves_nothing_behind_and_the_data_usable(own_cache, monkeypatch, build):
    def full_disk(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.warns(UserWarning, match="not kept.*No space left.*AIGC_CACHE"):
        arrays = prepared(ENTRY, build)
    assert len(arrays["numbers"]) == 100
    assert list(own_cache.iterdir()) == []


def test_nothing_is_unpickled(own_cache, build, calls):
    own_cache.mkdir(parents=True)
    np.savez(cache_path(ENTRY, build).with_suffix(""), names=np.array([{"an": "object"}], dtype=object))
    with pytest.warns(UserWarning, match="cannot be read"):
        prepared(ENTRY, build)
    assert len(calls) == 1
