import pytest

from aigc_lib.teaching import exercises
from aigc_lib.teaching.exercises import all_exercises, exercise, hint, results, submit

LOAD = exercises._load_bank.__wrapped__  # without its cache
HINT = "Which power of two is it?"


@pytest.fixture(autouse=True)
def _one_exercise(monkeypatch):
    """A bank with two exercises, one asks for a value and one for a function."""
    monkeypatch.setattr(exercises, "_load_bank", lambda: None)
    monkeypatch.setattr(exercises, "_exercises", {})
    monkeypatch.setattr(exercises, "_passed", set())
    exercise("2.1-eight", question="What is 2³?", hint=HINT)(lambda answer: answer == 8)
    exercise("2.1-double", question="Write f(x) = 2x.", hint="x and once more x.")(lambda f: f(3) == 6 and f(-1) == -2)


def printed(capsys, exercise_id, answer):
    submit(exercise_id, answer)
    (line,) = capsys.readouterr().out.splitlines()
    return line


def test_a_right_answer_is_ticked_and_remembered(capsys):
    assert printed(capsys, "2.1-eight", 8) == "✓ 2.1-eight  right"
    assert results() == {"2.1-eight"}


def test_a_wrong_answer_gets_the_hint_and_not_the_answer(capsys):
    line = printed(capsys, "2.1-eight", 9)
    assert line == f"✗ 2.1-eight  not yet. Hint: {HINT}"
    assert "8" not in line.removeprefix("✗ 2.1-eight")
    assert not results()


def stub(x): ...


def documented_stub(x):
    """Twice x."""


@pytest.mark.parametrize(
    "answer", [..., None, stub, documented_stub], ids=["ellipsis", "none", "stub", "documented stub"]
)
def test_an_exercise_that_was_not_attempted_says_so(capsys, answer):
    assert printed(capsys, "2.1-double", answer) == "○ 2.1-double  not attempted yet"
    assert not results()


@pytest.mark.parametrize("answer", [0, "", [], False, lambda x: 5, lambda x: x])
def test_every_other_answer_is_an_attempt(capsys, answer):
    assert printed(capsys, "2.1-double", answer).startswith("✗ 2.1-double  not yet.")


def test_a_function_is_tried_out(capsys):
    assert printed(capsys, "2.1-double", lambda x: x + x) == "✓ 2.1-double  right"


def test_an_exception_in_the_learners_function_is_a_kind_hint(capsys):
    def answer(x):
        raise IndexError("list index\nout of range")

    line = printed(capsys, "2.1-double", answer)
    assert line == (
        "✗ 2.1-double  not yet. Your answer raised IndexError: list index out of range. Hint: x and once more x."
    )


def test_an_answer_of_the_wrong_kind_is_a_hint_too(capsys):
    assert "'int' object is not callable" in printed(capsys, "2.1-double", 6)


def test_interrupting_the_kernel_is_not_swallowed():
    def answer(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        submit("2.1-double", answer)


@pytest.mark.parametrize("form", [lambda: submit("2.1-eigth", 8), lambda: hint("2.1-eigth")], ids=["submit", "hint"])
def test_an_unknown_id_names_close_ones(form):
    with pytest.raises(ValueError, match=r"close to it: 2\.1-eight"):
        form()


def test_a_hint_can_be_asked_for(capsys):
    hint("2.1-eight")
    assert capsys.readouterr().out == f"{HINT}\n"


def test_exercises_can_be_listed():
    assert {task.question for task in all_exercises().values()} == {"What is 2³?", "Write f(x) = 2x."}


@pytest.mark.parametrize("exercise_id", ["2.1-eight", "eight", "2.1", "2.1-Eight", "2.1-", "2.1-a--b"])
def test_an_id_is_well_formed_and_used_once(exercise_id):
    with pytest.raises(ValueError, match="id of its own"):
        exercise(exercise_id, question="?", hint="!")


def test_question_and_hint_are_required():
    with pytest.raises(ValueError, match="question and a hint"):
        exercise("2.1-new", question="?", hint=" ")


def test_files_beside_the_chapters_are_found(monkeypatch, tmp_path):
    monkeypatch.setattr(exercises, "_load_bank", LOAD)
    monkeypatch.setattr(exercises, "_exercises", {})
    (tmp_path / "exercises").mkdir()
    (tmp_path / "exercises" / "chapter_99.py").write_text(
        "from aigc_lib.teaching.exercises import exercise\n"
        "exercise('99.1-found', question='?', hint='!')(lambda answer: True)\n"
    )
    monkeypatch.setattr(exercises, "notebooks_dir", lambda: tmp_path)
    assert list(all_exercises()) == ["99.1-found"]
