"""The course map: complete, consistent, and true to what notebooks and tests hold."""

import dataclasses
import json
import re
import tomllib
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from aigc_lib.teaching import course_map as module
from aigc_lib.teaching import reading
from aigc_lib.teaching.bibliography_checks import validate as validate_bibliography
from aigc_lib.teaching.course_map import (
    CourseMap,
    Item,
    Reference,
    coverage,
    coverage_report,
    errata,
    load,
    validate,
)

ROOT = Path(__file__).parents[2]
MAP = load()


def items(prefix: str) -> list[Item]:
    return [item for item in MAP.items if item.id.startswith(prefix)]


# --- the map of this course ------------------------------------------------------------------------------------------


def test_the_map_names_only_cells_and_tests_that_are_there_and_guards_what_it_teaches():
    assert validate(MAP, ROOT) == []


def test_it_has_the_documents_167_items_with_their_verdicts():
    assert len(MAP.items) == 167
    assert Counter(item.verdict for item in MAP.items) == {"correct": 32, "imprecise": 67, "wrong": 68}
    assert sum(len(item.bugs) for item in MAP.items) == 38


def test_every_chapter_has_the_documents_number_of_items():
    counts = Counter(item.chapter for item in MAP.items)
    assert [counts[number] for number in range(11)] == [6, 6, 29, 20, 43, 20, 8, 13, 7, 5, 10]


def test_chapters_are_the_ten_sections_in_order_behind_the_front_matter():
    assert [chapter.number for chapter in MAP.chapters] == list(range(11))
    assert [item.chapter for item in MAP.items] == sorted(item.chapter for item in MAP.items)
    assert MAP.chapters[1].zh == "背景介绍"
    assert MAP.chapters[10].zh == "扩展阅读 & 参考资料"


def test_sections_of_both_versions_of_chapter_2_lead_to_the_second_versions_numbers():
    chapter_2 = [item for item in MAP.items if item.chapter == 2]
    assert {item.taught_in for item in chapter_2} == {f"2.{n}" for n in range(1, 9)}
    assert all(item.taught_in == item.section for item in MAP.items if item.chapter != 2)
    assert {item.taught_in for item in chapter_2 if item.section_en == "Audio and video creation"} == {"2.6"}


def test_all_eight_systems_have_their_sections_in_chapters_3_and_4():
    sections = {item.section for item in MAP.items}
    assert {f"3.{part}.{system}" for part in range(1, 5) for system in (1, 2)} <= sections
    assert {f"4.{system}.{part}" for system in range(1, 9) for part in (1, 2)} <= sections


def test_keywords_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert list(MAP.keywords) == project["keywords"]
    assert len(MAP.keywords) == 5


@pytest.mark.parametrize("item", MAP.items, ids=lambda item: item.id)
def test_texts_are_short_and_their_formulas_closed(item):
    for text in (item.finding, item.correct):
        assert 3 < len(text) <= 300
        assert text.count("$") % 2 == 0
        assert text.count("{") == text.count("}")


def test_what_could_not_be_confirmed_says_so():
    unverified = [item.id for item in MAP.items if item.unverified]
    assert unverified == ["P0.5", "F4.6.2a", "F4.8.2c", "A6.3", "A6.6", "R10.4", "R10.5", "R10.8", "R10.10"]


# --- its bibliography ------------------------------------------------------------------------------------------------


