"""Where the package finds its own files and where it may write."""

import os
from pathlib import Path

import platformdirs


def data_dir() -> Path:
    """The folder with the course map, `datasets.toml` and the checkpoints: in a wheel or in the repository."""
    packaged = Path(__file__).parent / "_data"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "data"


def notebooks_dir(chosen: Path | None = None) -> Path:
    """The folder of the chapters, their solutions and exercises: `chosen`, or the repository's.

    Raises:
        FileNotFoundError: it is not there; a wheel does not carry it.
    """
    folder = chosen or data_dir().parent / "notebooks"
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: the notebooks come with a clone of the repository")
    return folder


def cache_dir() -> Path:
    """Prepared data sets go here, outside the repository; set `AIGC_CACHE` to move it."""
    return Path(os.environ.get("AIGC_CACHE") or platformdirs.user_cache_path("aigc_lib"))


def user_data_dir() -> Path:
    """What belongs to the user, such as the answers of the self-test; set `AIGC_USER_DATA` to move it."""
    return Path(os.environ.get("AIGC_USER_DATA") or platformdirs.user_data_path("aigc_lib"))
