"""The ledger of errata as a page to read: folded by chapter, a link to what shows each, and the test that guards it.

A link is relative to the notebooks and names a cell, `04_mathematics.ipynb#cell-id=gan-minimax`: JupyterLab opens the
chapter there ("cell-id" of its notebook widget's `setFragment`). Headings will not do: their fragments arrive with the
Chinese characters percent-encoded, and are not found.
"""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from IPython.display import display

from aigc_lib import paths
from aigc_lib.teaching.course_map import CourseMap, Erratum, errata, load


def heading_of(cell: str, notebooks_dir: Path | None = None) -> str:
    """The heading that a cell stands under, without its `#`; "" where the chapter or the cell is not there.

    Args:
        cell: as the course map names it, `04_mathematics#gan-minimax`.
        notebooks_dir: the folder of the chapters; the repository's own by default.
    """
    notebook, _, cell_id = cell.partition("#")
    path = paths.notebooks_dir(notebooks_dir) / f"{notebook}.ipynb"
    if not path.is_file():
        return ""
    heading = ""
    for each in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if each["cell_type"] == "markdown":
            lines = "".join(each["source"]).splitlines()
            heading = next((line.lstrip("# ") for line in lines if line.startswith("#")), heading)
        if each.get("id") == cell_id:
            return heading
    return ""


def link(cell: str, text: str) -> str:
    """An HTML link from one chapter to a cell of another (or the same), to be followed in JupyterLab."""
    notebook, _, cell_id = cell.partition("#")
    return f'<a href="{quote(notebook)}.ipynb#cell-id={quote(cell_id)}">{escape(text)}</a>'


def show_ledger(
    caption: str, *, course_map: CourseMap | None = None, notebooks_dir: Path | None = None
) -> Sequence[Erratum]:
    """Display all errata, folded by chapter, and return them in the document's order.

    Raises:
        FileNotFoundError: the notebooks are not there (a wheel does not carry them).
    """
    course_map = course_map or load()
    rows = errata(course_map)
    chapter_of = {item.id: item.chapter for item in course_map.items}
    parts = []
    for number, _, title in course_map.chapters:
        mine = [row for row in rows if chapter_of[row.item] == number]
        if mine:
            body = "".join(_row(row, notebooks_dir) for row in mine)
            n_wrong = sum(row.verdict == "wrong" for row in mine)
            counts = f"{n_wrong} wrong, {len(mine) - n_wrong} imprecise"
            parts.append(
                f"<details><summary>{number} · {escape(title)}: {counts}</summary>"
                f"<table><thead><tr>{_HEAD}</tr></thead><tbody>{body}</tbody></table></details>"
            )
    html = f'{"".join(parts)}<p style="font-style:italic">{escape(caption)}</p>'
    plain = [f"{row.item} | {row.verdict} | {row.taught} | {row.guarded}" for row in rows]
    display({"text/html": html, "text/plain": "\n".join([caption, *plain])}, raw=True)
    return rows


_COLUMNS = ("item", "printed", "verdict", "what is right", "shown in", "guarded by")
_HEAD = "".join(f'<th scope="col" style="text-align:left">{name}</th>' for name in _COLUMNS)


def _row(row: Erratum, notebooks_dir: Path | None) -> str:
    heading = heading_of(row.taught, notebooks_dir) if row.taught else ""
    shown = link(row.taught, heading) if heading else "not shown yet"
    test = row.guarded.partition("::")[2].replace("_", " ") or "no test yet"
    cells = [escape(row.printed), row.verdict, escape(f"{row.finding} Instead: {row.correct}"), shown]
    guard = f'<span title="{escape(row.guarded)}">{escape(test)}</span>'
    return (
        f'<tr><th scope="row" style="text-align:left">{row.item}</th>'
        + "".join(f'<td style="text-align:left">{cell}</td>' for cell in [*cells, guard])
        + "</tr>"
    )
