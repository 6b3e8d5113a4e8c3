"""The course map: every item of the source document, what is right or wrong with it, where it is taught and guarded.

`data/course_map.yaml` lists the document's 167 items by chapter and section. An item is *taught* by notebook cells,
named `03_algorithms#gan-five-steps`, and *guarded* by tests, named `tests/models/test_gan.py::test_name`; it is *open*
until it has both. Names that lead nowhere count as absent, and `validate` reports them. The sources that items cite
stand in `data/references.bib`.
"""

import ast
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from aigc_lib import paths
from aigc_lib.teaching import bibliography
from aigc_lib.teaching.bibliography import KINDS, Reference

VERDICTS = ("correct", "imprecise", "wrong")
TYPES = (
    *("application", "claim", "code", "concept", "faq", "formula", "keywords", "mermaid", "reference", "resource"),
    *("steps", "structure", "trend"),
)


@dataclass(frozen=True, kw_only=True)
class Bug:
    """A fault in one line of a printed listing, and its repair."""

    line: int
    fault: str
    repair: str


@dataclass(frozen=True, kw_only=True)
class Item:
    """One statement, formula, diagram, listing or reference of the document."""

    id: str
    chapter: int  # 0 is what stands before and after the ten chapters
    section: str  # the document's number, such as "4.1.3"
    section_zh: str
    section_en: str
    taught_in: str  # the course's section: differs in chapter 2, whose two versions are merged
    type: str  # one of TYPES
    lines: tuple[int, int]  # first and last line of the document, from 1
    printed: str  # a short excerpt, verbatim
    verdict: str  # one of VERDICTS
    finding: str  # what is right or wrong with it; Markdown with $…$
    correct: str  # what the course says instead; Markdown with $…$
    sources: tuple[str, ...] = ()  # "key" or "key, place in it", keys of CourseMap.references
    unverified: bool = False  # part of `correct` could not be confirmed
    bugs: tuple[Bug, ...] = ()  # of a listing
    cells: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()


class Chapter(NamedTuple):
    number: int
    zh: str
    en: str


@dataclass(frozen=True, kw_only=True)
class CourseMap:
    """All items in the document's order, its chapters and keywords, and the references by key."""

    chapters: tuple[Chapter, ...]
    items: tuple[Item, ...]
    references: dict[str, Reference]
    keywords: tuple[str, ...]
    n_lines: int  # of the document

    def __getitem__(self, item_id: str) -> Item:
        """The item with this id; KeyError if there is none."""
        for item in self.items:
            if item.id == item_id:
                return item
        raise KeyError(f"the course map has no item {item_id!r}")

    def citations(self, item: Item) -> list[str]:
        """The sources of an item as lines to print, the place in the source behind them."""
        keys_and_places = (source.partition(", ")[::2] for source in item.sources)
        return [", ".join(filter(None, (self.references[key].citation, place))) for key, place in keys_and_places]


# --- reading ---------------------------------------------------------------------------------------------------------


def load(path: Path | None = None) -> CourseMap:
    """Read the course map, by default the package's own, and the package's bibliography.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not YAML, or a field is missing or unknown; the message names the item. Or a broken bibliography.
    """
    path = path or paths.data_dir() / "course_map.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return CourseMap(
            chapters=tuple(Chapter(c["number"], c["zh"], c["en"]) for c in content["chapters"]),
            items=tuple(_items(content["chapters"])),
            references=bibliography.load(),
            keywords=tuple(content["document"]["keywords"]),
            n_lines=content["document"]["lines"],
        )
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a course map: {type(error).__name__}: {error}") from error


def _items(chapters: list[dict[str, Any]]) -> Iterator[Item]:
    for chapter in chapters:
        for section in chapter["sections"]:
            place = {
                "chapter": chapter["number"],
                "section": section["number"],
                "section_zh": section["zh"],
                "section_en": section["en"],
                "taught_in": section.get("taught_in", section["number"]),
            }
            for fields in section["items"]:
                bugs = tuple(_record(Bug, bug, fields["id"]) for bug in fields.get("bugs", ()))
                yield _record(Item, place | fields | {"bugs": bugs}, fields["id"])


def _record(kind: type, fields: dict[str, Any], name: str) -> Any:
    try:
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()})
    except TypeError as error:
        raise ValueError(f"course map, {name}: {str(error).replace(f'{kind.__name__}.__init__() ', '')}") from error


# --- what there is ---------------------------------------------------------------------------------------------------


class _Repository:
    """The cells and tests below `root`, each file read once."""

    def __init__(self, root: Path):
        self.root = root
        self._names: dict[Path, frozenset[str]] = {}

    def has(self, name: str) -> bool:
        """Whether the cell `notebook#cell-id` or the test `file::test` is there."""
        if "::" in name:
            file, _, test = name.partition("::")
            return test in self._read(self.root / file, _test_names)
        notebook, _, cell = name.partition("#")
        return cell in self._read(self.root / "notebooks" / f"{notebook}.ipynb", _cell_ids)

    def _read(self, path: Path, names) -> frozenset[str]:
        if path not in self._names:
            self._names[path] = names(path.read_text(encoding="utf-8")) if path.is_file() else frozenset()
        return self._names[path]


def _cell_ids(text: str) -> frozenset[str]:
    return frozenset(cell["id"] for cell in json.loads(text)["cells"] if "id" in cell)


def _test_names(text: str) -> frozenset[str]:
    names: set[str] = set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
        elif isinstance(node, ast.FunctionDef):
            names.add(node.name)
    return frozenset(name for name in names if name.split("::")[-1].startswith("test"))


