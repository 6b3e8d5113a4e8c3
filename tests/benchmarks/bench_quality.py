"""How far the classes of `gan-digits` are from those of real digits, from 50,000 pictures (a minute of one core).

Run: python -m tests.benchmarks.bench_quality. Section 8.5 plans with the effect printed here.
"""

import numpy as np
import torch
from scipy import stats

import aigc_lib
from aigc_lib import datasets
from aigc_lib.models.classifier import predict


def main() -> None:
    judge, painter = aigc_lib.load("classifier-digits").eval(), aigc_lib.load("gan-digits")
    real = torch.cat([datasets.load("digits", split).images for split in ("train", "test")])
    expected = predict(judge, real).bincount(minlength=10).numpy() / len(real)
    generators = [torch.Generator().manual_seed(seed) for seed in range(1000, 1050)]
    drawn = [painter.sample(1000, generator=generator).detach() for generator in generators]
    counts = np.array([predict(judge, pictures).bincount(minlength=10).numpy() for pictures in drawn])
    total = counts.sum()
    statistic = stats.chisquare(counts.sum(0), total * expected).statistic
    effect = (statistic - 9) / total  # the mean of the statistic is 9 + n · effect
    print("shares", (counts.sum(0) / total).round(4).tolist())
    print(f"χ² {statistic:.1f} of {total} pictures, effect {effect:.4f}")
    print(f"draws of 1,000 differ no more than by chance: p = {stats.chi2_contingency(counts).pvalue:.3f}")
    for n in (2000, 4000, 6000):
        power = stats.ncx2.sf(stats.chi2.isf(0.01, 9), 9, n * effect)
        print(f"power at the level 0.01 with {n} pictures: {power:.4f}")


if __name__ == "__main__":
    main()
