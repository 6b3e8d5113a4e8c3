"""Finding the files that data packages carry, without importing the packages, and proving that they are unchanged."""

import hashlib
import importlib.util
from functools import cache
from pathlib import Path

from aigc_lib.datasets.base import DataChangedError, DatasetInfo, MissingDataPackage


def install_command(packages: dict[str, str]) -> str:
    """The pip command for exactly these distributions, and the one for all that the course uses."""
    pinned = " ".join(f"{name}=={version}" for name, version in packages.items())
    return f'pip install {pinned}   (or everything: pip install "aigc-lib[data]")'


def source_files(info: DatasetInfo) -> dict[str, Path]:
    """The files below site-packages that `info.files` names: their name there -> where they are, in sorted order.

    Raises:
        MissingDataPackage: a package is not installed; the message says how to install it.
        FileNotFoundError: the package is there, but nothing in it matches a pattern.
    """
    found: dict[str, Path] = {}
    for pattern in info.files:
        top, _, rest = pattern.partition("/")
        # find_spec of a top-level name looks, but does not import: some of these packages take seconds to import.
        spec = importlib.util.find_spec(top)
        if spec is None or not spec.submodule_search_locations:
            raise MissingDataPackage(
                f"data set {info.name!r} reads files of the package {top!r}, which is not installed. "
                f"Run: {install_command(dict(info.packages))}"
            )
        root = Path(spec.submodule_search_locations[0])
        matches = {f"{top}/{path.relative_to(root).as_posix()}": path for path in root.glob(rest)}
        if not matches:
            raise FileNotFoundError(
                f"data set {info.name!r} expects {pattern!r} in the installed package {top!r}, but nothing matches. "
                f"Install the version it was made with: {install_command(dict(info.packages))}"
            )
        found |= matches
    return dict(sorted(found.items()))


def digest_of(files: dict[str, Path], recipe: str = "") -> str:
    """SHA-256 over the names and contents of files and the recipe: the same on every system and CPU."""
    total = hashlib.sha256(recipe.encode())
    for name, path in files.items():
        total.update(f"\0{name}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def verify(info: DatasetInfo) -> dict[str, Path]:
    """The source files of a data set, once their digest has been found to be the recorded one.

    Raises:
        DataChangedError: it is another one; the message shows both.
        MissingDataPackage, FileNotFoundError: see `source_files`.
    """
    files, digest = _digested(info.name, info.files, tuple(info.packages.items()), info.recipe)
    if digest != info.digest:
        raise DataChangedError(
            f"the files of data set {info.name!r} have changed: expected SHA-256 {info.digest}, found {digest}. "
            f"Reinstall them: {install_command(dict(info.packages))}"
        )
    return files


@cache  # reading and hashing again what this process has hashed before would say nothing new
def _digested(
    name: str, patterns: tuple[str, ...], packages: tuple[tuple[str, str], ...], recipe: str
) -> tuple[dict[str, Path], str]:
    info = DatasetInfo(
        name=name, title="", modality="", packages=dict(packages), licence="", attribution="",
        counts={}, files=patterns, recipe=recipe, digest="",
    )  # fmt: skip
    files = source_files(info)
    return files, digest_of(files, recipe)
