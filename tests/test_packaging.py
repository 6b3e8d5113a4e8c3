"""pyproject.toml, the lock, environment.yml and the set-up agree; the wheel is whole; imports are light."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK_LINES = (ROOT / "requirements.lock").read_text().splitlines()
LOCKED = [Requirement(line) for line in LOCK_LINES if line and not line.lstrip().startswith("#")]
EXTRAS = PROJECT["optional-dependencies"]
DECLARED = [Requirement(text) for texts in [PROJECT["dependencies"], *EXTRAS.values()] for text in texts]
TORCH = re.search(r'TORCH = "(.*?)"', (ROOT / "tools" / "bootstrap.py").read_text())[1]


def marker_environment(python, platform="linux"):
    systems = {"linux": ("Linux", "posix"), "darwin": ("Darwin", "posix"), "win32": ("Windows", "nt")}
    system, os_name = systems[platform]
    return {
        "python_full_version": f"{python}.7",
        "python_version": python,
        "sys_platform": platform,
        "platform_system": system,
        "os_name": os_name,
        "platform_machine": "x86_64",
    }


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_lock_satisfies_everything_that_is_declared(python, platform):
    environment = marker_environment(python, platform)
    versions = {
        canonicalize_name(locked.name): str(locked.specifier).removeprefix("==")
        for locked in LOCKED
        if locked.marker is None or locked.marker.evaluate(environment)
    }
    for declared in DECLARED:
        if declared.name != "torch":  # pinned in tools/bootstrap.py
            version = versions.get(canonicalize_name(declared.name))
            assert version is not None, f"{declared.name} is not in requirements.lock"
            assert declared.specifier.contains(version), f"{declared}, but the lock has {version}"


def test_the_pinned_torch_is_one_that_is_declared():
    pinned, declared = Requirement(TORCH), next(each for each in DECLARED if each.name == "torch")
    assert declared.specifier.contains(str(pinned.specifier).removeprefix("=="))


def test_the_lock_pins_every_package_exactly():
    for locked in LOCKED:
        assert [specifier.operator for specifier in locked.specifier] == ["=="], str(locked)


def test_the_lock_names_no_host_and_no_file():
    for line in LOCK_LINES:
        assert not re.search(r"://|@ |--(index|extra-index|find-links|trusted)", line), line


def test_the_lock_holds_neither_torch_nor_cuda():
    names = {canonicalize_name(locked.name) for locked in LOCKED}
    assert not {name for name in names if re.match(r"torch$|triton|nvidia|cuda", name)}


def test_environment_yml_installs_what_the_set_up_installs():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert pip == {"pip": [TORCH, "-r requirements.lock", "-e ."]}
    assert "pip" in conda
    python = next(each for each in conda if each.startswith("python="))
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.removeprefix("python="))


def imported_by(path):
    """Top-level modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


def test_what_the_package_imports_is_declared_or_comes_with_what_is():
    declared = {canonicalize_name(each.name) for each in DECLARED}
    asked_for = {Requirement(text).name for name in declared for text in requires(name) or [] if "extra ==" not in text}
    known = declared | {canonicalize_name(name) for name in asked_for}
    imported = {module for path in (ROOT / "aigc_lib").rglob("*.py") for module in imported_by(path)}
    for module in imported - sys.stdlib_module_names - {"aigc_lib"}:
        distributions = {canonicalize_name(each) for each in packages_distributions().get(module, [])}
        assert distributions & known, (
            f"{module} comes from {distributions or 'nowhere'}; pyproject.toml does not name it"
        )


def modules_after(statement):
    """Names of all modules that are loaded once `statement` has run in a new process."""
    program = f"{statement}\nimport sys; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


def data_modules():
    """Top-level modules of the packages of the `data` extra."""
    names = {canonicalize_name(Requirement(text).name) for text in EXTRAS["data"]}
    distributions = packages_distributions().items()
    return {module for module, found in distributions if names & {canonicalize_name(each) for each in found}}


def test_importing_the_package_is_light():
    loaded = modules_after("import aigc_lib")
    assert "aigc_lib" in loaded
    assert not loaded & ({"torch", "numpy", "matplotlib", "sympy"} | data_modules())


@pytest.mark.parametrize("module", ["models.gan", "datasets", "training", "metrics.images", "teaching"])
def test_no_module_needs_a_data_package_until_data_is_asked_for(module):
    assert {"skimage", "music21", "mlxtend"} <= data_modules()
    assert not modules_after(f"import aigc_lib.{module}") & data_modules()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel as a release would have it, built with what the set-up has left in uv's cache."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "uv", "build", "--wheel", "--quiet", "--out-dir", str(folder), str(ROOT)]
    for attempt in ([*build, "--offline"], build):
        done = subprocess.run(attempt, capture_output=True, text=True, cwd=folder)
        if done.returncode == 0:
            return next(folder.glob("*.whl"))
        assert "build backend returned an error" not in done.stderr, done.stderr
    pytest.skip(f"no wheel can be built here (offline, and not set up with uv?): {done.stderr.strip()[-300:]}")


def test_the_wheel_carries_the_data_and_nothing_of_the_repository_around_it(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    data = [path.relative_to(ROOT / "data") for path in (ROOT / "data").rglob("*") if path.is_file()]
    assert {f"aigc_lib/_data/{path.as_posix()}" for path in data} <= names
    assert {"aigc_lib/_data/course_map.yaml", "aigc_lib/applications/viewer.html"} <= names
    assert {name.split("/")[0] for name in names} == {"aigc_lib", f"aigc_lib-{PROJECT['version']}.dist-info"}


def test_the_wheel_works_without_the_repository(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    program = (
        "import aigc_lib; from aigc_lib.datasets import provenance; from aigc_lib.paths import data_dir\n"
        "print(aigc_lib.__version__); print(data_dir()); print(len(provenance.rows()))"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
    version, place, n_rows = done.stdout.split("\n")[:3]
    assert version == PROJECT["version"]
    assert Path(place) == tmp_path / "aigc_lib" / "_data"
    assert int(n_rows) >= 1


def test_the_wheel_declares_the_command_and_the_extras(wheel):
    archive = zipfile.ZipFile(wheel)
    info = f"aigc_lib-{PROJECT['version']}.dist-info"
    assert "aigc = aigc_lib.cli:main" in archive.read(f"{info}/entry_points.txt").decode()
    metadata = archive.read(f"{info}/METADATA").decode()
    for extra in EXTRAS:
        assert f"Provides-Extra: {extra}\n" in metadata
    assert f"{info}/licenses/LICENSE" in archive.namelist()


def test_one_version_stands_everywhere():
    import aigc_lib

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {aigc_lib.__version__, citation["version"], changes[1]} == {PROJECT["version"]}
