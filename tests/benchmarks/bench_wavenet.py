"""Samples a second of the three ways to draw from a WaveNet, on one core: naive, cached, compiled; length and layers.

Run by hand: `python tests/benchmarks/bench_wavenet.py`. CPU time (`time.process_time`), so that a shared core counts as
much as an idle one; best and median of several rounds. The network is the issue's yardstick: 10 layers, 64 residual, 64
skip and 128 gate channels, 256 levels, batch 1; at least 16,000 samples a second are asked of the compiled way.
"""

import time
from statistics import median

import torch

from aigc_lib.models.wavenet import WaveNet, WaveNetConfig

WAYS = {"naive": (False, False, 1_100), "cached": (True, False, 500), "compiled": (True, True, 4_000)}
ROUNDS = 5


def rates(model: WaveNet, n_samples: int, *, cached: bool = True, compiled: bool = True, rounds: int = ROUNDS) -> list:
    """Samples a second in each round; the mel is of noise where the model wants one."""
    c, generator = model.config, torch.Generator().manual_seed(0)
    n_samples = -(-n_samples // c.hop_length) * c.hop_length if c.n_mels else n_samples
    mel = torch.randn(1, c.n_mels, n_samples // c.hop_length, generator=generator) - 5 if c.n_mels else None
    found = []
    for _ in range(rounds):
        start = time.process_time()
        model.generate(n_samples, mel, cached=cached, compiled=compiled, generator=generator)
        found.append(n_samples / (time.process_time() - start))
    return found


def line(name: str, found: list[float]) -> None:
    print(f"{name:44} best {max(found):9,.0f}   median {median(found):9,.0f} samples/s")


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = WaveNet(WaveNetConfig())
    rates(model, 16, rounds=1)  # compiles
    for name, (cached, compiled, n) in WAYS.items():
        line(name, rates(model, n, cached=cached, compiled=compiled, rounds=1 if name == "naive" else ROUNDS))
    line("compiled, with a mel", rates(WaveNet(WaveNetConfig(n_mels=80)), 4_096))
    line("compiled, float64", rates(WaveNet(WaveNetConfig()).double(), 4_000))
    for n in (1_000, 4_000, 16_000, 64_000):
        line(f"compiled, {n:,} samples", rates(model, n, rounds=3))
    for stacks in (1, 2, 4):
        line(f"compiled, {10 * stacks} layers", rates(WaveNet(WaveNetConfig(n_stacks=stacks)), 4_000))


if __name__ == "__main__":
    main()
