"""The course as a whole: its chapters, a run of them in any profile, and the report of what each took and showed.

What is executed is not executed again while its notebook, the package, the data, the installed versions and the
parameters stay the same.
"""

import hashlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tqdm import tqdm

from aigc_lib.paths import data_dir
from aigc_lib.teaching.course_execution import CHECK_MARK, Chapter, Result, execute_all, read_chapter
from aigc_lib.teaching.course_report import to_html
from aigc_lib.training.devices import resolve_device


@dataclass(frozen=True, kw_only=True)
class Report:
    """The results of one run of the course."""

    profile: str
    seed: int
    device: str
    jobs: int
    minutes: float
    versions: dict[str, str]
    results: tuple[Result, ...]

    @property
    def n_passed(self) -> int:
        return sum(result.status == "passed" for result in self.results)

    @property
    def n_failed(self) -> int:
        return len(self.results) - self.n_passed


def chapters(notebooks: Path | None = None, names: Sequence[str] = ()) -> list[Chapter]:
    """The chapters in their order, or those that `names` picks by number ("2") or by name ("02_core_concepts").

    Args:
        notebooks: their folder; the repository's `notebooks` by default.

    Raises:
        FileNotFoundError: no chapters there (a wheel does not carry them).
        ValueError: a name that picks none.
    """
    folder = notebooks or data_dir().parent / "notebooks"
    paths = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        raise FileNotFoundError(f"no chapters in {folder}: they come with a clone of the repository; name their folder")
    by_name = {path.stem: path for path in paths} | {str(int(path.stem[:2])): path for path in paths}
    if unknown := [name for name in names if name not in by_name]:
        raise ValueError(f"no chapter {unknown[0]!r}; there are: {', '.join(path.stem for path in paths)}")
    picked = {by_name[name] for name in names} if names else set(paths)
    return [read_chapter(path) for path in paths if path in picked]


def run(
    names: Sequence[str] = (),
    *,
    profile: str = "laptop",
    seed: int = 0,
    device: str = "auto",
    out: Path = Path("build/course"),
    fresh: bool = False,
    jobs: int = 2,
    notebooks: Path | None = None,
) -> Report:
    """Execute chapters into `out`, with `report.html` and `report.json`; a chapter that fails does not stop the others.

    Args:
        names: see `chapters`; all by default.
        profile, seed, device: the chapters' parameters.
        fresh: execute again what is done.
        jobs: chapters at a time; the cores are shared out among their kernels. On two cores, two kernels of one thread
            are quicker than one of two threads, and much quicker where the machine has other work.

    Raises:
        FileNotFoundError, ValueError: as `chapters`.
        KeyboardInterrupt: once the kernels are stopped. What was finished is not repeated by the next call.
    """
    started, out = time.perf_counter(), out.resolve()
    parameters = {"profile": profile, "seed": seed, "device": device}
    selected, common = chapters(notebooks, names), _common_key(parameters)
    out.mkdir(parents=True, exist_ok=True)
    keys = {c.name: hashlib.sha256(common.encode() + c.path.read_bytes()).hexdigest() for c in selected}
    results = {} if fresh else {c.name: found for c in selected if (found := _earlier(out, c, keys[c.name]))}
    for name in results:
        tqdm.write(f"· {name}: already done")
    for chapter, result in execute_all([c for c in selected if c.name not in results], out, parameters, jobs):
        results[chapter.name] = replace(result, key=keys[chapter.name])
        _write(_record(out, chapter), json.dumps(asdict(results[chapter.name]), ensure_ascii=False))
        tqdm.write(_line(result))
    place = f"{resolve_device(device)}, {os.cpu_count()} cores"
    report = Report(
        **parameters | {"device": place},
        jobs=jobs,
        minutes=round((time.perf_counter() - started) / 60, 2),
        versions={"python": sys.version.split()[0]} | {p: importlib.metadata.version(p) for p in ("aigc-lib", "torch")},
        results=tuple(results[chapter.name] for chapter in selected),
    )
    _write(out / "report.json", json.dumps(asdict(report), ensure_ascii=False, indent=1))
    _write(out / "report.html", to_html(report))
    return report


def _line(result: Result) -> str:
    if result.status == "failed":
        return f"✗ {result.chapter}: cell {result.cell or '(none)'}: {result.error}"
    figures = f"{result.minutes:.1f} min, {result.peak_memory_gb:.1f} GB, {result.checks} checks"
    return f"{CHECK_MARK} {result.chapter}: {figures}"


def _common_key(parameters: dict[str, object]) -> str:
    """A digest of all that every chapter depends on: package, data, exercises, installed versions, parameters."""
    digest = hashlib.sha256(json.dumps([parameters, sys.version]).encode())
    exercises = data_dir().parent / "notebooks" / "exercises"
    for root, pattern in [(Path(__file__).parent.parent, "*.py"), (data_dir(), "*"), (exercises, "*.py")]:
        for path in sorted(root.rglob(pattern)):
            if path.is_file():
                digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    digest.update(str(sorted(f"{d.name} {d.version}" for d in importlib.metadata.distributions())).encode())
    return digest.hexdigest()


def _record(out: Path, chapter: Chapter) -> Path:
    return out / f"{chapter.name}.json"


def _earlier(out: Path, chapter: Chapter, key: str) -> Result | None:
    """The result of an earlier run, if it passed and nothing that it depends on has changed since."""
    try:
        result = Result(**json.loads(_record(out, chapter).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # there is none, or it is cut off or another version's
        return None
    executed = (out / chapter.path.name).is_file()
    return result if executed and result.key == key and result.status == "passed" else None


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