def _repository(notebooks_dir: Path | None) -> _Repository:
    return _Repository(paths.notebooks_dir(notebooks_dir).parent)


# --- coverage, problems, errata --------------------------------------------------------------------------------------


class Coverage(NamedTuple):
    """How much of a chapter of the document the course covers, in items."""

    chapter: int
    title: str
    n_items: int
    taught: int  # with a cell that is there
    guarded: int  # with a test that is there
    open: tuple[str, ...]  # ids that lack the one or the other


def coverage(course_map: CourseMap | None = None, notebooks_dir: Path | None = None) -> list[Coverage]:
    """One row for each chapter, 0 to 10.

    Args:
        notebooks_dir: the folder `notebooks` of a repository, beside which the tests stand; the package's own by
            default.

    Raises:
        FileNotFoundError: no such folder (a wheel does not carry it).
    """
    course_map, repository = course_map or load(), _repository(notebooks_dir)
    rows = []
    for number, _, title in course_map.chapters:
        items = [item for item in course_map.items if item.chapter == number]
        taught = {item.id for item in items if any(map(repository.has, item.cells))}
        guarded = {item.id for item in items if any(map(repository.has, item.tests))}
        still_open = tuple(item.id for item in items if item.id not in taught & guarded)
        rows.append(Coverage(number, title, len(items), len(taught), len(guarded), still_open))
    return rows


def coverage_report(course_map: CourseMap | None = None, notebooks_dir: Path | None = None) -> str:
    """Coverage as text: a table, the open items of each chapter, and the problems that `validate` finds."""
    course_map = course_map or load()
    rows = coverage(course_map, notebooks_dir)
    line = "{:>2} {:<40} {:>6} {:>7} {:>8} {:>5}".format
    total = [
        sum(numbers) for numbers in zip(*((r.n_items, r.taught, r.guarded, len(r.open)) for r in rows), strict=True)
    ]
    lines = [line("", "chapter of the document", "items", "taught", "guarded", "open")]
    lines += [line(r.chapter, r.title, r.n_items, r.taught, r.guarded, len(r.open)) for r in rows]
    lines += [line("", "all", *total)]
    lines += [f"open in {r.chapter}: {' '.join(r.open)}" for r in rows if r.open]
    lines += [f"problem: {problem}" for problem in validate(course_map, _repository(notebooks_dir).root)]
    return "\n".join(lines)


def validate(course_map: CourseMap, root: Path) -> list[str]:
    """What is wrong with a map, one line a problem; `root` is the repository with `notebooks` and `tests`.

    Names of cells or tests that are not there, ids that occur twice, unknown verdicts, types, kinds or sources, line
    numbers outside the document, empty texts, and items that are taught with no test to guard them.
    """
    repository = _Repository(root)
    counts = Counter(item.id for item in course_map.items)
    problems = [f"{item_id}: occurs {n} times" for item_id, n in counts.items() if n > 1]
    for key, reference in course_map.references.items():
        if reference.kind not in KINDS:
            problems.append(f"reference {key}: unknown kind {reference.kind!r}, expected one of {', '.join(KINDS)}")
    for item in course_map.items:
        faults = [f"unknown verdict {item.verdict!r}"] * (item.verdict not in VERDICTS)
        faults += [f"unknown type {item.type!r}"] * (item.type not in TYPES)
        faults += [f"lines {item.lines} are not in the document"] * (not _in_order(1, *item.lines, course_map.n_lines))
        faults += [f"no text for {name!r}" for name in ("printed", "finding", "correct") if not getattr(item, name)]
        keys = (source.partition(", ")[0] for source in item.sources)
        faults += [f"unknown source {key!r}" for key in keys if key not in course_map.references]
        faults += [f"no cell {name!r}" for name in item.cells if "#" not in name or not repository.has(name)]
        faults += [f"no test {name!r}" for name in item.tests if "::" not in name or not repository.has(name)]
        faults += ["taught without a test to guard it"] * bool(item.cells and not item.tests)
        problems += [f"{item.id}: {fault}" for fault in faults]
    return problems


def _in_order(*numbers: int) -> bool:
    return list(numbers) == sorted(numbers)


class Erratum(NamedTuple):
    """One row of chapter 10's ledger."""

    item: str
    section: str
    printed: str
    verdict: str
    finding: str
    correct: str
    taught: str  # the first cell that teaches it, or ""
    guarded: str  # the first test that would notice if that went wrong, or ""


def errata(course_map: CourseMap | None = None) -> list[Erratum]:
    """Everything in the document that is not correct as printed, in its order."""
    return [
        Erratum(
            i.id,
            i.section,
            i.printed,
            i.verdict,
            i.finding,
            i.correct,
            *(n[0] if n else "" for n in (i.cells, i.tests)),
        )
        for i in (course_map or load()).items
        if i.verdict != "correct"
    ]


JUDGED = ("item", "printed", "verdict", "finding", "instead")


def judged(chapter: int, section: str | None = None, course_map: CourseMap | None = None) -> list[tuple[str, ...]]:
    """What the document says in a chapter, or in one of its sections, and what is true: rows under the header `JUDGED`.

    Raises:
        ValueError: the document has no item there.
    """
    items = [i for i in (course_map or load()).items if i.chapter == chapter and section in (None, i.section)]
    if not items:
        raise ValueError(f"the document says nothing in chapter {chapter}, section {section!r}")
    return [(i.id, i.printed, i.verdict, i.finding, i.correct) for i in items]
