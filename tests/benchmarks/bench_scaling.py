"""The larger sweep of section 8.1: losses of 48 small language models, written to data/scaling.json.

Run by hand: `python tests/benchmarks/bench_scaling.py`, about ten minutes of one core. The chapter fits the law to
these runs, predicts those that it leaves out, and trains one of them again.
"""

import json
import platform
import time
from importlib.metadata import version

import torch

from aigc_lib.paths import data_dir
from aigc_lib.training.scaling import BATCH, CONTEXT, train_run, windows

WIDTHS = (8, 12, 16, 24, 32, 48, 64, 96)
STEPS = (120, 240, 480, 960, 1920, 3840)
SEED = 0


def main() -> None:
    torch.set_num_threads(1)
    train, held_out = windows("train"), windows("validation")
    runs, start = [], time.process_time()
    for width in WIDTHS:
        for n_steps in STEPS:
            run = train_run(width, n_steps, seed=SEED, train=train, held_out=held_out)
            runs.append({"width": width, "n_steps": n_steps, **run._asdict()})
            print(runs[-1], flush=True)
    found = {
        "command": "python tests/benchmarks/bench_scaling.py",
        "data": "shakespeare, characters; held out are its validation plays",
        "seed": SEED,
        "context": CONTEXT,
        "batch": BATCH,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in ("torch", "aigc-lib")},
        "device": "cpu, 1 thread",
        "process_seconds": round(time.process_time() - start),
        "runs": runs,
    }
    path = data_dir() / "scaling.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
