"""Checkpoints: safetensors files that are whole or not there, know their own digest, and hold no code.

A file holds tensors and one JSON document. Nested state (optimisers, random generators, counters) is flattened into
both by `flatten` and restored by `unflatten`, so that nothing is ever pickled.
"""

import contextlib
import hashlib
import json
import lzma
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from aigc_lib.paths import data_dir

FORMAT = "aigc-checkpoint-1"


class CheckpointError(Exception):
    """A checkpoint that cannot be written, read or trusted. The text says which, why, and what to do."""


def flatten(state: Any) -> tuple[dict[str, Tensor], Any]:
    """Split nested dicts and lists into named tensors and a JSON-ready skeleton that refers to them.

    Raises:
        TypeError: a leaf that is neither a tensor nor JSON.
    """
    tensors: dict[str, Tensor] = {}

    def walk(value: Any, path: str) -> Any:
        if isinstance(value, Tensor):
            # A copy: safetensors refuses tensors that share memory, and the optimiser goes on writing to the original.
            tensors[path] = value.detach().cpu().contiguous().clone()
            return {"tensor": path}
        if isinstance(value, dict):
            return {"items": [[key, walk(each, f"{path}.{key}" if path else str(key))] for key, each in value.items()]}
        if isinstance(value, (list, tuple)):
            return {"list": [walk(each, f"{path}.{i}") for i, each in enumerate(value)]}
        if value is None or isinstance(value, (bool, int, float, str)):
            return {"value": value}
        raise TypeError(f"a checkpoint holds tensors, numbers and text; {path} is a {type(value).__name__}")

    return tensors, walk(state, "")


def unflatten(tensors: dict[str, Tensor], skeleton: Any) -> Any:
    """Undo `flatten` (tuples come back as lists)."""
    ((kind, content),) = skeleton.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "items":
        return {key: unflatten(tensors, each) for key, each in content}
    if kind == "list":
        return [unflatten(tensors, each) for each in content]
    return content


def packed(tensor: Tensor) -> dict[str, Any]:
    """A tensor in fewer bytes, every bit kept (LZMA). For previews: weights hardly shrink.

    Two layouts are tried: as it is, and by differences along the first axis, where a picture hardly changes.
    """
    delta = [{"id": lzma.FILTER_DELTA, "dist": tensor.element_size()}]
    layouts = {"first": (tensor, []), "last": (tensor.movedim(0, -1), delta)}
    packs = []
    for layout, (laid, filters) in layouts.items():
        content = laid.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        content = lzma.compress(content, filters=[*filters, {"id": lzma.FILTER_LZMA2, "preset": 9}])
        packs.append({"lzma": torch.frombuffer(bytearray(content), dtype=torch.uint8), "first_axis": layout})
    kind = {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape)}
    return min(packs, key=lambda pack: len(pack["lzma"])) | kind


def unpacked(pack: dict[str, Any]) -> Tensor:
    """Undo `packed`."""
    content = bytearray(lzma.decompress(pack["lzma"].numpy().tobytes()))
    flat, shape = torch.frombuffer(content, dtype=getattr(torch, pack["dtype"])), pack["shape"]
    if pack["first_axis"] == "first":
        return flat.view(shape)
    return flat.view(*shape[1:], shape[0]).movedim(-1, 0).contiguous()


def digest_of(tensors: dict[str, Tensor], text: str) -> str:
    """SHA-256 over names, types, shapes and bytes of the tensors, and over the text beside them."""
    sha = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(path: Path, state: Any) -> None:
    """Write a checkpoint so that `path` holds either all of it or what was there before, even when power fails.

    Raises:
        CheckpointError: the disk is full, the folder is read-only or cannot be made. The old file is untouched.
    """
    tensors, skeleton = flatten(state)
    text = json.dumps(skeleton)
    # One entry: safetensors writes several in any order, and equal states are to give equal files.
    metadata = {FORMAT: json.dumps({"sha256": digest_of(tensors, text), "state": text})}
    write_whole(path, to_bytes(tensors, metadata=metadata))


def write_whole(path: Path, content: bytes) -> None:
    """Temporary file in the same folder, fsync, rename, fsync of the folder.

    Raises:
        CheckpointError: as `write`.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes it readable by its owner alone
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        kept = "the file that was there before is whole" if path.exists() else "nothing was left behind"
        raise CheckpointError(f"could not write {path}: {error.strerror}; {kept}") from error


def clear_leftovers(folder: Path) -> None:
    """Remove what writes left in `folder` when they were killed. Not while another process writes there."""
    for leftover in folder.glob(".*.partial"):
        leftover.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows has no handle for a folder; its rename is journalled
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(path: Path) -> Any:
    """Read a checkpoint written by `write`.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: truncated, edited, or not one of ours.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is damaged or no safetensors file ({error}); delete it or restore a copy"
        ) from error
    if FORMAT not in metadata:
        raise CheckpointError(f"{path} is no checkpoint of this package: there is no {FORMAT!r} in its header")
    try:
        content = json.loads(metadata[FORMAT])
        found, stated = digest_of(tensors, content["state"]), content["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: its header is none of ours; delete it or restore a copy") from error
    if found != stated:
        raise CheckpointError(
            f"{path} was changed after it was written: its digest is {found[:12]}…, it says {stated[:12]}…; "
            "delete it or restore a copy"
        )
    return unflatten(tensors, json.loads(content["state"]))


def shipped(name: str) -> tuple[Path, Path]:
    """Paths of a shipped checkpoint and of the record beside it.

    Raises:
        FileNotFoundError: no such checkpoint; the text lists those that are there.
    """
    folder = data_dir() / "checkpoints"
    path, record = folder / f"{name}.safetensors", folder / f"{name}.json"
    if not path.is_file() or not record.is_file():
        there = ", ".join(sorted(each.stem for each in folder.glob("*.json"))) or "none"
        raise FileNotFoundError(f"no shipped checkpoint {name!r}; there are: {there}. `aigc train … --ship` makes one")
    return path, record


def record_of(name: str) -> dict[str, Any]:
    """How a shipped checkpoint came to be: command, seed, data digest, versions, device, duration, metrics."""
    return json.loads(shipped(name)[1].read_text(encoding="utf-8"))


def load_parts(name: str) -> dict[str, nn.Module]:
    """All networks of a shipped checkpoint, in evaluation mode, on the CPU. Raises as `load`."""
    from aigc_lib.training.recipes import resolve

    state, recipe = read(shipped(name)[0]), resolve(name)
    parts = recipe.build(recipe.config_class(**state["config"]))
    for part, network in parts.items():
        network.load_state_dict(state["parts"][part])
        network.eval()
    return parts


def load(name: str, part: str | None = None) -> nn.Module:
    """A trained network in evaluation mode, on the CPU, from the checkpoint shipped as `name`.

    Args:
        name: `<system>-<data>`, such as "gan-digits".
        part: which network of the system; by default the one that generates.

    Raises:
        FileNotFoundError: no such checkpoint.
        CheckpointError: it is damaged.
        ValueError: no such part.
    """
    from aigc_lib.training.recipes import resolve

    parts = load_parts(name)
    part = part or resolve(name).main_part
    if part not in parts:
        raise ValueError(f"{name} has the parts {', '.join(parts)}, not {part!r}")
    return parts[part]


def trajectory(name: str) -> tuple[list[int], Tensor]:
    """Previews of a shipped checkpoint from fixed noise along its training: steps (n), and uint8 (n, B, C, H, W)."""
    state = read(shipped(name)[0])
    return state["trajectory"]["steps"], unpacked(state["trajectory"]["previews"])
