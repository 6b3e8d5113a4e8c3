"""How slowly Thompson sampling's regret comes up to the slope that Lai and Robbins promise.

Run by hand: `python tests/benchmarks/bench_bandits.py`, two minutes of one core. Four variants, 200 runs, 100,000
rounds; the slope over each decade of rounds, divided by the constant, with its 95 % interval over the runs.
"""

from itertools import pairwise, repeat

import torch

from aigc_lib.dissemination.bandits import ThompsonSampling, lai_robbins, play

MEANS, N_RUNS = torch.tensor([0.6, 0.45, 0.3, 0.1], dtype=torch.float64), 200
DECADES = (10, 100, 1000, 10**4, 10**5)


def main() -> None:
    numbers = torch.Generator().manual_seed(0)
    policy = ThompsonSampling(N_RUNS, len(MEANS), generator=numbers)
    alike = MEANS.expand(N_RUNS, -1)
    so_far = play(policy, repeat((None, alike), DECADES[0]), generator=numbers)[-1]
    print(f"constant {lai_robbins(MEANS):.3f}\n\n| rounds | slope / constant |\n| --- | --- |")
    for start, end in pairwise(DECADES):
        before = so_far
        for n_rounds in [1000] * ((end - start) // 1000) + [(end - start) % 1000]:  # in pieces: memory
            if n_rounds:
                so_far = so_far + play(policy, repeat((None, alike), n_rounds), generator=numbers)[-1]
        slopes = (so_far - before) / torch.tensor(end / start).log() / lai_robbins(MEANS)
        error = slopes.std().item() / N_RUNS**0.5
        print(f"| {start:,} to {end:,} | {slopes.mean():.2f} ± {1.96 * error:.2f} |", flush=True)


if __name__ == "__main__":
    main()
