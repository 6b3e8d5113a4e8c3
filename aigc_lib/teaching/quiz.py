"""The self-test: forty questions from `data/quiz.yaml`, with every option explained, as text or in a terminal.

A question is multiple choice or numeric. `quiz_progress` keeps the answers, `quiz_widget` asks in a notebook;
`tests/teaching/test_quiz.py` recomputes the truths.
"""

import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from IPython.display import display

from aigc_lib import paths
from aigc_lib.teaching import yaml_files
from aigc_lib.teaching.quiz_progress import Progress

LETTERS = "ABCDEF"
_ID = re.compile(r"\d+-[a-z0-9]+(-[a-z0-9]+)*")
_LOCATION = re.compile(r"\d\d_[a-z_]+#[a-z0-9-]+")
_COMMON = {"id", "question", "taught"}
_KINDS = (_COMMON | {"options"}, _COMMON | {"value", "tolerance", "unit", "why"})


class Option(NamedTuple):
    text: str
    why: str
    right: bool


class Verdict(NamedTuple):
    right: bool
    why: str


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question in Markdown with LaTeX: either `options`, one of them right, or a `value` in a `unit`.

    A number is right if it is within `tolerance` of `value`, a share of it (absolute if the value is 0). `taught` is
    the cell that teaches the matter, as 04_mathematics#gan-loss.
    """

    question_id: str
    question: str
    taught: str
    options: tuple[Option, ...] = ()
    value: float = math.nan
    tolerance: float = math.nan
    unit: str = ""
    why: str = ""

    @property
    def chapter(self) -> int:
        return int(self.question_id.partition("-")[0])

    @property
    def link(self) -> str:
        """To the cell: JupyterLab and nbconvert's pages both understand `#cell-id=`, headings with Chinese neither."""
        name, _, cell = self.taught.partition("#")
        return f"{name}.ipynb#cell-id={cell}"

    @property
    def truth(self) -> str:
        """The right answer in words, with its reason."""
        if self.options:
            return next(f"{option.text} {option.why}" for option in self.options if option.right)
        return f"{self.value:g} {self.unit}".rstrip() + f". {self.why}"


def load(path: Path | None = None) -> tuple[Question, ...]:
    """All questions in the order of the file.

    Raises:
        ValueError: the file or a question is malformed; the message names the question.
    """
    path = path or paths.data_dir() / "quiz.yaml"
    questions = tuple(map(_question, yaml_files.entries(path, "questions")))
    ids = [question.question_id for question in questions]
    if len(set(ids)) != len(ids):
        raise ValueError(f"an id is there twice: {sorted({each for each in ids if ids.count(each) > 1})}")
    return questions


def _question(entry: Any) -> Question:
    if not isinstance(entry, dict) or set(entry) not in _KINDS:
        raise ValueError(f"a question needs {sorted(_KINDS[0])} or {sorted(_KINDS[1])}, got {entry!r:.200}")
    name = entry["id"]
    if not isinstance(name, str) or not _ID.fullmatch(name) or not 1 <= int(name.partition("-")[0]) <= 10:
        raise ValueError(f'an id has to be a chapter and a name, "4-optimal-discriminator", got {name!r}')
    if not _LOCATION.fullmatch(str(entry["taught"])):
        raise ValueError(f"question {name}: taught has to be a cell like 04_mathematics#gan-loss")
    common = {"question_id": name, "question": entry["question"], "taught": entry["taught"]}
    if "options" in entry:
        options = tuple(Option(each["text"], each["why"], each.get("right", False)) for each in entry["options"])
        texts = [text for option in options for text in option[:2]]
        if not 3 <= len(options) <= len(LETTERS) or [option.right for option in options].count(True) != 1:
            raise ValueError(f"question {name}: needs 3 to {len(LETTERS)} options, exactly one of them right")
        if len({option.text for option in options}) != len(options):
            raise ValueError(f"question {name}: two options are the same")
        question = Question(**common, options=options)
    else:
        value, tolerance = (float(entry[field]) for field in ("value", "tolerance"))
        if not math.isfinite(value) or not 0 <= tolerance < 0.5:
            raise ValueError(f"question {name}: value has to be finite, tolerance a share below 0.5")
        texts = [entry["why"]]
        question = Question(**common, value=value, tolerance=tolerance, unit=entry["unit"], why=entry["why"])
    if not all(isinstance(text, str) and text.strip() for text in [entry["question"], *texts]):
        raise ValueError(f"question {name}: every text and every explanation has to be there")
    return question


