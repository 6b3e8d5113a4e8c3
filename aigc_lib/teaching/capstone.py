"""The capstone: a folder with one's own trained generator of pictures, and a grader that recomputes what it claims.

    capstone.yaml        claim, data, training, model, metric: what the grader holds against the files
    run/                 as `aigc train … --out FOLDER/run` leaves it, or one's own: last.safetensors and log.jsonl
    samples/*.png        what the model made, each with Content Credentials that name the model's digest
    notebook.ipynb       executed: a derivation with checks, and a refutation
    report.md            claim, data, method, results, failures, limits
    failures/*.png       what did not work

The grader only reads. It runs nothing of the learner's: no code, no notebook, no pickle; YAML without objects, weights
from safetensors alone, pictures of a size known beforehand, no file outside the folder, none larger than `MAX_BYTES`.
So it cannot know whether a notebook's outputs were typed or a log invented: whoever gives a mark on it runs both again.
"""

import json
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError

from aigc_lib.teaching.capstone_rubric import RUBRIC, SECTIONS, Project
from aigc_lib.training.checkpoints import digest_of_file

__all__ = ["Grade", "Result", "grade", "measure", "new"]


class Result(NamedTuple):
    """One criterion: points earned of how many, and for those lost what was expected, what came and what to do."""

    criterion: str
    points: int
    of: int
    faults: tuple[str, ...]

    @property
    def level(self) -> str:
        return "full" if self.points == self.of else "part" if self.points else "none"


class Grade(NamedTuple):
    """All results, in the rubric's order. Its text is the report that `aigc capstone grade` prints."""

    results: tuple[Result, ...]

    @property
    def points(self) -> int:
        return sum(result.points for result in self.results)

    def __str__(self) -> str:
        lines = []
        for r in self.results:
            lines.append(f"{r.criterion:<13} {r.points:>3} of {r.of:>2}  {r.level}")
            lines += [f"    {fault}" for fault in r.faults]
        return "\n".join([*lines, f"{'together':<13} {self.points:>3} of {sum(r.of for r in self.results)}"])


def grade(folder: Path | str) -> Grade:
    """Judge a capstone folder by the rubric. Nothing in it is executed, and nothing is written.

    Raises:
        FileNotFoundError: there is no such folder.
        ModuleNotFoundError: a package that the grader needs is not installed.
    """
    project = _project(folder)
    return Grade(tuple(_judged(project, name) for name in RUBRIC))


def measure(folder: Path | str) -> dict[str, float | int | str]:
    """What the grader will find, for the entries of capstone.yaml: value, baseline_value, memorised and sha256.

    Needs data.name, metric.name and metric.baseline in capstone.yaml, run/last.safetensors and samples/.

    Raises:
        ValueError: one of these is missing or unknown; FileNotFoundError: no such folder.
    """
    project = _project(folder)
    return {
        "value": project.value,
        "baseline_value": project.baseline,
        "memorised": project.n_memorised,
        "sha256": digest_of_file(project.file("run/last.safetensors")),
    }


def new(folder: Path | str) -> list[Path]:
    """Begin a capstone: a folder with capstone.yaml, report.md and notebook.ipynb to fill in; returns these files.

    Raises:
        ValueError: there is something in the folder already.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty; choose another name, nothing is overwritten")
    contents = {
        "capstone.yaml": _PLAN,
        "report.md": "# TODO\n" + "".join(f"\n## {section}\n" for section in SECTIONS),
        "notebook.ipynb": json.dumps(_NOTEBOOK, indent=1) + "\n",
    }
    for name in ("run", "samples", "failures"):
        (folder / name).mkdir(parents=True)
    for name, text in contents.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in contents]


def _project(folder: Path | str) -> Project:
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"no folder {folder}; `aigc capstone new {folder}` makes one")
    return Project(Path(folder))


def _judged(project: Project, name: str) -> Result:
    of, criterion = RUBRIC[name]
    points, faults = 0, []
    try:
        for worth, earned, fault in criterion(project):
            points += worth if earned else 0
            faults += [] if earned else [fault]
    except (
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        OSError,
        SafetensorError,
        RecursionError,
    ) as error:
        # Whatever a learner's file holds costs points and never stops the grader.
        plain = isinstance(error, ValueError) and type(error) is ValueError
        faults.append(
            str(error) if plain else f"{name}: a file is not what was expected ({type(error).__name__}: {error})"
        )
    return Result(name, points, of, tuple(faults))


_PLAN = """\
# What the grader holds against the files beside it. Replace every TODO; `aigc capstone grade .` says what is missing.
claim: TODO  # one sentence with a number that can turn out wrong
data:
  name: digits  # or emoji, avatars
  licence: TODO  # as `aigc data list` has it
  digest: TODO  # as data/datasets.toml has it
training:
  command: TODO  # such as: aigc train vae-digits --steps 200 --seed 3 --out run
  falls: TODO  # the quantity in run/log.jsonl that is to fall
model:
  sha256: TODO  # of run/last.safetensors; aigc_lib.teaching.capstone.measure gives it and the three below
metric:
  name: Fréchet distance  # or precision, recall
  value: TODO
  baseline: mean  # or pixels
  baseline_value: TODO
  memorised: TODO  # how many samples are copies of training pictures
"""
_NOTEBOOK = {
    "cells": [
        {
            "cell_type": "markdown",
            "id": "derivation",
            "metadata": {},
            "source": ["Derive one formula that the model rests on; check it, and refute what is false."],
        },
        {
            "cell_type": "code",
            "execution_count": None,
            "id": "checks",
            "metadata": {},
            "outputs": [],
            "source": ["from aigc_lib.teaching import check, check_true, refute"],
        },
    ],
    "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}
