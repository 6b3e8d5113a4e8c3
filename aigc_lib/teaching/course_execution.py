"""Executes chapters with papermill, each in a process that watches the memory of its kernel."""

import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

try:
    import papermill
    import psutil
    from papermill.iorw import load_notebook_node
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"running chapters needs {error.name}: pip install 'aigc-lib[course]'") from error
from tqdm import tqdm

PARAMETERS = {"profile", "seed", "device"}
CELL_TIMEOUT = 1800  # seconds, for a kernel that answers no more; the slowest cell takes 20 on an idle machine
CHECK_MARK = "✓"  # how every passed check of `teaching.checks` and `teaching.exercises` begins its line
REFUTED_MARK = "✗ refuted"  # a check as well: it passes because the printed version fails


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """A notebook of the course."""

    path: Path
    title: str  # its first heading
    n_cells: int  # code cells

    @property
    def name(self) -> str:
        return self.path.stem


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of executing a chapter."""

    chapter: str
    title: str
    status: str  # "passed" or "failed"
    minutes: float = 0.0
    peak_memory_gb: float = 0.0  # of the kernel and its children, resident
    checks: int = 0  # that passed
    cell: str = ""  # id of the cell that failed
    error: str = ""
    key: str = field(default="", repr=False)  # a digest of all that the result depends on


def read_chapter(path: Path) -> Chapter:
    """The chapter that a notebook holds."""
    cells = load_notebook_node(str(path)).cells
    headings = (re.match(r"# (.+)", cell.source) for cell in cells if cell.cell_type == "markdown")
    title = next((heading[1].strip() for heading in headings if heading), path.stem)
    return Chapter(path=path, title=title, n_cells=sum(c.cell_type == "code" and bool(c.source.strip()) for c in cells))


def execute_all(
    chapters: Sequence[Chapter], out: Path, parameters: dict[str, object], jobs: int
) -> Iterator[tuple[Chapter, Result]]:
    """Execute chapters into `out`, `jobs` at a time; yields each when it is finished.

    Shows one progress bar over all their cells. A chapter that fails is a result like any other. Ctrl-C, or closing
    the iterator, ends the kernels at once.
    """
    context = multiprocessing.get_context("spawn")
    cells = context.Queue()  # the name of the chapter, once for each cell that begins
    bar = tqdm(total=sum(chapter.n_cells for chapter in chapters), unit="cell", disable=None)  # None: in terminals only
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(cells, jobs))
    with bar, pool:
        try:
            with _interrupts_ignored():  # the workers inherit it and leave it to us what Ctrl-C does
                pending = {pool.submit(execute, chapter, out, parameters): chapter for chapter in chapters}
            while pending:
                finished, _ = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
                while not cells.empty():
                    bar.set_description(cells.get())
                    bar.update()
                for future in finished:
                    chapter = pending.pop(future)
                    yield chapter, _outcome(future, chapter)
        except BaseException:
            _kill(set(multiprocessing.active_children()) - others)
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _kill(workers: Iterable[multiprocessing.Process]) -> None:
    """End processes and all that they started: a kernel would go on for as long as its cell takes."""
    for worker in workers:
        with suppress(psutil.NoSuchProcess):
            for process in [*psutil.Process(worker.pid).children(recursive=True), worker]:
                process.kill()


def _outcome(future: "Future[Result]", chapter: Chapter) -> Result:
    try:
        return future.result()
    except BrokenProcessPool:
        error = "the process that ran it was killed; is there enough memory?"
        return Result(chapter=chapter.name, title=chapter.title, status="failed", error=error)


_cells: Queue | None = None  # in a worker process: where to tell of each cell that begins


def _start_worker(cells: Queue, jobs: int) -> None:
    global _cells
    _cells = cells
    if jobs > 1:  # kernels that each take all cores slow one another down, tenfold when threads have to wait
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))


def execute(chapter: Chapter, out: Path, parameters: dict[str, object]) -> Result:
    """Execute one chapter into the folder `out`. Whatever goes wrong in it becomes a result."""
    executed, started = out / chapter.path.name, time.perf_counter()
    cell = error = current = ""

    def begin(cell: Any, cell_index: int) -> None:
        nonlocal current
        current = cell.get("id", str(cell_index))
        if _cells is not None and "injected-parameters" not in cell.metadata.get("tags", []):  # papermill's, not ours
            _cells.put(chapter.name)

    with PeakMemory() as memory:
        try:
            _execute_notebook(chapter.path, executed, parameters, begin)
        except papermill.PapermillExecutionError as failure:
            cell, error = current, f"{failure.ename}: {failure.evalue}"
        except Exception as failure:  # a cell that takes too long, a kernel that died, a notebook that is none
            cell, error = current, f"{type(failure).__name__}: {failure}"
    return Result(
        chapter=chapter.name,
        title=chapter.title,
        status="failed" if error else "passed",
        minutes=round((time.perf_counter() - started) / 60, 2),
        peak_memory_gb=round(memory.peak / 1e9, 2),
        checks=count_checks(executed),
        cell=cell,
        error=error.strip().split("\n")[0],
    )


def _execute_notebook(path: Path, executed: Path, parameters: dict[str, object], begin: Callable[..., None]) -> None:
    executed.unlink(missing_ok=True)  # what an earlier run left must not be taken for this one's
    declared = set(papermill.inspect_notebook(str(path)))
    if declared != PARAMETERS:  # papermill itself only warns
        wanted, found = (", ".join(sorted(names)) or "nothing" for names in (PARAMETERS, declared))
        raise ValueError(f"its parameters cell must set {wanted}; it sets {found}")
    papermill.execute_notebook(
        path,
        executed,
        parameters,
        cwd=path.parent,  # as JupyterLab and nbval do
        progress_bar=False,
        execution_timeout=CELL_TIMEOUT,
        on_cell_execute=begin,
        extra_arguments=["--log-level=CRITICAL"],  # the kernel's own; an error in a cell is seen all the same
    )


def count_checks(notebook: Path) -> int:
    """How many lines of a notebook's text outputs say that a check passed; 0 if there is no notebook."""
    if not notebook.is_file():
        return 0
    outputs = [out for cell in load_notebook_node(str(notebook)).cells for out in cell.get("outputs", [])]
    texts = [out.get("text", "") or out.get("data", {}).get("text/plain", "") for out in outputs]
    return sum(line.startswith((CHECK_MARK, REFUTED_MARK)) for text in texts for line in text.splitlines())


class PeakMemory:
    """Watches how much resident memory the children of this process take together: `peak`, in bytes."""

    def __init__(self, interval: float = 0.1) -> None:
        self.peak, self.interval = 0, interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        here = psutil.Process()
        while not self._stop.wait(self.interval):
            self.peak = max(self.peak, sum(map(_resident, here.children(recursive=True))))


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:  # it has ended meanwhile
        return 0
