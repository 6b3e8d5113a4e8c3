"""Chapters leave their exercises open, and the solutions notebook of a chapter solves every one of them."""

import re

import pytest

from aigc_lib.teaching.exercises import all_exercises
from tests.notebooks.rules import COMPLETE, ROOT, Chapter, text_of

CHAPTERS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}


def submissions(chapter):
    """The exercises that a notebook submits, with the text that each cell printed."""
    for cell in chapter.code:
        ids = re.findall(r"""\bsubmit\(\s*["']([^"']+)""", cell.source)
        printed = "\n".join(text_of(output) for output in cell.outputs)
        yield from ((id, printed) for id in ids)


def exercises(name):
    return dict(submissions(Chapter(CHAPTERS[name])))


def solutions(name):
    return dict(submissions(Chapter(ROOT / "notebooks" / "solutions" / f"{name}.ipynb")))


WITH_EXERCISES = [name for name in CHAPTERS if exercises(name)]


def test_complete_chapters_end_with_exercises():
    assert {name for name in CHAPTERS if int(name[:2]) in COMPLETE} <= set(WITH_EXERCISES)


def test_there_are_solutions_for_the_chapters_with_exercises_and_for_no_others():
    assert sorted(path.stem for path in (ROOT / "notebooks" / "solutions").glob("*.ipynb")) == WITH_EXERCISES


def test_every_exercise_of_the_bank_is_set_in_the_chapter_of_its_section():
    in_chapters = {(int(name[:2]), id) for name in CHAPTERS for id in exercises(name)}
    assert in_chapters == {(int(re.match(r"\d+", id)[0]), id) for id in all_exercises()}


@pytest.mark.parametrize("name", WITH_EXERCISES)
def test_the_chapter_leaves_its_exercises_open(name):
    for id, printed in exercises(name).items():
        assert "not attempted yet" in printed, id


@pytest.mark.parametrize("name", WITH_EXERCISES)
def test_every_exercise_is_solved(name):
    solved = solutions(name)
    assert list(solved) == list(exercises(name))  # in the order of the chapter
    for id, printed in solved.items():
        assert printed.lstrip().startswith("✓"), f"{id}: {printed}"
        assert "not attempted yet" not in printed, id
