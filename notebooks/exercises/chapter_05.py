"""Exercises of chapter 5: sizes, batch normalisation, scaling, and a loss that stays finite."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from aigc_lib.teaching.exercises import exercise


@exercise(
    "5.2.1-convolution-parameters",
    question="How many parameters has nn.ConvTranspose2d(64, 32, 4, 2, 1), bias included?",
    hint="One 4×4 kernel for every pair of an input and an output channel, one bias for every output channel.",
)
def convolution_parameters(answer) -> bool:
    return answer == 64 * 32 * 4 * 4 + 32


@exercise(
    "5.2.1-same-padding",
    question="Which three sides do the listing's convolutions give for 28 pixels, and which for 7?",
    hint="Halve and round up, three times.",
)
def same_padding(answer) -> bool:
    for_28, for_7 = answer
    return (tuple(for_28), tuple(for_7)) == ((14, 7, 4), (4, 2, 1))


@exercise(
    "5.2.1-batch-of-two",
    question="Batch normalisation of two different values x1 < x2, with epsilon 0: what comes out?",
    hint="Both lie equally far from their mean. What is the standard deviation (divide by 2, not by 1)?",
)
def batch_of_two(answer) -> bool:
    low, high = answer
    return math.isclose(low, -1, abs_tol=1e-3) and math.isclose(high, 1, abs_tol=1e-3)


@exercise(
    "5.2.1-scale",
    question="Write scale(pixels): uint8 to float32 in [-1, 1], 0 to -1 and 255 to 1 exactly.",
    hint="Convert before you compute, then divide by half of 255.",
)
def scale(answer) -> bool:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    scaled = answer(pixels)
    ends_are_exact = scaled.dtype == torch.float32 and scaled.min() == -1 and scaled.max() == 1
    return bool(ends_are_exact) and torch.allclose(scaled, torch.linspace(-1, 1, 256).view(1, 1, 16, 16), atol=1e-6)


@exercise(
    "5.3.1-stable-loss",
    question="Write (5.3.1b) on logits so that it is right and finite for logits of ±1,000.",
    hint="−log σ(a) is log(1 + exp(−a)). PyTorch has a function for log(1 + exp(x)) that does not overflow.",
)
def stable_loss(answer) -> bool:
    ordinary = torch.linspace(-4, 4, 9), torch.linspace(-3, 5, 9)
    extreme = torch.tensor([1000.0, -1000.0]), torch.tensor([-1000.0, 1000.0])
    return all(
        torch.isclose(answer(real, fake), F.softplus(-real).mean() + F.softplus(fake).mean(), rtol=1e-5)
        for real, fake in (ordinary, extreme)
    )


@exercise(
    "5.2.2-one-hot",
    question="10,000 windows of 100 words, vocabulary 10,000: GB (10⁹ bytes) as one-hot float32, and as int64.",
    hint="Four bytes for each of windows · words · vocabulary; eight for each of windows · words.",
)
def one_hot(answer) -> bool:
    rows, numbers = answer
    return math.isclose(rows, 40, rel_tol=1e-3) and math.isclose(numbers, 0.008, rel_tol=1e-3)


@exercise(
    "5.2.2-lstm-parameters",
    question="Parameters of an LSTM layer with 256 inputs and 1024 units, one bias a gate as in Keras?",
    hint="Four gates, each a dense layer on the input and the last output together.",
)
def lstm_parameters(answer) -> bool:
    return answer == 4 * (1024 * (256 + 1024) + 1024)


@exercise(
    "5.2.2-masked-loss",
    question="Write loss(logits (B, T, V), targets (B, T), padding): mean cross-entropy of what is no padding.",
    hint="Divide by the number of real targets, not by B · T. Does a batch with other padding give the same?",
)
def masked_loss(answer) -> bool:
    draw = torch.Generator().manual_seed(5)
    logits, targets = torch.randn(2, 6, 7, generator=draw), torch.randint(1, 7, (2, 6), generator=draw)
    targets[0, 3:] = 0
    kept = targets != 0
    expected = F.cross_entropy(logits[kept], targets[kept])
    return torch.allclose(answer(logits, targets, 0), expected, atol=1e-5)


@exercise(
    "5.2.3-causal",
    question="causal(x, weights, dilation): a dilated convolution (T,) -> (T,) whose output t sees nothing after t.",
    hint="Put (k − 1) · dilation zeros before the sequence, none behind it. The last weight belongs to the present.",
)
def causal_convolution(answer) -> bool:
    x = torch.randn(20, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for weights, dilation in (([0.5, -1.0], 3), ([1.0, 2.0, -0.5], 4), ([2.0], 5)):
        taps = torch.zeros((len(weights) - 1) * dilation + 1, dtype=torch.float64)
        taps[::dilation] = torch.tensor(weights[::-1])  # by lag
        expected = torch.from_numpy(np.convolve(x, taps)[:20])
        got = answer(x, torch.tensor(weights, dtype=torch.float64), dilation)
        if got.shape != x.shape or not torch.allclose(got, expected):
            return False
    return True


@exercise(
    "5.3.3-best-guess",
    question="best_guess(probabilities, values): the constant of least expected squared error, and that error.",
    hint="Set the derivative of the expected squared error to zero. What is the error that remains called?",
)
def best_guess(answer) -> bool:
    values = torch.linspace(-1, 1, 9, dtype=torch.float64)
    chances = torch.rand(9, generator=torch.Generator().manual_seed(4), dtype=torch.float64).softmax(0)
    square = torch.tensor([0.5, 0, 0, 0, 0, 0, 0, 0, 0.5], dtype=torch.float64)
    for p in (chances, square):
        mean = p @ values
        guess, error = answer(p, values)
        if abs(float(guess) - mean) > 1e-6 or abs(float(error) - p @ (values - mean) ** 2) > 1e-6:
            return False
    return True


@exercise(
    "5.2.5-active-units",
    question="active(means, threshold): how many of Z latents have posterior means (N, Z) that vary by more?",
    hint="A variance for each latent, over the images: along which axis?",
)
def active_units(answer) -> bool:
    means = (
        torch.randn(400, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.3, 0.05, 0.0, 2.0]) + 3
    )
    return [int(answer(means, t)) for t in (0.01, 0.5, 10.0)] == [3, 2, 0] and int(answer(means[:, 3:4], 0.01)) == 0


@exercise(
    "5.2.5-psnr",
    question="psnr(a, b) in decibels for images in [−1, 1].",
    hint="10 log₁₀ of peak² over mean squared error. From −1 to 1, how large can a signal be?",
)
def peak_signal_to_noise(answer) -> bool:
    a = torch.rand(2, 1, 5, 5, generator=torch.Generator().manual_seed(1)) * 1.6 - 0.8
    return all(abs(float(answer(a, a + e)) - 20 * math.log10(2 / e)) < 1e-2 for e in (0.2, 0.02))


@exercise(
    "5.2.5-purified-direction",
    question="The part of a direction d (Z,) that is at right angles to another one.",
    hint="Subtract the projection of d on the other direction. It may have any length.",
)
def purified_direction(answer) -> bool:
    d, other = torch.randn(2, 6, generator=torch.Generator().manual_seed(2))
    expected = d - (d @ other) / (other @ other) * other
    return all(torch.allclose(answer(d, s * other), expected, atol=1e-5) for s in (1.0, 3.0, -0.5))


@exercise(
    "5.2.4-futures",
    question="lowest_error(flows (N, 2)): the least mean squared error of a network that sees the first frame alone.",
    hint="It has to give one answer for all N. Which answer minimises the sum of squares, and what remains then? "
    "The squared error of a vector is the sum over its two components.",
)
def lowest_error(answer) -> bool:
    flows = 5 * torch.randn(7, 2, generator=torch.Generator().manual_seed(3)) + torch.tensor([4.0, -2.0])
    opposite = torch.tensor([[5.0, -3.0], [-5.0, 3.0]])
    return all(
        math.isclose(float(answer(some)), (some - some.mean(dim=0)).square().sum(dim=1).mean().item(), rel_tol=1e-4)
        for some in (flows, opposite)
    ) and math.isclose(float(answer(flows[:1])), 0, abs_tol=1e-4)


@exercise(
    "5.2.4-ahead",
    question="ahead(before, last, k): how far a point goes in the next k steps, its acceleration being constant.",
    hint="Each step differs from the one before by the same vector. Add up k steps; the extra parts are 1 + 2 + … + k.",
)
def ahead(answer) -> bool:
    start, speed, pull = (torch.tensor(pair) for pair in ((3.0, 40.0), (2.0, -7.0), (0.5, 1.5)))
    at = [start + speed * t + pull * t**2 / 2 for t in range(8)]
    before, last = at[1] - at[0], at[2] - at[1]
    return all(torch.allclose(answer(before, last, k), at[2 + k] - at[2], atol=1e-4) for k in (1, 2, 5))


@exercise(
    "5.3.4-chained",
    question="chained(first, second): the flow from frame 1 to 3 from the flows 1 → 2 and 2 → 3, both (B, 2, H, W).",
    hint="A point has left its place when the second flow takes hold of it. Where has that flow to be read?",
)
def chained(answer) -> bool:
    y, x = torch.meshgrid(*[torch.arange(24.0) - 11.5] * 2, indexing="ij")
    points, shift = torch.stack([x, y]), torch.tensor([2.0, 1.0]).view(2, 1, 1)
    turn = torch.tensor([[math.cos(0.3), -math.sin(0.3)], [math.sin(0.3), math.cos(0.3)]])
    turned, turned_later = (torch.einsum("ij,jhw->ihw", turn, where) for where in (points, points + shift))
    got = answer(shift.expand_as(points)[None].clone(), (turned - points)[None])  # first a shift, then a turn
    inner = (..., slice(5, -5), slice(5, -5))  # no point comes from outside of the picture
    return torch.allclose(got[inner], (turned_later - points)[None][inner], atol=1e-3)


@exercise(
    "5.3.4-shares",
    question="shares(errors (N, 2)): the largest error's share of the gradients' lengths, squared and end-point error.",
    hint="The gradient of ‖e‖² is 2e; that of ‖e‖ is e/‖e‖, whatever the length of e.",
)
def shares(answer) -> bool:
    errors = torch.randn(50, 2, generator=torch.Generator().manual_seed(4))
    errors[7] = torch.tensor([60.0, -80.0])
    squared, end_point = answer(errors)
    expected = 100 / errors.norm(dim=1).sum().item()
    return math.isclose(float(squared), expected, rel_tol=1e-3) and math.isclose(float(end_point), 1 / 50, rel_tol=1e-3)
