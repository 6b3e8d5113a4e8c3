"""Every stored notebook keeps the rules of `rules.py`, and every rule notices a notebook that breaks it."""

from functools import cache

import nbformat
import pytest

from tests.notebooks import build
from tests.notebooks.rules import (
    OF_CHAPTERS,
    OF_NOTEBOOKS,
    ROOT,
    Chapter,
    code_asks_nothing_of_the_network,
    code_cells_are_short,
    display_formulas_are_numbered_and_followed_by_a_check,
    every_cell_was_executed_without_error,
    ids_are_telling_and_unique,
    it_checks_something,
    it_is_small,
    it_opens_with_title_prerequisites_and_cost,
    least_squares_name_their_driver,
    numbered_headings_carry_the_documents_titles,
    outputs_name_no_path_of_a_machine,
    outputs_that_nbval_ignores_are_followed_by_a_check,
    pictures_have_alternative_text,
    prose_is_short,
    the_parameters_are_the_three_and_begin_follows,
    unnamed_solvers,
    words,
)

NAMES = [
    "01_background",
    "02_core_concepts",
    "03_algorithms",
    "04_mathematics",
    "05_project",
    "06_applications",
    "07_tools",
    "08_trends",
    "09_faq",
    "10_further_reading",
]


@cache
def stored(name):
    return Chapter(ROOT / "notebooks" / f"{name}.ipynb")


def test_the_ten_chapters_are_there_and_no_others():
    assert sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("rule", [*OF_NOTEBOOKS, *OF_CHAPTERS], ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_chapter(name, rule):
    assert rule(stored(name)) == []


@pytest.mark.parametrize("name", NAMES[:5])
def test_chapter_checks_something(name):
    assert it_checks_something(stored(name)) == []


@pytest.mark.parametrize("rule", OF_NOTEBOOKS, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "notebooks" / "solutions").glob("*.ipynb")))
def test_solutions(name, rule):
    assert rule(stored(f"solutions/{name}")) == []


@pytest.mark.parametrize("folder", ["aigc_lib", "tests"])
def test_least_squares_name_their_driver(folder):
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / folder).rglob("*.py")}
    assert {path: lines for path, source in sources.items() if (lines := unnamed_solvers(source))} == {}


# The rules notice what they forbid -----------------------------------------------------------------------------------

OPENING = "# 1 · Background (背景介绍)\n\nPrerequisites: none. Minutes: 3. Memory: 1 GB. Data: digits."
PARAGRAPH = "word " * 80
GOOD = [
    build.markdown(OPENING, "title"),
    build.parameters(),
    build.code("session = begin('01', profile=profile, seed=seed, device=device)", "begin"),
    build.markdown(PARAGRAPH + "\n\n$$ 1 + 1 = 2 \\tag{1.1} $$", "sum"),
    build.code("check(...)", "sum-check", text="✓ 1.1 the sum = 2\n"),
]


def chapter_of(folder, *cells):
    path = folder / "01_background.ipynb"
    path.write_text(nbformat.v4.writes(build.notebook(*cells)))  # `nbformat.write` would mend faults
    return Chapter(path)


@pytest.mark.parametrize("rule", [*OF_NOTEBOOKS, *OF_CHAPTERS, it_checks_something], ids=lambda rule: rule.__name__)
def test_a_good_chapter_keeps_every_rule(tmp_path, rule):
    assert rule(chapter_of(tmp_path, *GOOD)) == []


def never_executed():
    cell = build.code("1", "idle")
    cell.execution_count = None
    return cell


def failed():
    cell = build.code("1 / 0", "division")
    cell.outputs = [nbformat.v4.new_output("error", ename="ZeroDivisionError", evalue="", traceback=[])]
    return cell


def showing(data, **metadata):
    cell = build.code("plot()", "plot")
    cell.outputs = [nbformat.v4.new_output("display_data", data=data, metadata=metadata)]
    return cell


