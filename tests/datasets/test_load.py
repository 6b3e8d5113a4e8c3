"""`load` and `names`: one door to all data sets, which needs no data package to open."""

import subprocess
import sys

import pytest
import torch

from aigc_lib import datasets
from aigc_lib.datasets import provenance
from aigc_lib.datasets.base import SPLITS, Dataset

OPTIONS = {
    "avatars": {"n": 60, "resolution": 16},
    "moving-objects": {"n": 20},
    "speech": {"n": 30},
}  # small ones where making takes a while
TESTED = [name for name in datasets.names() if name != "speech"]


def test_importing_the_package_imports_no_data_package():
    code = (
        "import sys, aigc_lib, aigc_lib.datasets;"
        "heavy = {'mlxtend', 'skimage', 'music21', 'emoji', 'dicebear', 'hibari', 'av', 'PIL', 'pooch', 'skvideo'};"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_data_set_has_an_entry_and_the_other_way_round():
    assert set(datasets.names()) == set(provenance.infos())


@pytest.mark.parametrize("name", TESTED)
def test_data_sets_keep_the_protocol_and_their_splits_share_no_key(name):
    splits = ["test"] if name in ("motorcycle", "street") else SPLITS
    loaded = {split: datasets.load(name, split, **OPTIONS.get(name, {})) for split in splits}
    keys = []
    for split, data in loaded.items():
        assert isinstance(data, Dataset)
        assert (data.info.name, data.split) == (name, split)
        if name not in OPTIONS:
            assert len(data) == data.info.counts[split]
        keys += [item.key for item in data]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", ["digits", "emoji", "avatars", "glyphs"])
def test_pictures_in_memory_are_float32_in_minus_one_to_one(name):
    data = datasets.load(name, "test", **OPTIONS.get(name, {}))
    assert data.images.dtype == torch.float32
    assert data.images.shape[0] == len(data)
    assert -1 <= data.images.min() < 0 < data.images.max() <= 1
    assert data.labels is None or (data.labels.dtype == torch.int64 and data.labels.shape == (len(data),))


def test_loading_twice_gives_the_same():
    first, second = (datasets.load("emoji", "test") for _ in range(2))
    assert torch.equal(first.images, second.images)
    assert [item.key for item in first] == [item.key for item in second]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("cifar",), {}, "unknown data set 'cifar'; there are: digits, emoji"),
        (("digits", "val"), {}, "unknown split 'val'; there are: train, validation, test"),
        (("emoji",), {"size": 3}, "'emoji' has no option 'size'; it takes: resolution"),
        (("digits",), {"resolution": 28}, "'digits' has no option 'resolution'; it takes: none"),
    ],
)
def test_a_wrong_name_split_or_option_lists_the_choices(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        datasets.load(*arguments, **options)


def test_prepared_data_is_found_again(tmp_path, monkeypatch):
    monkeypatch.setenv("AIGC_CACHE", str(tmp_path))
    assert list(datasets.prepare(["digits", "emoji"])) == ["digits", "emoji"]
    written = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "datasets").iterdir()}
    assert len(written) == 2
    datasets.prepare(["digits", "emoji"])
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "datasets").iterdir()} == written
