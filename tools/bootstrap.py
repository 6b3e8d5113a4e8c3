"""Set the course up in `.venv`: checks the machine, installs the locked packages, prepares the data.

    python3 tools/bootstrap.py        (`make setup` does just this; on Windows: py tools\\bootstrap.py)

Needs nothing but Python's standard library and parses on Python 3.6, so that a Python that is too old can say so in one
line. Stamps in `.venv` remember which steps are done: a second call costs a moment and no network, and what was
interrupted goes on. uv sees what pip is told about mirrors (`PIP_INDEX_URL`) and local wheels (`PIP_FIND_LINKS`), and
its own settings win. `UV_TORCH_BACKEND=cpu` spares Linux users without a GPU the gigabytes of CUDA libraries.
"""

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

MINIMUM_PYTHON = (3, 11)
TORCH = "torch==2.13.0"  # here and not in the lock, where it would drag in one platform's CUDA packages
DISK_GB = 4  # measured: 2.6 GB in .venv, the rest is prepared data
DISK_WITH_CUDA_GB = 8  # measured: torch with CUDA's libraries takes 4.6 GB instead of 0.7
MEMORY_GB = 4

# At its first start JupyterLab asks for news and updates; the course makes no request that nobody asked for.
LAB_SETTINGS = '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}}\n'


class SetupError(Exception):
    """Something the reader can mend, said in one line."""


def check_python(version=sys.version_info):
    if tuple(version[:2]) < MINIMUM_PYTHON:
        needed, found = (".".join(str(part) for part in parts[:2]) for parts in (MINIMUM_PYTHON, version))
        raise SetupError(
            f"needs Python {needed} or newer, this is {found}; name a newer one: make setup PYTHON=python3.11"
        )


def check_platform(system, machine, is_64_bit=sys.maxsize > 2**32):
    if (system, machine) == ("Darwin", "x86_64"):
        raise SetupError(f"{TORCH} is not built for Intel Macs; it needs Apple silicon, Linux or Windows")
    if not is_64_bit:
        raise SetupError(f"{TORCH} is not built for a 32-bit Python; install a 64-bit one")


def check_venv_module(has_ensurepip):
    if not has_ensurepip:
        package = "python{}.{}-venv".format(*sys.version_info[:2])
        raise SetupError(
            f"this Python cannot make virtual environments; on Debian and Ubuntu: sudo apt install {package}"
        )


def check_disk(needed_gb, available):
    if available < needed_gb * 1e9:
        raise SetupError(f"needs {needed_gb} GB of disk in {ROOT}, {available / 1e9:.1f} GB are free")


def check_memory(total):
    if total is not None and total < MEMORY_GB * 1e9:
        raise SetupError(f"needs {MEMORY_GB} GB of memory, this machine has {total / 1e9:.1f} GB")


def disk_available():
    """Bytes free for the set-up; what an interrupted one has already put there counts as available."""
    ours = sum(path.lstat().st_size for path in VENV.rglob("*"))
    return shutil.disk_usage(str(ROOT)).free + ours


def memory_total(limit=Path("/sys/fs/cgroup/memory.max")):
    """Bytes of memory, or what a container may use of them; None where the system does not tell (Windows)."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    text = limit.read_text().strip() if limit.is_file() else ""
    return min(total, int(text)) if text.isdigit() else total


def with_pip_settings(environment):
    """The environment for uv: mirror and local wheels as pip knows them, unless uv has its own."""
    names = {"UV_FIND_LINKS": "PIP_FIND_LINKS", "UV_DEFAULT_INDEX": "PIP_INDEX_URL"}
    return {**{ours: environment[pips] for ours, pips in names.items() if pips in environment}, **environment}


def brings_cuda(environment, system):
    """Whether torch will bring CUDA's libraries: on Linux, unless a local wheel or a chosen backend says otherwise."""
    folders = with_pip_settings(environment).get("UV_FIND_LINKS", "").replace(",", " ").split()
    has_wheel = any(True for folder in folders for _ in Path(folder).glob(TORCH.replace("==", "-") + "*.whl"))
    return system == "Linux" and environment.get("UV_TORCH_BACKEND") != "cpu" and not has_wheel


def digest(*parts):
    """One name for all that a step depends on: the content of files, the text of everything else."""
    contents = [part.read_bytes() if isinstance(part, Path) else str(part).encode() for part in parts]
    return hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents)).hexdigest()


def succeeds(*command, **options):
    return subprocess.call([str(part) for part in command], cwd=str(ROOT), **options) == 0


def make_environment():
    if not succeeds(sys.executable, "-m", "venv", "--clear", VENV):
        raise SetupError("making .venv failed, see above")


def install(environment):
    """With uv, which takes half a minute where pip takes one or two; with pip where uv cannot be had."""
    pip = [PYTHON, "-m", "pip", "install"]
    command, environment = [*pip], dict(environment)
    if succeeds(*pip, "--quiet", "uv"):
        command, environment = (
            [PYTHON, "-m", "uv", "pip", "install", "--python", PYTHON],
            with_pip_settings(environment),
        )
    elif "UV_TORCH_BACKEND" in environment:
        raise SetupError("uv cannot be had, and pip does not know UV_TORCH_BACKEND; unset it to install with pip")
    if not succeeds(*command, TORCH, "-r", "requirements.lock", "-e", ".", env=environment):
        raise SetupError("installing failed, see above; `make setup` goes on from here")
    overrides = VENV / "share/jupyter/lab/settings/overrides.json"
    overrides.parent.mkdir(parents=True, exist_ok=True)
    overrides.write_text(LAB_SETTINGS)


def prepare_data():
    if not succeeds(PYTHON, "-m", "aigc_lib.cli", "data", "prepare"):
        raise SetupError("preparing the data failed, see above; `make setup` goes on from here")


def set_up(environment):
    check_python()
    made = digest(sys.version, str(VENV))  # a folder that was moved has scripts that point to the old place
    installed = digest(made, ROOT / "requirements.lock", ROOT / "pyproject.toml", Path(__file__))
    prepared = digest(installed, ROOT / "data" / "datasets.toml", environment.get("AIGC_CACHE"))
    steps = [
        ("made", made, "making .venv", make_environment),
        ("installed", installed, "installing into .venv (some minutes)", lambda: install(environment)),
        ("prepared", prepared, "preparing the data", prepare_data),
    ]
    stamps = {name: VENV / f"{name}.stamp" for name, *_ in steps}
    done = [stamps[name].is_file() and stamps[name].read_text() == key for name, key, *_ in steps]
    if not all(done[:2]):
        check_platform(platform.system(), platform.machine())
        check_venv_module(importlib.util.find_spec("ensurepip") is not None)
        check_disk(DISK_WITH_CUDA_GB if brings_cuda(environment, platform.system()) else DISK_GB, disk_available())
        check_memory(memory_total())
    for i, (name, key, message, action) in enumerate(steps):
        if all(done[: i + 1]):
            continue
        print(f"setup: {message}", flush=True)
        if stamps[name].exists():
            stamps[name].unlink()  # from here to the end of the step nothing is known to be whole
        action()
        stamps[name].write_text(key)


def main():
    try:
        set_up(os.environ)
    except (SetupError, OSError) as error:  # OSError: a read-only folder, a disk that filled up meanwhile
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("setup: stopped; `make setup` goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