def grade(question: Question, answer: float) -> Verdict:
    """Whether an answer is right, and why.

    Args:
        answer: for multiple choice the index of the option in `question.options`; otherwise the number.

    Raises:
        ValueError: there is no such option, or the number is not finite.
    """
    if not question.options:
        if not math.isfinite(answer):
            raise ValueError(f"the answer has to be a number, got {answer}")
        bound = question.tolerance * (abs(question.value) or 1.0)
        return Verdict(abs(answer - question.value) <= bound + 1e-12, question.why)
    if answer not in range(len(question.options)):
        raise ValueError(f"there are options 0 to {len(question.options) - 1}, got {answer}")
    chosen = question.options[int(answer)]
    return Verdict(chosen.right, chosen.why)


def order(question: Question, seed: int) -> list[int]:
    """The options' indices in the order to show: shuffled, but the same for the same seed on every machine."""
    return random.Random(f"{seed} {question.question_id}").sample(range(len(question.options)), len(question.options))


def text(question: Question, seed: int = 0) -> str:
    """The question and its lettered options as Markdown, without the answer."""
    lines = [f"- {LETTERS[k]}. {question.options[i].text}" for k, i in enumerate(order(question, seed))]
    asked = "\n".join(lines) or f"*Answer with a number{' in ' + question.unit if question.unit else ''}.*"
    return f"{question.question.strip()}\n\n{asked}"


def show_list(questions: Sequence[Question], seed: int = 0) -> None:
    """Display all questions as text, each with its answer folded away and a link to where it is taught."""
    parts = []
    for number, question in enumerate(questions, 1):
        parts.append(
            f"**{number}.** {text(question, seed)}\n\n<details><summary>Answer</summary>\n\n{question.truth.strip()} "
            f"[Taught in chapter {question.chapter}.]({question.link})\n\n</details>"
        )
    plain = f"{len(questions)} questions"
    display({"text/markdown": "\n\n".join(parts), "text/plain": plain}, raw=True)


def ask_in_terminal(
    questions: Sequence[Question],
    progress: Progress,
    *,
    seed: int = 0,
    ask: Callable[[str], str] = input,
    say: Callable[[str], None] = print,
) -> int:
    """Ask what is not answered rightly yet; an empty answer skips, q stops. Returns how many are right."""
    if progress.trouble:
        say(progress.trouble)
    for question in (each for each in questions if each.question_id not in progress.right):
        say(f"\n{question.question_id}\n{text(question, seed)}")
        try:
            reply = ask("> ").strip()
        except EOFError:  # Ctrl-D, or nobody is there
            reply = "q"
        if reply.lower() == "q":
            break
        given = _understood(question, reply, seed)
        if given is not None:
            verdict = grade(question, given)
            say(
                f"{'Right' if verdict.right else 'Not yet'}. {verdict.why if verdict.right or question.options else ''}"
            )
            say(progress.keep(question.question_id, given, verdict.right) or f"Taught in {question.taught}.")
        elif reply:
            say("That is none of the letters." if question.options else "That is not a number.")
    n_right = sum(each.question_id in progress.right for each in questions)
    say(f"{n_right} of {len(questions)} are right.")
    return n_right


def _understood(question: Question, reply: str, seed: int) -> float | None:
    letters = LETTERS[: len(question.options)]
    if question.options:
        found = len(reply) == 1 and reply.upper() in letters
        return order(question, seed)[letters.index(reply.upper())] if found else None
    try:
        number = float(reply.replace(",", "."))
    except ValueError:
        return None
    return number if math.isfinite(number) else None
