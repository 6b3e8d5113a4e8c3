"""`make gpu-check`: the tests that need a GPU, then 100 steps of every recipe in bfloat16 and compiled."""

import subprocess
import sys
import time
from pathlib import Path

import torch

from aigc_lib.training.engine import run
from aigc_lib.training.recipes import names, resolve

STEPS = 100
CPU_STEPS = 10
WARM_UP = 10


def measure(name: str, *, device: str, steps: int, **options: object) -> tuple[float, float]:
    """Speed in steps a second after a warm-up, and on CUDA the peak of allocated memory in MB (0 elsewhere).

    The warm-up, which holds the compilation, is part of the `steps` but not of the time.
    """
    recipe, times = resolve(name)(), []
    step = recipe.step

    def timed_step(*batch: torch.Tensor) -> dict[str, torch.Tensor]:
        losses = step(*batch)
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter())
        return losses

    recipe.step = timed_step
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    run(recipe, profile="laptop", device=device, steps=steps, progress=False, **options)
    warm = min(WARM_UP, steps // 2)
    speed = (len(times) - 1 - warm) / (times[-1] - times[warm])
    return speed, torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else 0.0


def main() -> int:
    """Print one line a recipe and return the exit code of the tests. Without a GPU, say that there is nothing to do."""
    if not torch.cuda.is_available():
        print("gpu-check: torch sees no CUDA device here, so there is nothing to check")
        return 0
    print(f"gpu-check: {torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    root = Path(__file__).parents[2]
    code = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "gpu", str(root / "tests")], check=False
    ).returncode
    print(f"{'recipe':<20} {'GPU steps/s':>12} {'GPU MB':>8} {'CPU steps/s':>12} {'ratio':>7}")
    for name in names():
        gpu, memory = measure(name, device="cuda", steps=STEPS, precision="bfloat16", compile=True)
        cpu, _ = measure(name, device="cpu", steps=CPU_STEPS)
        print(f"{name:<20} {gpu:>12.1f} {memory:>8.0f} {cpu:>12.1f} {gpu / cpu:>7.1f}", flush=True)
    return code
