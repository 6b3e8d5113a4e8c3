"""Prepared arrays on disk: written whole or not at all, found again by what they were made from."""

import hashlib
import inspect
import json
import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from aigc_lib.datasets.base import DatasetInfo
from aigc_lib.paths import cache_dir

Arrays = dict[str, np.ndarray]


def prepared(info: DatasetInfo, build: Callable[[], Arrays], **parameters: object) -> Arrays:
    """What `build()` returns, from the cache if it was built before from the same sources with the same parameters.

    The file name carries a digest of the source digest, the parameters and the module that `build` stands in, so that
    what another version of the data or the code made is never mistaken for this. A damaged file is built again; where
    nothing can be written, the arrays are built each time, with a warning.

    Args:
        info: its name and digest become part of the file name.
        build: makes the arrays (numbers or fixed-width strings: no pickle is read or written).
        parameters: everything else that the arrays depend on; must be JSON.
    """
    path = cache_path(info, build, **parameters)
    if path.is_file():
        try:
            with np.load(path, allow_pickle=False) as stored:  # verifies the CRC of every array
                return {name: stored[name] for name in stored.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            warnings.warn(f"{path} cannot be read ({error}) and is made again", stacklevel=2)
    arrays = build()
    try:
        _write(path, arrays)
    except OSError as error:
        warnings.warn(f"prepared data is not kept: {error}. Set AIGC_CACHE to a folder with space", stacklevel=2)
    return arrays


def cache_path(info: DatasetInfo, build: Callable[[], Arrays], **parameters: object) -> Path:
    """Where `prepared` keeps the arrays of this data set, this way of making them and these parameters."""
    code = hashlib.sha256(inspect.getsource(inspect.getmodule(build)).encode()).hexdigest()
    content = json.dumps({"source": info.digest, "code": code, "parameters": parameters}, sort_keys=True)
    return cache_dir() / "datasets" / f"{info.name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}.npz"


def _write(path: Path, arrays: Arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.stem}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