def test_every_reference_is_cited_and_its_links_are_well_formed():
    """By an item, by the reading list, or with its number, key, or first author and year in a chapter or module."""
    cited = {source.partition(", ")[0] for item in MAP.items for source in item.sources}
    assert cited <= set(MAP.references)
    cited |= {each.key for each in reading.load().readings.values()}
    files = [*ROOT.glob("notebooks/**/*.ipynb"), *ROOT.glob("aigc_lib/**/*.py"), *ROOT.glob("data/*.toml")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    for key, reference in MAP.references.items():
        first = re.escape(reference.authors.removesuffix(" and others").split(", ")[0])
        marks = [re.escape(mark) for mark in (key, reference.arxiv, reference.doi, reference.url) if mark]
        marks += [rf"{first}\b[^\n]{{0,60}}\b{reference.year}\b"]
        assert key in cited or re.search("|".join(marks), text), f"{key} is cited nowhere"
        assert reference.kind != "preprint" or reference.venue == "arXiv", key
    assert validate_bibliography() == []


def test_a_printed_arxiv_link_is_correct_exactly_when_number_and_title_belong_together():
    titles = {reference.arxiv: reference.title for reference in MAP.references.values()}
    seen = 0
    for item in items("R10."):
        if found := re.fullmatch(r"\[(.+)\]\(https://arxiv\.org/abs/([\d.]+)\)", item.printed):
            title, number = found.groups()
            assert (titles.get(number) == title) == (item.verdict == "correct"), item.id
            seen += 1
    assert seen == 6


def test_a_printed_paper_is_correct_exactly_when_title_year_and_first_author_belong_together():
    for item in items("R7.3."):
        title, year, author = re.fullmatch(r"《(.+)》（(\d+)年，(.+) et al\.）", item.printed).groups()
        right = any(
            reference.title == title
            and reference.year == int(year)
            and author.endswith(reference.authors.split(", ")[0])
            for reference in MAP.references.values()
        )
        assert right == (item.verdict == "correct"), item.id


def test_the_printed_address_with_a_space_is_refused_by_the_same_rule():
    address = MAP["R10.7"].printed.partition("](")[2].rstrip(")")
    assert not re.fullmatch(r"[a-z0-9.-]+", urlsplit(address).netloc)
    assert MAP["R10.7"].verdict == "wrong"


def test_a_citation_names_authors_year_title_venue_number_and_place():
    assert MAP.citations(MAP["F4.1.2a"]) == [
        "Goodfellow et al. (2014), Generative Adversarial Nets, NIPS 2014, arXiv:1406.2661, Prop. 1"
    ]
    assert MAP.citations(MAP["B1.1"]) == []


@pytest.mark.parametrize(
    ("authors", "cited"), [("Elman", "Elman"), ("Kingma, Welling", "Kingma & Welling"), ("A, B, C", "A et al.")]
)
def test_up_to_two_authors_are_named(authors, cited):
    reference = Reference(authors=authors, title="T", venue="V", year=2020, kind="book", url="https://x.org")
    assert reference.citation == f"{cited} (2020), T, V, https://x.org"


# --- a small repository ----------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path):
    (tmp_path / "notebooks" / "solutions").mkdir(parents=True)
    (tmp_path / "tests").mkdir()
    cells = {"cells": [{"id": "gan-minimax"}, {"id": "gan-loss"}, {"source": "no id"}]}
    (tmp_path / "notebooks" / "04_mathematics.ipynb").write_text(json.dumps(cells))
    (tmp_path / "notebooks" / "solutions" / "04_mathematics.ipynb").write_text(json.dumps({"cells": [{"id": "s"}]}))
    (tmp_path / "tests" / "test_gan.py").write_text(
        "def helper(): ...\ndef test_value(): ...\nclass TestLoss:\n    def test_sign(self): ...\n"
    )
    return tmp_path


def item(**changes) -> Item:
    fields = {
        "id": "F1", "chapter": 1, "section": "1.1", "section_zh": "节", "section_en": "Section", "taught_in": "1.1",
        "type": "formula", "lines": (1, 2), "printed": "x", "verdict": "wrong", "finding": "no", "correct": "yes",
    }  # fmt: skip
    return Item(**(fields | changes))


def course_map(*items: Item) -> CourseMap:
    chapters = (module.Chapter(0, "前", "Front"), module.Chapter(1, "一", "One"))
    book = Reference(authors="A", title="T", venue="V", year=2020, kind="book")
    return CourseMap(chapters=chapters, items=items, references={"book": book}, keywords=("k",), n_lines=9)


TAUGHT = {"cells": ("04_mathematics#gan-minimax",), "tests": ("tests/test_gan.py::test_value",)}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        TAUGHT,
        {"tests": ("tests/test_gan.py::TestLoss::test_sign",)},
        {"cells": ("solutions/04_mathematics#s",), "tests": ("tests/test_gan.py::test_value",)},
        {"sources": ("book", "book, eq. 1")},
    ],
)
def test_a_sound_map_has_no_problems(root, changes):
    assert validate(course_map(item(**changes)), root) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (TAUGHT | {"cells": ("04_mathematics#gone",)}, "no cell '04_mathematics#gone'"),
        (TAUGHT | {"cells": ("05_project#gan-minimax",)}, "no cell '05_project#gan-minimax'"),
        (TAUGHT | {"cells": ("tests/test_gan.py::test_value",)}, "no cell 'tests/test_gan.py::test_value'"),
        ({"tests": ("tests/test_gan.py::test_gone",)}, "no test 'tests/test_gan.py::test_gone'"),
        ({"tests": ("tests/test_gan.py::helper",)}, "no test 'tests/test_gan.py::helper'"),
        ({"tests": ("tests/test_gone.py::test_value",)}, "no test 'tests/test_gone.py::test_value'"),
        ({"tests": ("04_mathematics#gan-minimax",)}, "no test '04_mathematics#gan-minimax'"),
        (TAUGHT | {"tests": ()}, "taught without a test to guard it"),
        ({"verdict": "fine"}, "unknown verdict 'fine'"),
        ({"type": "poem"}, "unknown type 'poem'"),
        ({"lines": (2, 1)}, "lines (2, 1) are not in the document"),
        ({"lines": (9, 10)}, "lines (9, 10) are not in the document"),
        ({"correct": ""}, "no text for 'correct'"),
        ({"sources": ("books, eq. 1",)}, "unknown source 'books'"),
    ],
)
def test_a_map_that_is_wrong_is_told_what_is_wrong(root, changes, problem):
    assert validate(course_map(item(**changes)), root) == [f"F1: {problem}"]


