"""Small notebooks for tests of what runs and judges notebooks."""

from pathlib import Path

import nbformat
from nbformat import NotebookNode, v4

PARAMETERS = 'profile = "laptop"\nseed = 0\ndevice = "auto"'


def markdown(text: str, id: str = "prose") -> NotebookNode:
    return v4.new_markdown_cell(text, id=id)


def code(source: str, id: str = "code", *, text: str = "", tags: tuple[str, ...] = ()) -> NotebookNode:
    """A code cell that was executed and printed `text`."""
    outputs = [v4.new_output("stream", name="stdout", text=text)] if text else []
    return v4.new_code_cell(source, id=id, execution_count=1, outputs=outputs, metadata={"tags": list(tags)})


def parameters(source: str = PARAMETERS) -> NotebookNode:
    return code(source, "parameters", tags=("parameters",))


def notebook(*cells: NotebookNode) -> NotebookNode:
    """Not through `v4.new_notebook`, which mends ids that are there twice."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return nbformat.from_dict({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


def write(folder: Path, name: str, *cells: NotebookNode) -> Path:
    """Write a chapter with title, parameters and the given cells."""
    path = folder / f"{name}.ipynb"
    nbformat.write(notebook(markdown(f"# {int(name[:2])} · A title (标题)", "title"), parameters(), *cells), path)
    return path
