"""tools/bootstrap.py: what it checks, in which order it works, and that one line says what is wrong."""

import ast
import importlib.util
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "tools" / "bootstrap.py"


@pytest.fixture
def bootstrap():
    spec = importlib.util.spec_from_file_location("bootstrap", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def clone(bootstrap, tmp_path, monkeypatch):
    """A repository of empty files, a machine that is good enough, and commands that are only written down."""
    root = tmp_path / "a clone"  # with a space: many a home folder has one
    (root / "data").mkdir(parents=True)
    for name in ["requirements.lock", "pyproject.toml", "data/datasets.toml"]:
        (root / name).write_text("")
    commands = []

    def succeed(*command, **options):
        commands.append(" ".join(str(part) for part in command))
        (root / ".venv").mkdir(exist_ok=True)
        return True

    monkeypatch.setattr(bootstrap, "ROOT", root)
    monkeypatch.setattr(bootstrap, "VENV", root / ".venv")
    monkeypatch.setattr(bootstrap, "PYTHON", root / ".venv/bin/python")
    monkeypatch.setattr(bootstrap, "succeeds", succeed)
    monkeypatch.setattr(bootstrap, "disk_available", lambda: 1e12)
    monkeypatch.setattr(bootstrap, "memory_total", lambda: 64e9)
    bootstrap.commands = commands
    return root


def test_a_python_that_is_too_old_can_read_the_file():
    assert ast.parse(SOURCE.read_text(), feature_version=(3, 8))


def test_it_needs_nothing_but_the_standard_library():
    imports = [
        node for node in ast.walk(ast.parse(SOURCE.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    names = {alias.name if isinstance(node, ast.Import) else node.module for node in imports for alias in node.names}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


@pytest.mark.parametrize("version", [(3, 8, 18), (3, 10, 14), (2, 7, 18)])
def test_an_old_python_is_told_what_to_do(bootstrap, version):
    with pytest.raises(bootstrap.SetupError, match=r"needs Python 3\.11 or newer.*make setup PYTHON="):
        bootstrap.check_python(version)


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 13, 1), (4, 0, 0)])
def test_a_python_that_is_new_enough_passes(bootstrap, version):
    assert bootstrap.check_python(version) is None


def test_platforms_that_torch_is_not_built_for_are_named(bootstrap):
    assert bootstrap.check_platform("Darwin", "arm64", True) is None
    with pytest.raises(bootstrap.SetupError, match="Intel Macs"):
        bootstrap.check_platform("Darwin", "x86_64", True)
    with pytest.raises(bootstrap.SetupError, match="64-bit"):
        bootstrap.check_platform("Windows", "x86", False)


def test_a_missing_ensurepip_names_the_package_to_install(bootstrap):
    assert bootstrap.check_venv_module(True) is None
    with pytest.raises(bootstrap.SetupError, match=r"apt install python3\.\d+-venv"):
        bootstrap.check_venv_module(False)


def test_disk_and_memory_are_compared_with_what_is_needed(bootstrap):
    assert bootstrap.check_disk(3, 3e9) is None
    assert bootstrap.check_memory(4e9) is None
    assert bootstrap.check_memory(None) is None  # a system that does not tell
    with pytest.raises(bootstrap.SetupError, match=r"needs 7 GB of disk.*6\.5 GB are free"):
        bootstrap.check_disk(7, 6.5e9)
    with pytest.raises(bootstrap.SetupError, match=r"needs 4 GB of memory.*2\.0 GB"):
        bootstrap.check_memory(2e9)


def test_a_container_has_the_memory_that_it_may_use(bootstrap, tmp_path):
    limit = tmp_path / "memory.max"
    everything = bootstrap.memory_total(limit)
    limit.write_text("1000000000\n")
    assert bootstrap.memory_total(limit) == 1_000_000_000
    limit.write_text("max\n")
    assert bootstrap.memory_total(limit) == everything > 1e9


def test_what_an_interrupted_set_up_has_written_counts_as_available(bootstrap, clone, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(bootstrap, "ROOT", clone)
    monkeypatch.setattr(bootstrap, "VENV", clone / ".venv")
    monkeypatch.setattr(bootstrap.shutil, "disk_usage", lambda _: bootstrap.shutil._ntuple_diskusage(10, 9, 100))
    assert bootstrap.disk_available() == 100
    (clone / ".venv" / "lib").mkdir(parents=True)
    (clone / ".venv" / "lib" / "half").write_bytes(b"x" * 500_000)
    assert bootstrap.disk_available() >= 500_100


def test_uv_sees_what_pip_is_told_and_its_own_settings_win(bootstrap):
    seen = bootstrap.with_pip_settings({"PIP_FIND_LINKS": "wheels", "PIP_INDEX_URL": "mirror", "HOME": "h"})
    assert (seen["UV_FIND_LINKS"], seen["UV_DEFAULT_INDEX"], seen["HOME"]) == ("wheels", "mirror", "h")
    assert bootstrap.with_pip_settings({"PIP_FIND_LINKS": "a", "UV_FIND_LINKS": "b"})["UV_FIND_LINKS"] == "b"
    assert "UV_FIND_LINKS" not in bootstrap.with_pip_settings({})


def test_cuda_comes_on_linux_alone_and_not_with_a_local_wheel_or_the_cpu_backend(bootstrap, tmp_path):
    assert bootstrap.brings_cuda({}, "Linux")
    assert not bootstrap.brings_cuda({}, "Darwin")
    assert not bootstrap.brings_cuda({"UV_TORCH_BACKEND": "cpu"}, "Linux")
    assert bootstrap.brings_cuda({"PIP_FIND_LINKS": str(tmp_path)}, "Linux")
    (tmp_path / f"{bootstrap.TORCH.replace('==', '-')}+cpu-cp311-cp311-linux_x86_64.whl").touch()
    assert not bootstrap.brings_cuda({"PIP_FIND_LINKS": str(tmp_path)}, "Linux")


def test_the_first_call_makes_installs_and_prepares_and_the_second_does_nothing(bootstrap, clone):
    bootstrap.set_up({})
    made, uv, installed, prepared = bootstrap.commands
    assert made.endswith(f"-m venv --clear {clone / '.venv'}")
    assert uv.endswith("-m pip install --quiet uv")
    assert installed.endswith(f"{bootstrap.TORCH} -r requirements.lock -e .")
    assert prepared.endswith("-m aigc_lib.cli data prepare")
    bootstrap.set_up({})
    assert len(bootstrap.commands) == 4


@pytest.mark.parametrize(
    ("changed", "repeated"), [("requirements.lock", 3), ("pyproject.toml", 3), ("data/datasets.toml", 1)]
)
def test_a_change_repeats_what_depends_on_it(bootstrap, clone, changed, repeated):
    bootstrap.set_up({})
    (clone / changed).write_text("other")
    bootstrap.set_up({})
    assert len(bootstrap.commands) == 4 + repeated


def test_another_python_or_a_moved_folder_makes_everything_again(bootstrap, clone, monkeypatch):
    bootstrap.set_up({})
    monkeypatch.setattr(bootstrap.sys, "version", "3.12 of another day")
    bootstrap.set_up({})
    assert len(bootstrap.commands) == 8
    monkeypatch.setattr(bootstrap, "VENV", (clone / ".venv").rename(clone / "moved"))
    bootstrap.set_up({})
    assert len(bootstrap.commands) == 12


def test_an_interrupted_step_is_done_again_and_finished_ones_are_not(bootstrap, clone, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(bootstrap, "prepare_data", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bootstrap.set_up({})
    assert len(bootstrap.commands) == 3
    monkeypatch.setattr(bootstrap, "prepare_data", lambda: bootstrap.commands.append("prepared"))
    bootstrap.set_up({})
    assert bootstrap.commands[3:] == ["prepared"]


def test_pip_installs_where_uv_cannot_be_had_unless_the_backend_needs_uv(bootstrap, clone, monkeypatch):
    commands = []
    monkeypatch.setattr(bootstrap, "succeeds", lambda *c, **_: commands.append(c) or "--quiet" not in c)
    bootstrap.install({})
    assert commands[-1][1:4] == ("-m", "pip", "install")
    assert bootstrap.TORCH in commands[-1]
    with pytest.raises(bootstrap.SetupError, match="UV_TORCH_BACKEND"):
        bootstrap.install({"UV_TORCH_BACKEND": "cpu"})


def test_jupyterlab_asks_for_no_news(bootstrap, clone):
    bootstrap.install({})
    settings = (clone / ".venv/share/jupyter/lab/settings/overrides.json").read_text()
    assert '"fetchNews": "false"' in settings
    assert '"checkForUpdates": false' in settings


@pytest.mark.parametrize("failing", ["venv", "requirements.lock", "prepare"])
def test_a_failure_is_one_line_and_exit_code_1(bootstrap, clone, monkeypatch, capsys, failing):
    succeed = bootstrap.succeeds
    monkeypatch.setattr(bootstrap, "succeeds", lambda *c, **o: succeed(*c, **o) and failing not in c)
    assert bootstrap.main() == 1
    said = capsys.readouterr().err
    assert said.startswith("setup: ")
    assert said.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_one_line_too(bootstrap, clone, monkeypatch, capsys):
    def read_only(*_, **__):
        raise PermissionError(13, "Permission denied", ".venv")

    monkeypatch.setattr(bootstrap, "make_environment", read_only)
    assert bootstrap.main() == 1
    assert capsys.readouterr().err == "setup: [Errno 13] Permission denied: '.venv'\n"