def test_an_id_that_occurs_twice_and_a_kind_that_does_not_exist_are_problems(root):
    twice = course_map(item(), item())
    odd = dataclasses.replace(twice.references["book"], kind="poem")
    problems = validate(dataclasses.replace(twice, references={"book": odd}), root)
    assert problems[0] == "F1: occurs 2 times"
    assert problems[1].startswith("reference book: unknown kind 'poem', expected one of blog, book, code")


def test_coverage_counts_what_is_there_and_lists_what_is_open(root):
    broken = {"cells": ("04_mathematics#gone",), "tests": ("tests/test_gan.py::test_gone",)}
    small = course_map(
        item(id="a", **TAUGHT), item(id="b", tests=TAUGHT["tests"]), item(id="c", cells=TAUGHT["cells"]),
        item(id="d"), item(id="e", **broken), item(id="f", chapter=0),
    )  # fmt: skip
    front, one = coverage(small, root / "notebooks")
    assert one == (1, "One", 5, 2, 2, ("b", "c", "d", "e"))
    assert front == (0, "Front", 1, 0, 0, ("f",))


def test_the_report_shows_rows_total_open_items_and_problems(root):
    small = course_map(item(id="a", **TAUGHT), item(id="b", cells=("04_mathematics#gone",)))
    lines = coverage_report(small, root / "notebooks").splitlines()
    assert lines[2].split() == ["1", "One", "2", "1", "1", "1"]
    assert lines[3].split() == ["all", "2", "1", "1", "1"]
    assert lines[4:] == [
        "open in 1: b",
        "problem: b: no cell '04_mathematics#gone'",
        "problem: b: taught without a test to guard it",
    ]


def test_coverage_of_this_repository_adds_up():
    rows = coverage()
    assert sum(row.n_items for row in rows) == 167
    assert all(row.n_items - min(row.taught, row.guarded) <= len(row.open) for row in rows)
    assert coverage_report().count("\n") >= 12


def test_coverage_without_notebooks_says_where_they_are(tmp_path):
    with pytest.raises(FileNotFoundError, match="come with a clone of the repository"):
        coverage(MAP, tmp_path / "notebooks")


def test_errata_are_all_that_is_not_correct_in_order_and_show_where_it_is_taught():
    rows = errata()
    assert len(rows) == 135
    assert {row.verdict for row in rows} == {"wrong", "imprecise"}
    assert [row.item for row in rows] == [item.id for item in MAP.items if item.verdict != "correct"]
    small = course_map(item(**TAUGHT), item(id="F2"), item(id="F3", verdict="correct"))
    assert errata(small) == [
        ("F1", "1.1", "x", "wrong", "no", "yes", "04_mathematics#gan-minimax", "tests/test_gan.py::test_value"),
        ("F2", "1.1", "x", "wrong", "no", "yes", "", ""),
    ]


# --- reading ---------------------------------------------------------------------------------------------------------


def test_an_item_is_found_by_its_id():
    assert MAP["F4.1.3a"].section == "4.1.3"
    with pytest.raises(KeyError, match=r"no item 'F9\.9'"):
        MAP["F9.9"]


def test_a_listing_carries_its_bugs_by_line():
    bugs = MAP["C5.2.1"].bugs
    assert len(bugs) == 15
    assert all(346 <= bug.line <= 409 and bug.fault and bug.repair for bug in bugs)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("verdict: imprecise", "verdikt: imprecise", "P0.1.*verdikt"),
        ("finding: The title", "remark: The title", "P0.1.*remark"),
        ("chapters:", "chapter:", "is not a course map"),
        ("document:", "document: [", "is not a course map"),
    ],
)
def test_a_damaged_map_is_refused_with_the_place(tmp_path, old, new, message):
    text = (ROOT / "data" / "course_map.yaml").read_text(encoding="utf-8")
    path = tmp_path / "course_map.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load(path)


def test_a_map_that_is_not_there_is_a_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "course_map.yaml")
