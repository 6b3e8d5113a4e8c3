"""Seconds of sound a second of one and of two CPU cores, of the parallel vocoders at the size their recipes train.

Run by hand: `python tests/benchmarks/bench_vocoders.py`. The weights are random, which costs what trained ones cost.
"""

import resource
import time

import torch

from aigc_lib.models.mel import MelConfig
from aigc_lib.training.recipes.hifigan import SpeechHiFiGAN
from aigc_lib.training.recipes.waveglow import SpeechWaveGlow

SECONDS, ROUNDS = 8, 3


def main() -> None:
    config = MelConfig()
    mel = torch.full((1, config.n_mels, round(SECONDS * config.frame_rate)), -5.0)
    for recipe in (SpeechWaveGlow, SpeechHiFiGAN):
        torch.manual_seed(0)
        network = recipe.build(recipe.default_config())[recipe.main_part].eval()
        millions = sum(p.numel() for p in network.parameters()) / 1e6
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            wall, cpu = [], []
            for _ in range(ROUNDS + 1):
                start = time.perf_counter(), time.process_time()
                recipe.speak(network, mel, generator=torch.Generator().manual_seed(0))
                wall.append(time.perf_counter() - start[0])
                cpu.append(time.process_time() - start[1])
            faster, work = SECONDS / min(wall[1:]), SECONDS / min(cpu[1:])
            print(
                f"{recipe.name:16} {millions:.2f} M parameters, {n_threads} thread{'s' if n_threads > 1 else ' '}: "
                f"{faster:6.1f} × real time, {work:6.1f} s of sound a CPU second"
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:.0f} MiB")


if __name__ == "__main__":
    main()
