"""Where the data comes from, under which licence, and whether it is still the same: reads `data/datasets.toml`."""

import importlib.metadata
import tomllib
from dataclasses import dataclass
from functools import cache

from aigc_lib.datasets.base import DataChangedError, DatasetInfo, MissingDataPackage
from aigc_lib.datasets.sources import verify
from aigc_lib.paths import data_dir


@cache
def infos() -> dict[str, DatasetInfo]:
    """Every entry of `data/datasets.toml`, in the order of the file."""
    entries = tomllib.loads((data_dir() / "datasets.toml").read_text(encoding="utf-8"))
    return {name: _info(name, entry, entries) for name, entry in entries.items()}


def _info(name: str, entry: dict, entries: dict[str, dict]) -> DatasetInfo:
    # What is made from other data sets reads their files, so these belong to its digest.
    parts = [entry, *(entries[other] for other in entry.get("uses", []))]
    own = {key: value for key, value in entry.items() if key != "uses"}
    packages = {package: version for part in parts for package, version in part.get("packages", {}).items()}
    files = tuple(pattern for part in parts for pattern in part.get("files", []))
    return DatasetInfo(name=name, **({"recipe": ""} | own | {"packages": packages, "files": files}))


def info(name: str) -> DatasetInfo:
    """The entry of one data set.

    Raises:
        ValueError: there is no such data set; the message lists those there are.
    """
    if name not in infos():
        raise ValueError(f"unknown data set {name!r}; there are: {', '.join(infos())}")
    return infos()[name]


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """A data set that was found unchanged."""

    name: str
    digest: str
    n_files: int
    notes: tuple[str, ...]  # packages whose version is another one than recorded, though the files are the same


def check(name: str = "all") -> tuple[CheckResult, ...]:
    """Recompute the digest of one data set, or of all.

    Raises:
        ValueError: unknown name.
        DataChangedError: a digest is not the recorded one; the message shows both, for every data set concerned.
        MissingDataPackage: a package is not installed (and no digest is wrong); the message says how to install it.
    """
    results, problems = [], []
    for entry in infos().values() if name == "all" else [info(name)]:
        try:
            files = verify(entry)
        except (DataChangedError, MissingDataPackage, FileNotFoundError) as error:
            problems.append(error)
            continue
        notes = tuple(
            f"{package} is {installed}, recorded was {recorded}"
            for package, recorded in entry.packages.items()
            if (installed := installed_version(package)) != recorded
        )
        results.append(CheckResult(name=entry.name, digest=entry.digest, n_files=len(files), notes=notes))
    if problems:
        changed = any(isinstance(problem, DataChangedError | FileNotFoundError) for problem in problems)
        raise (DataChangedError if changed else MissingDataPackage)("\n".join(map(str, problems)))
    return tuple(results)


def installed_version(package: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def rows() -> list[dict[str, str]]:
    """One row a data set for `aigc data list`; all values are text, ready for a table."""
    return [
        {
            "name": entry.name,
            "modality": entry.modality,
            "title": entry.title,
            "train": str(entry.counts["train"]),
            "validation": str(entry.counts["validation"]),
            "test": str(entry.counts["test"]),
            "packages": ", ".join(f"{package} {version}" for package, version in entry.packages.items()),
            "installed": "yes" if all(map(installed_version, entry.packages)) else "no",
            "licence": entry.licence,
            "attribution": entry.attribution,
            "digest": entry.digest,
        }
        for entry in infos().values()
    ]
