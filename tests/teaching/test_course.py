"""The course runner, on notebooks of a few cells that real kernels execute."""

import json
import os
import time

import psutil
import pytest

from aigc_lib.teaching import course, course_execution
from tests.notebooks import build


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("note books")  # with a space
    build.write(
        folder,
        "01_one",
        build.code('print("✓ 1.1 profile and seed", profile, seed, device)', "check"),
        build.code("block = bytearray(300_000_000); import time; time.sleep(0.5)", "memory"),
        build.code('print("✗ refuted 1.2 a check\\nno check ✓\\n✗ 1.2-an-exercise  not yet.")', "another-check"),
    )
    build.write(folder, "02_two", build.code("print('✓ 2.1 before')", "before"), build.code("1 / 0", "division"))
    build.write(folder, "03_three").write_text(
        (folder / "03_three.ipynb").read_text().replace('device = \\"auto\\"', 'other = \\"auto\\"')
    )
    return folder


@pytest.fixture(scope="module")
def first_run(notebooks, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return out, course.run(profile="smoke", seed=3, device="cpu", out=out, notebooks=notebooks, jobs=2)


def test_parameters_reach_the_chapter_and_its_checks_are_counted(first_run):
    out, report = first_run
    assert report.results[0].status == "passed"
    assert report.results[0].checks == 2  # of the lines that hold the mark, those that begin with it
    executed = json.loads((out / "01_one.ipynb").read_text())
    printed = [output["text"] for cell in executed["cells"] for output in cell.get("outputs", [])]
    assert printed[0] == ["✓ 1.1 profile and seed smoke 3 cpu\n"]


def test_memory_of_the_kernel_is_measured(first_run):
    _, report = first_run
    assert 0.3 < report.results[0].peak_memory_gb < 1


def test_a_failing_chapter_names_cell_and_error_and_does_not_stop_the_others(first_run):
    _, report = first_run
    assert (report.n_passed, report.n_failed) == (1, 2)
    assert report.results[1].status == "failed"
    assert report.results[1].cell == "division"
    assert report.results[1].error == "ZeroDivisionError: division by zero"
    assert report.results[1].checks == 1


def test_unknown_parameters_are_an_error(first_run):
    _, report = first_run
    assert report.results[2].error == (
        "ValueError: its parameters cell must set device, profile, seed; it sets other, profile, seed"
    )


def test_the_report_is_written_as_json_and_html(first_run):
    out, _ = first_run
    stored = json.loads((out / "report.json").read_text())
    assert [result["checks"] for result in stored["results"]] == [2, 1, 0]
    assert stored["profile"] == "smoke"
    assert stored["device"] == f"cpu, {os.cpu_count()} cores"
    page = (out / "report.html").read_text()
    assert "1 of 3 chapters passed" in page
    assert "A title (标题)" in page
    assert "ZeroDivisionError: division by zero" in page


def test_what_passed_is_not_executed_again_and_what_failed_is(first_run, notebooks, monkeypatch):
    out, first = first_run
    executed = []
    monkeypatch.setattr(course, "execute_all", lambda todo, *_: executed.extend(c.name for c in todo) or pretend(todo))
    options = {"profile": "smoke", "seed": 3, "device": "cpu", "out": out, "notebooks": notebooks}
    again = course.run(**options)
    assert executed == ["02_two", "03_three"]
    assert again.results[0] == first.results[0]


@pytest.mark.parametrize("change", [{"seed": 4}, {"profile": "laptop"}, {"fresh": True}])
def test_another_seed_or_profile_or_a_wish_executes_again(first_run, notebooks, monkeypatch, change):
    out, _ = first_run
    executed = []
    monkeypatch.setattr(course, "execute_all", lambda todo, *_: executed.extend(c.name for c in todo) or pretend(todo))
    monkeypatch.setattr(course, "_write", lambda *_: None)
    course.run(["1"], **{"profile": "smoke", "seed": 3, "device": "cpu", "out": out, "notebooks": notebooks} | change)
    assert executed == ["01_one"]


def test_a_changed_notebook_package_or_data_file_is_executed_again(tmp_path, monkeypatch):
    build.write(tmp_path, "01_one")
    monkeypatch.setattr(course, "data_dir", lambda: tmp_path / "data")
    (tmp_path / "data").mkdir()
    executed = []
    monkeypatch.setattr(course, "execute_all", lambda todo, *_: executed.append(len(todo)) or pretend(todo))

    def run():
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / "01_one.ipynb").touch()
        course.run(out=tmp_path / "out", notebooks=tmp_path)
        return executed[-1]

    assert [run(), run()] == [1, 0]
    build.write(tmp_path, "01_one", build.code("1"))
    assert [run(), run()] == [1, 0]
    (tmp_path / "data" / "datasets.toml").write_text("new")
    assert [run(), run()] == [1, 0]
    monkeypatch.setattr(course.importlib.metadata, "distributions", list)  # other versions installed
    assert run() == 1


