"""Reads a list of entries from a YAML file; what an entry is, its own module says."""

from pathlib import Path

import yaml


def entries(path: Path, kind: str) -> list[object]:
    """The entries of a file that holds one list of them; `kind` names them in messages, in the plural.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not YAML, no list, or an empty one.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name} is no YAML: {error}") from error
    if not isinstance(content, list) or not content:
        raise ValueError(f"{path.name} has to be a list of {kind}, got {type(content).__name__}")
    return content
