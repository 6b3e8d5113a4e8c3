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


@exercise(
    "4.2-two-gaussians",
    question="KL(N(m1, s1²) ‖ N(m2, s2²)) of two Gaussians with standard deviations s1 and s2.",
    hint="E_q of log q − log p: you need E(z − m1)² = s1² and E(z − m2)² = s1² + (m1 − m2)².",
)
def two_gaussians(answer) -> bool:
    cases = ((0.0, 1.0, 0.0, 1.0), (0.5, 0.3, 0.0, 1.0), (1.0, 2.0, -1.0, 0.5), (-2.0, 0.1, 3.0, 4.0))
    return all(
        _close(answer(m1, s1, m2, s2), math.log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - 0.5)
        for m1, s1, m2, s2 in cases
    )


@exercise(
    "4.2-surgery",
    question="Mutual information and KL(q(z) ‖ p(z)) of a table q(z|x) (N, K), all x equally likely, and a prior (K,).",
    hint="Average the rows to get q(z). Each part is a mean over x of Σ q(z|x) log of a ratio: which ratio?",
)
def surgery(answer) -> bool:
    draw = torch.Generator().manual_seed(2)
    for n, k in ((4, 3), (10, 6)):
        q = torch.rand(n, k, generator=draw, dtype=torch.float64).pow(3).softmax(1)
        p = torch.rand(k, generator=draw, dtype=torch.float64).softmax(0)
        marginal = q.mean(0)
        information = (q * (q / marginal).log()).sum(1).mean()
        information_got, divergence_got = answer(q, p)
        right = _close(information_got, information, within=1e-6)
        if not (right and _close(divergence_got, (marginal * (marginal / p).log()).sum(), within=1e-6)):
            return False
    return True


@exercise(
    "4.2-collapse",
    question="Variances 5, 2, 0.8, 0.3: active latents at s² = 1; at s² = 1 and β = 3; s² learned with two latents.",
    hint="A direction is coded if its variance exceeds β s². What is left over by two latents has to be noise.",
)
def collapse(answer) -> bool:
    active, active_beta, variance = answer
    return active == 2 and active_beta == 1 and _close(variance, 0.55)


@exercise(
    "4.2-rate",
    question="Rate in nats of a direction of variance lam in the best linear VAE, as a function of lam, beta, s2.",
    hint="½ log of variance over squared error; (4.2-16) says which error is best. A rate is never negative.",
)
def rate_of_a_direction(answer) -> bool:
    cases = ((4.0, 1.0, 1.0), (4.0, 2.0, 0.1), (0.5, 1.0, 1.0), (1.5, 0.2, 0.3), (3.0, 4.0, 1.0))
    return all(_close(answer(lam, beta, s2), max(0.0, math.log(lam / (beta * s2)) / 2)) for lam, beta, s2 in cases)


