"""The ledger lists every erratum once, folded by chapter, and its links lead to cells under headings that exist."""

import json
import re
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from aigc_lib.teaching import course_map, ledger

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
MAP = course_map.load()
ROWS = course_map.errata(MAP)


@pytest.fixture(scope="module")
def shown():
    """What the ledger displays: HTML and plain text."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "display", lambda data, raw: seen.append(data))
        rows = ledger.show_ledger("All of it.", course_map=MAP)
    assert rows == ROWS
    return seen[0]


def test_every_erratum_is_there_once_with_what_is_right(shown):
    assert re.findall(r'<th scope="row"[^>]*>([\w.]+)</th>', shown["text/html"]) == [row.item for row in ROWS]
    text = unescape(shown["text/html"])
    assert all(row.printed in text and row.correct in text for row in ROWS)


def test_it_folds_by_chapter_and_counts_what_is_inside(shown):
    parts = re.findall(
        r"<details><summary>(\d+) · .*?: (\d+) wrong, (\d+) imprecise</summary>(.*?)</details>", shown["text/html"]
    )
    assert [int(number) for number, *_ in parts] == [c.number for c in MAP.chapters]
    for _, wrong, imprecise, body in parts:
        assert body.count('<td style="text-align:left">wrong</td>') == int(wrong)
        assert body.count('<td style="text-align:left">imprecise</td>') == int(imprecise)
    assert sum(int(w) + int(i) for _, w, i, _ in parts) == len(ROWS)


def test_every_link_leads_to_a_cell_below_the_heading_that_it_shows(shown):
    links = re.findall(r'<a href="([^"]+)">([^<]+)</a>', shown["text/html"])
    assert len(links) == sum(bool(row.taught and ledger.heading_of(row.taught)) for row in ROWS)
    for address, heading in links:
        parts = urlsplit(address)
        kind, _, cell_id = unquote(parts.fragment).partition("=")
        assert (parts.scheme, parts.netloc, kind) == ("", "", "cell-id")
        cells = json.loads((NOTEBOOKS / unquote(parts.path)).read_text(encoding="utf-8"))["cells"]
        place = next(i for i, cell in enumerate(cells) if cell["id"] == cell_id)
        lines = "".join("".join(c["source"]) + "\n" for c in cells[: place + 1] if c["cell_type"] == "markdown")
        assert unescape(heading) in re.findall(r"(?m)^#+ (.+)$", lines)


def test_the_plain_text_names_cell_and_test_of_each(shown):
    assert shown["text/plain"].splitlines()[1:] == [
        f"{row.item} | {row.verdict} | {row.taught} | {row.guarded}" for row in ROWS
    ]


def test_an_erratum_names_the_first_test_that_guards_it():
    by_id = {row.item: row for row in ROWS}
    for item in MAP.items:
        if item.id in by_id:
            assert by_id[item.id].guarded == next(iter(item.tests), "")


def notebook(folder, *cells):
    made = [{"cell_type": kind, "id": name, "source": [text]} for kind, name, text in cells]
    (folder / "01_one.ipynb").write_text(json.dumps({"cells": made}), encoding="utf-8")


def test_a_cell_stands_under_the_last_heading_before_it(tmp_path):
    notebook(
        tmp_path, ("markdown", "a", "# One\ntext"), ("code", "b", "# no heading"), ("markdown", "c", "## Two"),
        ("markdown", "d", "text"), ("code", "e", "1"),
    )  # fmt: skip
    found = {name: ledger.heading_of(f"01_one#{name}", tmp_path) for name in "abcdex"}
    assert found == {"a": "One", "b": "One", "c": "Two", "d": "Two", "e": "Two", "x": ""}
    assert ledger.heading_of("02_two#a", tmp_path) == ""


def test_names_are_escaped():
    assert ledger.link("01_a#b", "<i> & 中") == '<a href="01_a.ipynb#cell-id=b">&lt;i&gt; &amp; 中</a>'