@pytest.mark.parametrize(
    ("rule", "cells"),
    [
        (every_cell_was_executed_without_error, [never_executed()]),
        (every_cell_was_executed_without_error, [failed()]),
        (the_parameters_are_the_three_and_begin_follows, [build.parameters()]),
        (ids_are_telling_and_unique, [build.code("1", "sum-check")]),
        (ids_are_telling_and_unique, [build.code("1", "Sum_Check")]),
        (ids_are_telling_and_unique, [build.code("1", "0a1b2c3d")]),
        (numbered_headings_carry_the_documents_titles, [build.markdown("## 2.2 GANs (生成对抗网络)", "gans")]),
        (prose_is_short, [build.markdown(PARAGRAPH, "other"), build.markdown("word " * 201, "long")]),
        (prose_is_short, [build.markdown("word " * 30, f"short-{i}") for i in range(3)]),
        (code_cells_are_short, [build.code("x = 1\n" * 26, "long")]),
        (code_cells_are_short, [build.code("x = 1\n" * 16, f"long-{i}") for i in range(4)]),
        (display_formulas_are_numbered_and_followed_by_a_check, [build.markdown("$$ a = b $$"), GOOD[-1]]),
        (display_formulas_are_numbered_and_followed_by_a_check, [build.markdown(r"$$ a \tag{1} $$"), build.code("a")]),
        (outputs_that_nbval_ignores_are_followed_by_a_check, [build.code("fit()", tags=("nbval-ignore-output",))]),
        (outputs_name_no_path_of_a_machine, [build.code("1", text="saved to /home/me/x.png")]),
        (outputs_name_no_path_of_a_machine, [build.code("1", text=r"C:\Users\me")]),
        (outputs_name_no_path_of_a_machine, [build.code("1", text=f"{ROOT}/data")]),
        (code_asks_nothing_of_the_network, [build.code("load('https://example.org/x.csv')")]),
        (code_asks_nothing_of_the_network, [build.code("import requests")]),
        (least_squares_name_their_driver, [build.code("w = torch.linalg.lstsq(a, b).solution")]),
        (pictures_have_alternative_text, [showing({"image/png": "iVBORw0KGgo="})]),
        (pictures_have_alternative_text, [showing({"text/html": '<img src="data:image/png;base64,iVBO">'})]),
        (pictures_have_alternative_text, [showing({"text/html": '<img alt="" src="x">'})]),
        (it_is_small, [build.code("1", text="x" * 4_000_001)]),
    ],
)
def test_a_rule_notices_what_it_forbids(tmp_path, rule, cells):
    faults = rule(chapter_of(tmp_path, *GOOD, *cells))
    assert len(faults) == 1, faults


@pytest.mark.parametrize(
    "opening",
    [
        OPENING.replace("# 1", "# 2"),
        OPENING.replace("背景介绍", "别的"),
        OPENING.replace(" (背景介绍)", ""),
        OPENING.replace("Memory: 1 GB. ", ""),
    ],
)
def test_an_opening_that_lacks_something_is_noticed(tmp_path, opening):
    assert len(it_opens_with_title_prerequisites_and_cost(chapter_of(tmp_path, build.markdown(opening, "title")))) == 1


def test_a_heading_with_another_title_than_the_documents_is_noticed(tmp_path):
    chapter = chapter_of(
        tmp_path, build.markdown("## 2.7 Spreading content (内容传播)\n\n## 2.2 Films (电影)", "headings")
    )
    chapter.number = 2
    assert numbered_headings_carry_the_documents_titles(chapter) == [
        "heading 2.2 Films (电影): the document says 音频和视频创作 or 生成对抗网络"
    ]


def test_pictures_with_a_text_are_accepted(tmp_path):
    with_text = {"image/png": {"alt": "a falling line"}}
    cells = [showing({"image/png": "iVBORw0KGgo="}, **with_text), showing({"text/html": '<img alt="a line" src="x">'})]
    assert pictures_have_alternative_text(chapter_of(tmp_path, *cells)) == []
    assert it_checks_something(chapter_of(tmp_path, *cells)) == ["no line of its outputs begins with ✓"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("# A heading\n\nfive words are here now", 5),
        ("the loss $-\\log D(x)$ falls", 4),
        ("so\n\n$$ a = b \\tag{1} $$\n\nholds", 2),
        ("| a | table |\n| --- | --- |\n\n```python\ncode = 1\n```\nend", 1),
        ("*receptive field* (感受野) - a list", 5),
    ],
)
def test_words_are_those_of_paragraphs(text, number):
    assert words(build.markdown(text)) == number
