"""The loop: resumable to the bit whatever interrupts it, the same on one process and on two."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lib.training import checkpoints, train
from aigc_lib.training.checkpoints import CheckpointError
from aigc_lib.training.engine import DataOrder, TrainingDiverged, run
from tests.training.toy import Toy, ToyConfig

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def toy_process(folder: Path, profile: str = "laptop", steps: int = 200) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.training.toy", str(folder), profile, str(steps)]
    return subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("whole")
    process = toy_process(folder)
    assert process.wait(120) == 0
    return (folder / "last.safetensors").read_bytes()


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_same_bits(tmp_path, uninterrupted):
    chance = random.Random(1)
    kills = 0
    for _ in range(8):
        process = toy_process(tmp_path)
        process.stdout.readline()
        try:
            # Checkpoints are written every third step, so many of these fall into the middle of a write.
            process.wait(chance.uniform(0.05, 0.5))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
        if process.returncode == 0:
            break
    else:
        assert toy_process(tmp_path).wait(120) == 0
    assert kills >= 1
    assert (tmp_path / "last.safetensors").read_bytes() == uninterrupted


@pytest.mark.parametrize(("function", "call"), [("write", 40), ("fsync", 41), ("replace", 20), ("fsync", 42)])
def test_a_run_killed_within_a_checkpoint_write_ends_with_the_same_bits(tmp_path, uninterrupted, function, call):
    # The n-th call kills the process: half-written file, complete file without a name, renamed but not yet synced.
    program = f"""
import io, os, signal, sys
calls = 0
def deadly(*arguments):
    global calls
    calls += 1
    if calls == {call}:
        os.kill(os.getpid(), signal.SIGKILL)
    return honest(*arguments)
