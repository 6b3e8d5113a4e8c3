"""Checkpoint files: whole or not there, and refused when they were touched."""

import json
import os
import resource
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lib.training import checkpoints
from aigc_lib.training.checkpoints import CheckpointError

STATE = {"step": 3, "weights": {"a": torch.arange(6.0).view(2, 3), 1: torch.zeros(0)}, "list": [None, True, "é", 0.1]}


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b and type(a) is type(b)


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
leaves |= st.sampled_from([torch.tensor(1.5), torch.arange(4), torch.zeros(2, 0), torch.ones(3, dtype=torch.bfloat16)])
states = st.recursive(
    leaves, lambda s: st.lists(s, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), s, max_size=3)
)


@given(states)
@settings(deadline=None)
def test_nested_state_comes_back_as_it_was(state):
    tensors, skeleton = checkpoints.flatten(state)
    assert same(checkpoints.unflatten(tensors, json.loads(json.dumps(skeleton))), state)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.float16, torch.bfloat16, torch.float32])
def test_a_packed_tensor_comes_back_to_the_bit_and_a_smooth_one_is_smaller(tmp_path, kind):
    smooth = (torch.arange(6000).view(2, 3, 1000).transpose(1, 2) // 300).to(kind)
    pack = checkpoints.packed(smooth)
    checkpoints.write(tmp_path / "a.safetensors", pack)
    assert same(checkpoints.unpacked(checkpoints.read(tmp_path / "a.safetensors")), smooth)
    assert pack["lzma"].nbytes < smooth.nbytes / 4


def test_a_file_comes_back_as_it_was(tmp_path):
    checkpoints.write(tmp_path / "deep" / "a.safetensors", STATE)
    assert same(checkpoints.read(tmp_path / "deep" / "a.safetensors"), STATE)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.safetensors"]


def test_what_is_neither_tensor_nor_json_is_refused():
    with pytest.raises(TypeError, match=r"weights\.f is a function"):
        checkpoints.flatten({"weights": {"f": same}})


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_a_truncated_file_is_refused(tmp_path, keep):
    path = tmp_path / "a.safetensors"
    checkpoints.write(path, STATE)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoints.read(path)


def test_an_edited_weight_or_text_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    checkpoints.write(path, STATE)
    whole = path.read_bytes()
    for place, byte in ((len(whole) - 1, b"\x7f"), (whole.index(b"step"), b"z")):
        path.write_bytes(whole[:place] + byte + whole[place + 1 :])
        with pytest.raises(CheckpointError, match="changed after it was written"):
            checkpoints.read(path)


def test_another_programs_file_and_no_file_are_told_apart(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="no checkpoint of this package"):
        checkpoints.read(tmp_path / "a.safetensors")
    with pytest.raises(FileNotFoundError):
        checkpoints.read(tmp_path / "b.safetensors")


def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path):
    # A real failure of a real write: the kernel refuses bytes past the limit, in the middle of the file.
    path = tmp_path / "a.safetensors"
    checkpoints.write(path, STATE)
    before = path.read_bytes()
    program = (
        "import sys, torch, resource, pathlib; from aigc_lib.training import checkpoints\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "checkpoints.write(pathlib.Path(sys.argv[1]), {'big': torch.zeros(9000)})"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "the file that was there before is whole" in done.stderr
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 5000  # the limit was the other process's


def test_a_read_only_folder_leaves_the_last_checkpoint_whole(tmp_path):
    path = tmp_path / "a.safetensors"
    checkpoints.write(path, STATE)
    before = path.read_bytes()
    tmp_path.chmod(0o555)
    is_root = os.geteuid() == 0
    if is_root:  # permissions do not bind root; be nobody for a moment
        for parent in tmp_path.parents[:3]:
            parent.chmod(0o755)
        os.seteuid(65534)
    try:
        with pytest.raises(CheckpointError, match="could not write"):
            checkpoints.write(path, {"step": 4})
    finally:
        if is_root:
            os.seteuid(0)
        tmp_path.chmod(0o755)
    assert path.read_bytes() == before


def test_an_unknown_checkpoint_or_part_names_what_there_is():
    with pytest.raises(FileNotFoundError, match=r"there are: .*gan-digits"):
        checkpoints.load("gan-cats")
    with pytest.raises(ValueError, match="generator, discriminator"):
        checkpoints.load("gan-digits", "decoder")
