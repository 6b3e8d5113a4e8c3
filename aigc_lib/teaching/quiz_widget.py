"""The self-test in a notebook: ipywidgets without an Output widget, usable by keyboard."""

import re
from collections.abc import Sequence
from html import escape

import ipywidgets

from aigc_lib.teaching.quiz import LETTERS, Question, grade, order, text
from aigc_lib.teaching.quiz_progress import Progress


class SelfTest:
    """The questions one by one, for a notebook: a list to choose from, letters or a number to answer, two buttons.

    Everything can be reached and used by keyboard. What was answered is kept in `progress`.
    """

    def __init__(self, questions: Sequence[Question], progress: Progress, seed: int = 0):
        self.questions, self.progress, self.seed = list(questions), progress, seed
        wide = {"style": {"description_width": "initial"}}
        labels = [(f"{i} · chapter {each.chapter}", i - 1) for i, each in enumerate(self.questions, 1)]
        self.chooser = ipywidgets.Dropdown(options=labels, description="Question", **wide)
        self.status, self.body, self.feedback = ipywidgets.HTML(), ipywidgets.HTMLMath(), ipywidgets.HTMLMath()
        self.letter = ipywidgets.RadioButtons(description="Answer", **wide)
        self.number = ipywidgets.FloatText(description="Answer", **wide)
        self.check = ipywidgets.Button(description="Check", tooltip="Grade this answer and keep it")
        self.next = ipywidgets.Button(description="Next open question", layout=ipywidgets.Layout(width="auto"))
        self.check.on_click(lambda _: self.answer())
        self.next.on_click(lambda _: self.go_on())
        self.chooser.observe(lambda _: self._show(), names="value")
        self._show()
        answers = [self.letter, self.number, ipywidgets.HBox([self.check, self.next])]
        self.box = ipywidgets.VBox([self.chooser, self.status, self.body, *answers, self.feedback])

    @property
    def question(self) -> Question:
        return self.questions[self.chooser.value]

    def answer(self) -> None:
        """Grade what is chosen or typed, keep it, and explain."""
        question = self.question
        if question.options and self.letter.value is None:
            self.feedback.value = '<p role="status">Choose an answer first.</p>'
            return
        given = order(question, self.seed)[LETTERS.index(self.letter.value)] if question.options else self.number.value
        verdict = grade(question, given)
        trouble = self.progress.keep(question.question_id, given, verdict.right)
        says = f"<b>{'Right' if verdict.right else 'Not yet'}.</b> "
        explained = _html(verdict.why) if verdict.right or question.options else "Look it up where it is taught."
        self.feedback.value = f'<div role="status">{says}{explained} {escape(trouble)}</div>'
        self._count()

    def go_on(self) -> None:
        """To the next question that was not answered rightly yet, round the end."""
        here, right = self.chooser.value, self.progress.right
        later = [*range(here + 1, len(self.questions)), *range(here)]
        self.chooser.value = next((i for i in later if self.questions[i].question_id not in right), here)

    def _count(self) -> None:
        right = {each.question_id for each in self.questions} & self.progress.right
        mark = ", this one too" if self.question.question_id in right else ""
        self.status.value = f'<p role="status">{len(right)} of {len(self.questions)} are right{mark}.</p>'

    def _show(self) -> None:
        question = self.question
        self._count()
        self.body.value = _html(text(question, self.seed))
        self.letter.options = list(LETTERS[: len(question.options)])
        self.letter.value, self.number.value, self.feedback.value = None, 0.0, escape(self.progress.trouble)
        self.letter.layout.display = "" if question.options else "none"
        self.number.layout.display = "none" if question.options else ""


def _html(markdown: str) -> str:
    """The little Markdown that questions use (code, emphasis, lists) as HTML; formulas stay for MathJax."""
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(markdown.strip(), quote=False))
    html = re.sub(r"\*([^*\s][^*]*)\*", r"<em>\1</em>", html)
    return html.replace("\n- ", "<br>").replace("\n\n", "<br>")