if {function!r} == "write":
    fdopen = os.fdopen
    def open_deadly(*arguments):
        global honest
        file = fdopen(*arguments)
        class Half:
            __enter__ = lambda self: self
            __exit__ = lambda self, *error: file.close()
            fileno, flush = file.fileno, file.flush
            def write(self, content):
                global honest
                honest = file.write
                file.write(content[: len(content) // 2])
                file.flush()
                deadly(content[len(content) // 2 :])
        return Half()
    os.fdopen = open_deadly
else:
    honest = getattr(os, {function!r})
    setattr(os, {function!r}, deadly)
sys.argv = ["toy", {str(tmp_path)!r}, "laptop", "200"]
import runpy
runpy.run_module("tests.training.toy", run_name="__main__")
"""
    killed = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=ENVIRONMENT, check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert checkpoints.read(tmp_path / "last.safetensors")["step"] < 200
    assert toy_process(tmp_path).wait(120) == 0
    assert (tmp_path / "last.safetensors").read_bytes() == uninterrupted
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_saves_and_the_run_goes_on_from_there(tmp_path, uninterrupted, number):
    process = toy_process(tmp_path)
    while not (tmp_path / "last.safetensors").exists():
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(number)
    assert process.wait(60) != 0
    step = checkpoints.read(tmp_path / "last.safetensors")["step"]
    assert 0 < step < 200
    assert toy_process(tmp_path).wait(120) == 0
    assert (tmp_path / "last.safetensors").read_bytes() == uninterrupted


def test_the_log_has_one_line_a_log_step_after_a_crash(tmp_path):
    run(Toy(), profile="smoke", device="cpu", steps=8, out=tmp_path, progress=False)
    with (tmp_path / "log.jsonl").open("a") as file:  # steps that a crash lost after they were logged
        file.write('{"step": 10, "leader": 0}\n{"step": 15, "lea')
    result = run(Toy(), profile="smoke", device="cpu", steps=20, out=tmp_path, progress=False)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10, 15, 20]
    assert lines == result.history


def test_two_processes_end_with_the_parameters_of_one_on_the_joined_batch(tmp_path):
    assert toy_process(tmp_path / "one", "smoke", 60).wait(120) == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]  # torchrun
    command += ["-m", "tests.training.toy", str(tmp_path / "two"), "smoke", "60"]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    one, two = (checkpoints.read(tmp_path / name / "last.safetensors")["states"] for name in ("one", "two"))
    for part in ("part leader", "part follower", "ema"):
        for name, expected in one[part].items():
            torch.testing.assert_close(two[part][name], expected, atol=1e-5, rtol=0)


def test_processes_that_cannot_share_a_batch_evenly_are_refused(monkeypatch):
    from aigc_lib.training import engine

    class Three:
        num_processes = 3

    monkeypatch.setattr(engine, "make_accelerator", lambda *_: Three())
    with pytest.raises(ValueError, match="3 processes cannot share a batch of 8"):
        run(Toy(), profile="smoke")


def test_a_folder_of_another_run_is_refused(tmp_path):
    run(Toy(), profile="smoke", device="cpu", steps=4, out=tmp_path, progress=False)
    with pytest.raises(CheckpointError, match=r"another run: seed 0 \(now 1\)"):
        run(Toy(), profile="smoke", device="cpu", steps=4, seed=1, out=tmp_path, progress=False)
    with pytest.raises(CheckpointError, match="config"):
        run(Toy(ToyConfig(width=9)), profile="smoke", device="cpu", steps=4, out=tmp_path, progress=False)
    assert (
        run(Toy(), profile="smoke", device="cpu", steps=4, seed=1, out=tmp_path, resume=False, progress=False).step == 4
    )


def test_a_loss_that_is_not_finite_stops_the_run():
    toy = Toy()
    toy.step = lambda x: {"leader": torch.tensor(float("nan"))}
    with pytest.raises(TrainingDiverged, match="leader is not finite at step 5"):
        run(toy, profile="smoke", device="cpu", progress=False)


def test_the_schedule_and_the_seed_decide_the_result():
    weights = {
        seed: run(Toy(), profile="smoke", device="cpu", seed=seed, progress=False).recipe.parts["leader"].weight
        for seed in (0, 0, 1)
    }
    again = run(Toy(), profile="smoke", device="cpu", seed=0, progress=False).recipe.parts["leader"].weight
    assert torch.equal(weights[0], again)
    assert not torch.equal(weights[0], weights[1])


def test_bfloat16_autocast_and_compile_train_to_the_same_place():
    exact = run(Toy(), profile="smoke", device="cpu", progress=False).history[-1]["leader"]
    rough = run(Toy(), profile="smoke", device="cpu", precision="bfloat16", progress=False)
    assert rough.recipe.context.accelerator.mixed_precision == "bf16"
    assert rough.history[-1]["leader"] == pytest.approx(exact, abs=0.02)
    assert rough.history[-1]["leader"] != exact
    compiled = run(Toy(), profile="smoke", device="cpu", compile=True, progress=False)
    assert compiled.history[-1]["leader"] == pytest.approx(exact, abs=1e-4)


def test_what_the_run_says_at_its_start(capsys):
    run(Toy(), profile="smoke", device="cpu", steps=1)
    said = capsys.readouterr()
    assert "training for 1 steps of 8 examples on cpu, 1 process, float32" in said.out + said.err


def test_an_unknown_profile_names_the_choices():
    with pytest.raises(ValueError, match="profile must be one of smoke, laptop, gpu, got 'huge'"):
        train("gan", profile="huge")


@given(n=st.integers(1, 50), batch=st.integers(1, 70), seed=st.integers(0, 2**31), step=st.integers(0, 40))
@settings(deadline=None)
def test_every_pass_shows_each_example_once_and_any_step_can_be_asked_first(n, batch, seed, step):
    order = DataOrder(n, batch, seed)
    stream = torch.cat([order.indices(k) for k in range(step + 1)])
    for start in range(0, len(stream) - n + 1, n):
        assert sorted(stream[start : start + n].tolist()) == list(range(n))
    assert torch.equal(DataOrder(n, batch, seed).indices(step), stream[-batch:])


def test_an_empty_training_split_is_refused():
    with pytest.raises(ValueError, match="nothing to train on"):
        DataOrder(0, 4, 0)


@pytest.mark.parametrize(("max_norm", "expected"), [(None, 5.0), (10.0, 5.0), (1.0, 1.0)])
def test_a_long_gradient_is_shortened_and_a_short_one_is_not(max_norm, expected):
    recipe = run(Toy(), profile="smoke", device="cpu", steps=1, progress=False).recipe
    weight = torch.nn.Parameter(torch.zeros(2))
    optimiser = torch.optim.SGD([weight], lr=1.0)
    recipe.context.update((weight * torch.tensor([3.0, 4.0])).sum(), optimiser, max_norm=max_norm)
    torch.testing.assert_close(weight.detach(), -expected * torch.tensor([0.6, 0.8]), atol=1e-5, rtol=0)
