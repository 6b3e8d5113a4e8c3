"""Exercises of chapter 4: the mathematics of the eight systems."""

import math

import torch

from aigc_lib.teaching.exercises import exercise


def _close(got: object, expected: float, *, within: float = 1e-3) -> bool:
    return abs(float(got) - expected) <= within  # type: ignore[arg-type]


@exercise(
    "4.0-baseline",
    question="Which constant c gives (z² − c)·∇log p(z), z ~ N(m, 1), the least variance? A function of m.",
    hint="The mean does not depend on c, so minimise E[(z² − c)² (z − m)²] over c: a parabola in c.",
)
def baseline(answer) -> bool:
    return all(_close(answer(m), m**2 + 3) for m in (-2.0, 0.0, 1.5, 4.0))


@exercise(
    "4.1-disjoint-supports",
    question="Point masses at 0 and at θ = 0.3: JSD, dJSD/dθ, W₁, dW₁/dθ.",
    hint="What is JSD without a common picture, and does it notice when θ moves? W₁ is mass times way.",
)
def disjoint_supports(answer) -> bool:
    divergence, its_slope, distance, distance_slope = answer
    return (
        _close(divergence, math.log(2)) and _close(its_slope, 0) and _close(distance, 0.3) and _close(distance_slope, 1)
    )


@exercise(
    "4.1-unequal-odds",
    question="The best logit when a share of the pictures shown to D is real: a function of p_data, p_g, share.",
    hint="Bayes again, with prior odds that are not 1. The logit is the logarithm of the posterior odds.",
)
def unequal_odds(answer) -> bool:
    cases = ((0.3, 0.1, 0.5), (0.3, 0.1, 0.2), (0.05, 0.4, 0.9), (0.2, 0.2, 0.75))
    return all(_close(answer(p, q, share), math.log(p * share / (q * (1 - share)))) for p, q, share in cases)


@exercise(
    "4.1-wasserstein-by-sorting",
    question="W₁ of two samples (N,) of equal size, without a loop and without optimisation.",
    hint="In one dimension paths that cross can be swapped without more work. Who then goes to whom?",
)
def wasserstein_by_sorting(answer) -> bool:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 501, generator=draw)
    shuffled = x[torch.randperm(501, generator=draw)]
    crossing = torch.tensor([0.0, 1.0, 5.0]), torch.tensor([2.0, 0.0, 4.0])  # 0→0, 1→2, 5→4: a mean of 2/3
    return (
        _close(answer(x, shuffled), 0)
        and _close(answer(x, x + 3), 3)
        and _close(answer(*crossing), 2 / 3)
        and _close(answer(x, 1.5 * y), answer(1.5 * y, x))
    )


@exercise(
    "4.1-spectral-norm",
    question="The largest singular value of a matrix by power iteration, without a decomposition.",
    hint="Start from any vector v. After the iterations u and v are unit vectors: how long is W v, seen along u?",
)
def spectral_norm(answer) -> bool:
    draw = torch.Generator().manual_seed(1)
    for shape, scale in (((5, 5), 1.0), ((3, 8), 0.1), ((40, 7), 3.0)):
        u, _ = torch.linalg.qr(torch.randn(shape[0], shape[0], generator=draw))
        v, _ = torch.linalg.qr(torch.randn(shape[1], shape[1], generator=draw))
        n = min(shape)
        singular = scale * torch.linspace(1, 0.2, n)  # a gap, so that 200 iterations are plenty
        if not _close(answer((u[:, :n] * singular) @ v[:, :n].T), scale, within=1e-4 * scale):
            return False
    return True


@exercise(
    "4.1-batch-of-one",
    question="Batch normalisation of a batch of one: how far apart are two outputs, and what does PyTorch raise?",
    hint="With one image, what is x minus the mean over the batch? Try nn.BatchNorm1d(3)(torch.randn(1, 3)).",
)
def batch_of_one(answer) -> bool:
    distance, name = answer
    return distance == 0 and getattr(name, "__name__", name) == "ValueError"
