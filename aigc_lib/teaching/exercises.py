"""Exercises that check themselves: a wrong answer gets a hint, never the solution, and never breaks a notebook.

An exercise is a checker in `notebooks/exercises/chapter_NN.py`:

    @exercise("4.1-saturation", question="At which logit is …?", hint="Take the derivative of log(1 − σ(a)) first.")
    def saturation(answer) -> bool:
        return math.isclose(answer, …)

and one cell of the chapter: `answer = ...` and `submit("4.1-saturation", answer)`.
"""

import dis
import re
import runpy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from types import FunctionType, MappingProxyType
from typing import Any

from aigc_lib.paths import notebooks_dir
from aigc_lib.teaching import values

_ID = re.compile(r"\d+(\.\d+)*-[a-z0-9]+(-[a-z0-9]+)*")

_exercises: dict[str, "Exercise"] = {}
_passed: set[str] = set()


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """A question with its checker.

    `is_right` gets the learner's answer, a value or a function; it returns whether it is right, or raises.
    """

    exercise_id: str
    question: str
    hint: str
    is_right: Callable[[Any], bool]


def exercise(exercise_id: str, *, question: str, hint: str) -> Callable:
    """Register the decorated checker as an exercise.

    Args:
        exercise_id: number of the section and a name, "4.1-optimal-discriminator".
        question: what is asked, as in the chapter.
        hint: where to look next; it must not contain the answer.

    Raises:
        ValueError: the id is taken or malformed, or a text is empty.
    """
    if not _ID.fullmatch(exercise_id) or exercise_id in _exercises:
        raise ValueError(f'an exercise needs an id of its own like "4.1-optimal-discriminator", got {exercise_id!r}')
    if not question.strip() or not hint.strip():
        raise ValueError(f"exercise {exercise_id} needs a question and a hint")

    def register(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
        _exercises[exercise_id] = Exercise(exercise_id=exercise_id, question=question, hint=hint, is_right=is_right)
        return is_right

    return register


def submit(exercise_id: str, answer: Any) -> None:
    """Check an answer and print one line: right, a hint, or "not attempted yet".

    `...`, None, and a function without a body count as not attempted. An exception in the learner's function is part
    of the hint.

    Raises:
        ValueError: there is no such exercise. Never for a wrong answer.
    """
    task = _find(exercise_id)
    if _is_blank(answer):
        print(f"○ {exercise_id}  not attempted yet")
        return
    try:
        right, trouble = bool(task.is_right(answer)), ""
    except Exception as error:
        text = values.short(" ".join(f"{type(error).__name__}: {error}".split()))
        right, trouble = False, f"Your answer raised {text}. "
    if right:
        _passed.add(exercise_id)
        print(f"✓ {exercise_id}  right")
    else:
        print(f"✗ {exercise_id}  not yet. {trouble}Hint: {task.hint}")


def hint(exercise_id: str) -> None:
    """Print the hint of an exercise. Raises ValueError if there is no such exercise."""
    print(_find(exercise_id).hint)


def all_exercises() -> Mapping[str, Exercise]:
    """Every exercise of the bank, by id."""
    _load_bank()
    return MappingProxyType(_exercises)


def results() -> frozenset[str]:
    """The ids of the exercises that were answered rightly in this process."""
    return frozenset(_passed)


@cache
def _load_bank() -> None:
    for path in sorted((notebooks_dir() / "exercises").glob("chapter_*.py")):
        runpy.run_path(str(path))


def _find(exercise_id: str) -> Exercise:
    known = all_exercises()
    if exercise_id not in known:
        close = get_close_matches(exercise_id, known, cutoff=0.4)
        raise ValueError(f"there is no exercise {exercise_id!r}; close to it: {', '.join(close) or 'none'}")
    return known[exercise_id]


def _is_blank(answer: Any) -> bool:
    if not isinstance(answer, FunctionType):
        return answer is None or answer is ...
    steps = [step for step in dis.get_instructions(answer) if step.opname not in ("RESUME", "NOP")]
    return len(steps) <= 2 and steps[0].argval is None  # it only returns None