@exercise(
    "4.2-importance-bound",
    question="log of the mean weight from log-weights (K, B), also where exp() of them is 0.",
    hint="Take the largest log-weight out of the sum before you exponentiate. Do not forget the 1/K.",
)
def importance_bound(answer) -> bool:
    log_weights = torch.randn(7, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    expected = log_weights.exp().mean(0).log()
    return all(
        torch.allclose(answer(log_weights + offset), expected + offset, atol=1e-6) for offset in (0.0, -1000.0, 500.0)
    )


@exercise(
    "4.3-units",
    question="1.48 nats a character: how many bits is that, and which perplexity?",
    hint="A bit is log 2 nats. Perplexity is the exponential of the nats, not of the bits.",
)
def units(answer) -> bool:
    bits, perplexity = answer
    return _close(bits, 1.48 / math.log(2), within=5e-3) and _close(perplexity, math.exp(1.48), within=1e-2)


@exercise(
    "4.3-half-life",
    question="After how many steps has a gradient along the cell halved, if all forget gates stand at sigmoid(bias)?",
    hint="After n steps the factor is sigmoid(bias) to the power of n. Solve for n; it need not be whole.",
)
def half_life(answer) -> bool:
    return all(_close(answer(b), math.log(2) / math.log1p(math.exp(-b)), within=0.01) for b in (-1.0, 0.0, 1.0, 4.0))


@exercise(
    "4.3-jacobian",
    question="dh_T/dh_0 of an Elman network from its states (T, H) and W_hh (H, H), without autograd.",
    hint="One factor diag(1 − h²) W a step. The latest step stands on the left.",
)
def jacobian(answer) -> bool:
    draw = torch.Generator().manual_seed(4)
    weight, push = (torch.randn(shape, generator=draw, dtype=torch.float64) for shape in ((3, 3), (6, 3)))

    def run(h, keep):
        for each in push:
            h = torch.tanh(weight @ h + 0.5 * each)
            keep.append(h)
        return h

    states: list[torch.Tensor] = []
    run(torch.zeros(3, dtype=torch.float64), states)
    expected = torch.autograd.functional.jacobian(lambda h: run(h, []), torch.zeros(3, dtype=torch.float64))
    return torch.allclose(answer(torch.stack(states), weight), expected, atol=1e-9)


@exercise(
    "4.3-nucleus",
    question="How many tokens does top-p keep? From probabilities (V,) and top_p.",
    hint="Sort from the likeliest down and add up. The token that reaches top_p is still in.",
)
def nucleus(answer) -> bool:
    probabilities = torch.tensor([0.05, 0.5, 0.15, 0.25, 0.05], dtype=torch.float64)
    cases = ((0.1, 1), (0.49, 1), (0.6, 2), (0.8, 3), (0.92, 4), (0.99, 5))
    return all(int(answer(probabilities, top_p)) == size for top_p, size in cases)


@exercise(
    "4.3-exposure",
    question="Share of the first T tokens that are right, if each step errs with probability epsilon and for good.",
    hint="Token t is right if none of the steps 1 to t erred. Then take the mean over t: a geometric series.",
)
def exposure(answer) -> bool:
    def share(epsilon, n):
        return sum((1 - epsilon) ** t for t in range(1, n + 1)) / n

    return all(
        _close(answer(e, n), share(e, n), within=1e-4) for e, n in ((0.1, 1), (0.01, 100), (0.3, 7), (0.002, 50))
    )


@exercise(
    "4.3-backwards",
    question="The matrix of a chain read from right to left, from its matrix P (V, V) and its long-run shares (V,).",
    hint="Bayes: the letter before a j was an i with a probability proportional to (share of i) · P[i, j].",
)
def backwards(answer) -> bool:
    P = torch.tensor([[0.1, 0.6, 0.3], [0.1, 0.2, 0.7], [0.7, 0.2, 0.1]], dtype=torch.float64)
    shares = torch.linalg.matrix_power(P, 200)[0]
    joint = shares[:, None] * P
    return torch.allclose(answer(P, shares), joint.T / joint.sum(0)[:, None], atol=1e-6)


@exercise(
    "4.4-scale",
    question="By which number must q·k be multiplied to have variance 1? A function of d_k and both variances a, b.",
    hint="Each term q_i k_i has variance a·b, and variances of independent terms add. A factor c multiplies it by c².",
)
def attention_scale(answer) -> bool:
    cases = ((64, 1.0, 1.0), (16, 4.0, 1.0), (100, 0.5, 2.0), (8, 9.0, 0.25))
    return all(_close(answer(d_k, a, b), (d_k * a * b) ** -0.5, within=1e-6) for d_k, a, b in cases)


@exercise(
    "4.4-chunk-mask",
    question="The mask (T, S), True where allowed, for the last T of S tokens. A function of T and S.",
    hint="The first of the new tokens has S − T tokens before it. A triangle may be moved along its row.",
)
def chunk_mask(answer) -> bool:
    for T, S in ((1, 5), (3, 5), (4, 4), (2, 7)):
        mask = torch.as_tensor(answer(T, S))
        expected = torch.tensor([[s <= S - T + t for s in range(S)] for t in range(T)])
        if mask.dtype != torch.bool or mask.shape != expected.shape or not torch.equal(mask, expected):
            return False
    return True


@exercise(
    "4.4-shift-matrix",
    question="The matrix R (d, d) with PE(t + k) = R·PE(t) for all t. A function of k and d.",
    hint="Blocks of two: sin ω(t + k) = sin ωt cos ωk + cos ωt sin ωk, and the cosine likewise.",
)
def shift_matrix(answer) -> bool:
    from aigc_lib.models.attention import sinusoidal_positions

    for k, d in ((1, 4), (7, 8), (30, 6)):
        places = sinusoidal_positions(torch.arange(100, dtype=torch.float64), d)
        turned = places[:-k].double() @ torch.as_tensor(answer(k, d)).double().T
        if turned.shape != places[k:].shape or (turned - places[k:]).abs().max() > 1e-4:
            return False
    return True


@exercise(
    "4.4-cache-memory",
    question="Bytes of a cache of T tokens, and the number of tokens at which it is as large as the blocks' weights.",
    hint="Keys and values, for every layer, token and channel. Then set 2·T·d equal to 12·d².",
)
def cache_memory(answer) -> bool:
    for n_layers, T, d, size in ((4, 256, 160, 4), (12, 1024, 768, 2)):
        bytes_, tokens = answer(n_layers, T, d, size)
        if not (_close(bytes_, 2 * n_layers * T * d * size) and _close(tokens, 6 * d)):
            return False
    return True


@exercise(
    "4.4-smoothed-minimum",
    question="The least possible loss with label smoothing ε over V tokens. A function of ε and V.",
    hint="Cross-entropy is smallest when the model says the target's own distribution: it is that one's entropy.",
)
def smoothed_minimum(answer) -> bool:
    def entropy(epsilon: float, V: int) -> float:
        right, wrong = 1 - epsilon + epsilon / V, epsilon / V
        return -right * math.log(right) - (V - 1) * wrong * math.log(wrong)

    return all(_close(answer(e, V), entropy(e, V)) for e, V in ((0.1, 10), (0.1, 37_000), (0.3, 5)))


@exercise(
    "4.5-stacks",
    question="Stacks of ten layers (two taps, dilations 1 to 512) for a receptive field of `seconds` at `sample_rate`?",
    hint="One stack adds 1,023 samples to the one that is always seen. The number of stacks is a whole number.",
)
def stacks(answer) -> bool:
    cases = ((0.3, 16_000), (0.064, 16_000), (0.128, 16_000), (1.0, 24_000))
    return all(answer(seconds, rate) == math.ceil((round(seconds * rate) - 1) / 1023) for seconds, rate in cases)


@exercise(
    "4.5-plateau",
    question="Signal to noise in dB of a loud sound, with B bits and a large μ. A function of B and μ.",
    hint="Where μ|x| is large, (1 + μ|x|)² is μ²x²: the mean of x² cancels. Then put in Δ = 2/2^B.",
)
def plateau(answer) -> bool:
    cases = ((8, 255), (10, 1023), (12, 255))
    return all(
        _close(answer(bits, mu), 10 * math.log10(3 * 4**bits / math.log1p(mu) ** 2), within=0.02) for bits, mu in cases
    )


@exercise(
    "4.5-queue",
    question="Numbers that the queues of a cached WaveNet hold: a function of K, the dilations and the channels.",
    hint="A layer needs its own inputs of d, 2d, … (K − 1)d samples ago, and therefore all in between.",
)
def queue(answer) -> bool:
    cases = ((2, [1, 2, 4, 8], 64), (3, [1, 2, 4] * 2, 8), (4, [5], 1))
    return all(answer(k, list(d), c) == (k - 1) * sum(d) * c for k, d, c in cases)


@exercise(
    "4.5-leak",
    question="Samples of the future that a stack with `same` padding sees. A function of kernel sizes and dilations.",
    hint="Half of a kernel lies to the right of its middle. Layers on top of each other add up, as for R.",
)
def leak(answer) -> bool:
    cases = (([3, 3, 3], [1, 2, 4]), ([5, 3], [1, 8]), ([1], [4]))
    return all(answer(list(k), list(d)) == sum((a - 1) // 2 * b for a, b in zip(k, d, strict=True)) for k, d in cases)


@exercise(
    "4.5-bits",
    question="Least bits a sample on white noise of n levels with equal odds: with R = 1,024, and with R = 1.",
    hint="Is there anything in the past that helps?",
)
def noise_bits(answer) -> bool:
    return all(_close(each, math.log2(n)) for n in (2, 10, 256) for each in answer(n)) and len(answer(4)) == 2


@exercise(
    "4.6-lu",
    question="log|det W| of W = P L (U + diag s), from the four tensors, without a determinant of W.",
    hint="A determinant of a product is the product of determinants. What are those of P, of L and of a triangle?",
)
def lu(answer) -> bool:
    generator = torch.Generator().manual_seed(0)
    for n in (2, 5):
        L = torch.tril(torch.randn(n, n, generator=generator, dtype=torch.float64), -1) + torch.eye(n)
        U = torch.triu(torch.randn(n, n, generator=generator, dtype=torch.float64), 1)
        s = torch.randn(n, generator=generator, dtype=torch.float64)
        P = torch.eye(n, dtype=torch.float64)[torch.randperm(n, generator=generator)]
        expected = torch.linalg.slogdet(P @ L @ (U + s.diag())).logabsdet
        if not _close(answer(P, L, U, s), expected.item(), within=1e-8):
            return False
    return True


@exercise(
    "4.6-actnorm",
    question="(s, b, log_det) of z = s ⊙ (x + b) from a batch x (B, C, S): mean 0, variance 1 a channel.",
    hint="Mean and variance over batch and steps, one a channel. Every step is scaled by all C entries of s.",
)
def actnorm(answer) -> bool:
    x = 3 * torch.randn(6, 4, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 2
    s, b, log_det = answer(x)
    s, b = torch.as_tensor(s).reshape(1, 4, 1), torch.as_tensor(b).reshape(1, 4, 1)
    z = (s * (x + b)).transpose(0, 1).flatten(1)
    right = z.mean(1).abs().max() < 1e-8 and (z.square().mean(1) - 1).abs().max() < 0.05  # either divisor of a variance
    return bool(right) and _close(log_det, 10 * s.abs().log().sum().item(), within=1e-8)


@exercise(
    "4.6-bits",
    question="Bits a sample of 31,000 nats of log-likelihood for 16,000 dequantised samples of 16 bits.",
    hint="(4.6-8): nats to bits is a division by log 2, and a level is 2⁻¹⁵ wide.",
)
def bits(answer) -> bool:
    return _close(answer, -31_000 / (16_000 * math.log(2)) + 15, within=1e-3)


@exercise(
    "4.6-temperature",
    question="Nats by which draws at temperature T are likelier, on average, than draws at 1. A function of T and N.",
    hint="log p(x) is −½‖z‖² plus what does not depend on z. What is the mean of ‖z‖² at T?",
)
def temperature(answer) -> bool:
    return all(_close(answer(T, N), N * (1 - T**2) / 2) for T, N in ((0.6, 16_000), (1.0, 3), (0.1, 50)))


@exercise(
    "4.6-reach",
    question="Samples to either side that one sample can depend on: 12 couplings, 8 layers, steps of 8 samples.",
    hint="A convolution of width 3 and dilation d reaches d steps. Add up, over layers and couplings; then samples.",
)
def reach(answer) -> bool:
    return _close(answer, 12 * 255 * 8)