def pretend(todo):
    """What `execute_all` yields, without a kernel."""
    return [(c, course_execution.Result(chapter=c.name, title=c.title, status="passed")) for c in todo]


def test_stopping_ends_the_kernels_at_once(tmp_path):
    pid = tmp_path / "pid"
    wait = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    chapters = [
        course_execution.read_chapter(build.write(tmp_path, "01_quick")),
        course_execution.read_chapter(build.write(tmp_path, "02_endless", build.code(wait))),
    ]
    parameters = {"profile": "smoke", "seed": 0, "device": "cpu"}
    (tmp_path / "out").mkdir()
    running = course_execution.execute_all(chapters, tmp_path / "out", parameters, 2)
    assert next(running)[1].status == "passed"
    while not (pid.exists() and pid.read_text()):
        time.sleep(0.05)
    kernel = psutil.Process(int(pid.read_text()))
    running.close()
    kernel.wait(timeout=30)
    assert not kernel.is_running() or kernel.status() == psutil.STATUS_ZOMBIE


def test_a_dead_kernel_and_a_cell_without_end_are_failures_of_their_cell(tmp_path, monkeypatch):
    monkeypatch.setattr(course_execution, "CELL_TIMEOUT", 2)
    parameters = {"profile": "smoke", "seed": 0, "device": "cpu"}
    dying = build.write(tmp_path, "01_dying", build.code("import os; os.kill(os.getpid(), 9)", "last-words"))
    endless = build.write(tmp_path, "02_endless", build.code("while True: pass", "round-and-round"))
    (tmp_path / "out").mkdir()
    dead, hung = (
        course_execution.execute(course_execution.read_chapter(path), tmp_path / "out", parameters)
        for path in (dying, endless)
    )
    assert (dead.status, dead.cell, dead.error) == ("failed", "last-words", "DeadKernelError: Kernel died")
    assert (hung.status, hung.cell) == ("failed", "round-and-round")
    assert hung.error.startswith("CellTimeoutError")


def test_chapters_are_picked_by_number_or_name(notebooks):
    names = [chapter.name for chapter in course.chapters(notebooks, ["03_three", "1"])]
    assert names == ["01_one", "03_three"]  # in the order of the course
    with pytest.raises(ValueError, match="no chapter '7'; there are: 01_one, 02_two, 03_three"):
        course.chapters(notebooks, ["7"])


def test_a_folder_without_chapters_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="come with a clone"):
        course.chapters(tmp_path)


def test_a_title_is_the_first_heading_and_markup_in_it_does_not_reach_the_page(tmp_path):
    path = build.write(tmp_path, "01_one")
    path.write_text(path.read_text().replace("A title (标题)", "<b>bold</b>"))
    chapter = course_execution.read_chapter(path)
    assert chapter.title == "1 · <b>bold</b>"
    result = course_execution.Result(chapter=chapter.name, title=chapter.title, status="passed")
    report = course.Report(
        profile="smoke", seed=0, device="cpu", jobs=1, minutes=0.0, versions={"python": "3"}, results=(result,)
    )
    assert "&lt;b&gt;bold&lt;/b&gt;" in course.to_html(report)
