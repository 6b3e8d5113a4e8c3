"""Links from one notebook into another lead to a file, a cell or a heading that is there.

JupyterLab 4.6 compares the fragment of a link, as the browser encoded it, with the text of a heading: one with Chinese
in it is never found. Cell ids are plain ASCII, and both JupyterLab and nbconvert's pages know `#cell-id=…`.
"""

import json
import re

import pytest

from tests.notebooks.rules import ROOT

CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TO_HERE = re.compile(r"\]\((?![a-z]+:)([^()\s#]*)(?:#([^()\s]*(?:\([^()\s]*\))?))?\)")


def cells_of(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def texts(cell):
    """The Markdown that a cell holds or has printed."""
    if cell["cell_type"] == "markdown":
        yield "".join(cell["source"])
    for output in cell.get("outputs", []):
        yield "".join(output.get("data", {}).get("text/markdown", []))


def faults(path, target, fragment):
    """Why a link in the notebook `path` leads nowhere; empty if it does lead somewhere."""
    there = (path.parent / target).resolve() if target else path
    if not there.is_file():
        return f"no file {target}"
    if fragment and there.suffix == ".ipynb":
        kind, _, value = fragment.partition("=")
        if kind == "cell-id":
            return "" if value in {cell["id"] for cell in cells_of(there)} else f"no cell {value} in {there.name}"
        if not fragment.isascii():
            return f"#{fragment} is not ASCII: link to the cell"
        headings = re.findall(r"(?m)^#+ (.+)$", "\n".join("".join(cell["source"]) for cell in cells_of(there)))
        if fragment not in {heading.strip().replace(" ", "-") for heading in headings}:
            return f"no heading {fragment} in {there.name}"
    return ""


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_link_leads_to_something(path):
    found = [
        f"{cell['id']}: {fault}"
        for cell in cells_of(path)
        for text in texts(cell)
        for target, fragment in TO_HERE.findall(re.sub(r"(?s)\$.*?\$|`.*?`", "", text))
        if target or fragment
        if (fault := faults(path, target, fragment))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("target", "fragment", "right"),
    [
        ("04_mathematics.ipynb", "", True),
        ("04_mathematics.ipynb", "cell-id=gan-loss", True),
        ("", "cell-id=faq-9-4", True),
        ("04_mathematics.ipynb", "4.4-Transformer", True),
        ("../README.md", "", True),
        ("11_more.ipynb", "", False),
        ("04_mathematics.ipynb", "cell-id=gan-lost", False),
        ("04_mathematics.ipynb", "4.1.3-The-loss-(损失函数)", False),  # there, but JupyterLab does not find it
        ("04_mathematics.ipynb", "4.9-More", False),
    ],
)
def test_what_leads_nowhere_is_noticed(target, fragment, right):
    assert (faults(ROOT / "notebooks" / "09_faq.ipynb", target, fragment) == "") == right


def test_links_are_found_as_they_are_written():
    text = "[a](b.ipynb) [c](b.ipynb#cell-id=d) [e](#f) [g](https://h.i/j) [k](b.ipynb#4.1-X-(中))"
    assert TO_HERE.findall(text) == [("b.ipynb", ""), ("b.ipynb", "cell-id=d"), ("", "f"), ("b.ipynb", "4.1-X-(中)")]
