"""What a reader has answered in the self-test, kept in one file of their own."""

import datetime
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from aigc_lib import paths

_FORMAT = "aigc-quiz-progress-1"


class Progress:
    """Answers on disk, in `quiz.json` of a folder: `AIGC_USER_DATA`, or where the system keeps a user's data.

    Reading writes nothing, so a notebook that is executed without a reader leaves no trace. A file that is damaged or
    not ours is never overwritten: the first answer moves it to `quiz.json.bak` (or .bak1, .bak2, …), and `trouble`
    says so. Answers of questions that no longer exist stay.

    Args:
        folder: another place.
    """

    def __init__(self, folder: Path | str | None = None):
        self.path = Path(folder or paths.user_data_dir()) / "quiz.json"
        self._answers, self.trouble = self._read()

    @property
    def right(self) -> frozenset[str]:
        """The ids of the questions whose last answer was right."""
        return frozenset(name for name, answer in self._answers.items() if answer["right"])

    @property
    def n_answered(self) -> int:
        return len(self._answers)

    def keep(self, question_id: str, answer: float, right: bool) -> str:
        """Store an answer; returns a sentence if it could not be stored, else an empty text. Never raises OSError."""
        found, trouble = self._read()  # another window may have written meanwhile
        tries = found.get(question_id, self._answers.get(question_id, {})).get("tries", 0) + 1
        when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._answers |= found | {question_id: {"answer": answer, "right": right, "tries": tries, "when": when}}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if trouble and self.path.exists():
                os.replace(self.path, self._free_backup())
            self._write({"format": _FORMAT, "answers": self._answers})
        except OSError as error:
            self.trouble = f"Your answers are not kept: {self.path} cannot be written ({error.strerror})."
            return self.trouble
        self.trouble = ""
        return ""

    def _read(self) -> tuple[dict[str, Any], str]:
        """The answers in the file and "", or none and what is wrong with it."""
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            if content["format"] != _FORMAT:
                raise ValueError("another format")
            return {
                str(name): dict(answer, right=bool(answer["right"])) for name, answer in content["answers"].items()
            }, ""
        except FileNotFoundError:
            return {}, ""
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            kind = f"{type(error).__name__}: {error}"
            return {}, (
                f"{self.path} is no file of answers of this course ({kind}). It will be kept as "
                f"{self._free_backup().name}, and you begin anew."
            )

    def _free_backup(self) -> Path:
        names = (self.path.with_name(f"quiz.json.bak{number or ''}") for number in range(10_000))
        return next(name for name in names if not name.exists())

    def _write(self, content: dict[str, Any]) -> None:
        """Whole or not at all: a temporary file beside it, then a rename."""
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".quiz-", suffix=".json")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(content, file, ensure_ascii=False, indent=1, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
