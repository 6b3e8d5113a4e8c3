"""Exercises of chapter 3: the steps of the four algorithms, and how to know that they are right."""

import copy
import math

import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

from aigc_lib.teaching.exercises import exercise


@exercise(
    "3.1.1-loss-value",
    question="D says 0.9 for every real image and 0.2 for every generated one. What is L_D in nats?",
    hint="Two terms: −log of what D gives the reals, and −log of one minus what it gives the fakes. Natural logarithm.",
)
def loss_value(answer) -> bool:
    return math.isclose(answer, -math.log(0.9) - math.log(0.8), abs_tol=6e-4)


@exercise(
    "3.1.1-best-accuracy",
    question="Reals from N(0, 1), fakes from N(2, 1), equally often. How accurate can the best discriminator be?",
    hint="Both densities are equal half way between the means. How probable is it to be on one's own side of it?",
)
def best_accuracy(answer) -> bool:
    return math.isclose(answer, 0.5 * math.erfc(-1 / math.sqrt(2)), abs_tol=1e-3)


class _Game:
    """Two small players with dropout-free layers, and one batch for them."""

    def __init__(self) -> None:
        noise = torch.Generator().manual_seed(3)
        self.generator, self.discriminator = nn.Linear(4, 6), nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
        for parameter in [*self.generator.parameters(), *self.discriminator.parameters()]:
            parameter.data.copy_(0.5 * torch.randn(parameter.shape, generator=noise))
        # Logits are (B,), as those of the library's discriminator.
        self.discriminator.append(nn.Flatten(0))
        self.real, self.z = torch.randn(32, 6, generator=noise) + 1, torch.randn(32, 4, generator=noise)

    def expected(self, player: nn.Module, loss) -> torch.Tensor:
        """Weights of `player` after one step of gradient descent on `loss()`; nothing is changed."""
        gradients = torch.autograd.grad(loss(), list(player.parameters()))
        weights = parameters_to_vector(player.parameters())
        return (weights - 0.1 * torch.cat([gradient.flatten() for gradient in gradients])).detach()

    @staticmethod
    def optimiser(player: nn.Module) -> torch.optim.SGD:
        return torch.optim.SGD(player.parameters(), lr=0.1)


def _moved_as(player: nn.Module, weights: torch.Tensor) -> bool:
    return torch.allclose(parameters_to_vector(player.parameters()), weights, atol=1e-5)


def _unchanged(player: nn.Module, before: nn.Module) -> bool:
    same = torch.equal(parameters_to_vector(player.parameters()), parameters_to_vector(before.parameters()))
    return same and all(p.requires_grad and (p.grad is None or not p.grad.any()) for p in player.parameters())


@exercise(
    "3.1.1-discriminator-step",
    question="Write one step of the discriminator on (3.1.1a) that leaves G unchanged and without gradients.",
    hint="Cut the generator off before D sees its images, clear old gradients, and put reals and fakes in one loss.",
)
def discriminator_step(answer) -> bool:
    game = _Game()
    before, optimiser = copy.deepcopy(game.generator), game.optimiser(game.discriminator)

    def loss():
        real, fake = game.discriminator(game.real), game.discriminator(game.generator(game.z).detach())
        return nn.functional.softplus(-real).mean() + nn.functional.softplus(fake).mean()

    for _ in range(2):  # the second step finds out who forgot to clear the gradients of the first
        weights = game.expected(game.discriminator, loss)
        answer(game.generator, game.discriminator, optimiser, game.real, game.z)
        if not _moved_as(game.discriminator, weights) or not _unchanged(game.generator, before):
            return False
    return True


@exercise(
    "3.1.1-generator-step",
    question="Write one step of the generator on (3.1.1b); D comes out unchanged, without gradients, and trainable.",
    hint="The gradient must pass through D, so nothing is detached; freeze D's weights before, and thaw them after.",
)
def generator_step(answer) -> bool:
    game = _Game()
    before, optimiser = copy.deepcopy(game.discriminator), game.optimiser(game.generator)

    def loss():
        return nn.functional.softplus(-game.discriminator(game.generator(game.z))).mean()

    for _ in range(2):
        weights = game.expected(game.generator, loss)
        answer(game.generator, game.discriminator, optimiser, game.z)
        if not _moved_as(game.generator, weights) or not _unchanged(game.discriminator, before):
            return False
    return True


@exercise(
    "3.1.1-stop-rule",
    question="Write stop(distances, patience): the index of the best distance seen before patience ran out.",
    hint="Keep the index of the best so far, and count since when nothing was better; equal is not better.",
)
def stop_rule(answer) -> bool:
    cases = [
        (([5.0, 4.0, 3.0], 2), 2),
        (([5.0, 4.0, 4.5, 4.2, 1.0], 2), 1),  # never sees the last one
        (([5.0, 4.0, 4.5, 3.0, 3.5, 3.6, 1.0], 2), 3),
        (([3.0, 3.0, 3.0, 1.0], 2), 0),
        (([7.0], 1), 0),
    ]
    return all(answer(list(distances), patience) == best for (distances, patience), best in cases)


@exercise(
    "3.2.1-windows",
    question="Write windows(tokens, length): inputs and targets (N, length), side by side, each target one token on.",
    hint="A window needs one token more than its length. The next one begins where its targets end.",
)
def windows(answer) -> bool:
    for n, length, count in ((23, 5, 4), (21, 5, 4), (20, 5, 3), (7, 3, 2)):
        inputs, targets = answer(torch.arange(n) * 2, length)
        expected = 2 * torch.arange(count * length).view(count, length)
        if not (torch.equal(inputs, expected) and torch.equal(targets, expected + 2)):
            return False
    return True


@exercise(
    "3.2.1-entropy-rate",
    question="Sunny follows sunny with 0.9, rainy follows rainy with 0.5. Entropy rate in nats a day?",
    hint="First the long-run shares: as many days turn from sunny to rainy as back. Then average the rows' entropies.",
)
def entropy_rate(answer) -> bool:
    sunny = -0.9 * math.log(0.9) - 0.1 * math.log(0.1)
    return math.isclose(answer, 5 / 6 * sunny + math.log(2) / 6, abs_tol=6e-4)


@exercise(
    "3.2.1-generate",
    question="Write generate(model, first, n, generator): n tokens after `first`, each drawn and fed back, as a list.",
    hint="model(tokens (1, 1), state) gives logits (1, 1, V) and the state that the next call needs.",
)
def generate(answer) -> bool:
    def model(tokens, state=None):
        """Never in doubt: what comes next follows from the sum of all tokens so far."""
        total = int(tokens.sum()) + (0 if state is None else state)
        return nn.functional.one_hot(torch.tensor([[(2 * total + 1) % 5]]), 5) * 100.0, total

    expected, total, token = [], 0, 2
    for _ in range(9):
        total += token
        token = (2 * total + 1) % 5
        expected.append(token)
    return [int(each) for each in answer(model, 2, 9, torch.Generator().manual_seed(0))] == expected


@exercise(
    "3.1.2-first-loss",
    question="Loss in nats of a VAE with pixel probabilities ½ and q(z|x) = N(0, I) on a binary 28×28 image.",
    hint="What does one pixel cost, and how many are there? What is the KL of a distribution from itself?",
)
def first_loss(answer) -> bool:
    return abs(float(answer) - 784 * math.log(2)) < 0.5


@exercise(
    "3.1.2-negative-elbo",
    question="loss(logits, x, mean, log_variance): the negative ELBO in nats per image, x binary in {−1, 1}.",
    hint="Cross-entropy wants targets 0 and 1. Sum over pixels and over latents; only then average over the batch.",
)
def negative_elbo(answer) -> bool:
    draw = torch.Generator().manual_seed(0)
    for shape, latent_dim in (((5, 1, 6, 6), 3), ((2, 3, 4, 4), 7)):
        logits, uniform = torch.randn(shape, generator=draw), torch.rand(shape, generator=draw)
        x = torch.where(uniform < 0.4, 1.0, -1.0)
        mean, log_variance = torch.randn(2, shape[0], latent_dim, generator=draw)
        nats = torch.distributions.Bernoulli(logits=logits).log_prob((x + 1) / 2).flatten(1).sum(1)
        q, p = torch.distributions.Normal(mean, (log_variance / 2).exp()), torch.distributions.Normal(0.0, 1.0)
        expected = (torch.distributions.kl_divergence(q, p).sum(1) - nats).mean()
        if abs(float(answer(logits, x, mean, log_variance)) - expected) > 1e-3:
            return False
    return True


@exercise(
    "3.1.2-unbiased-mmd",
    question="mmd2(a, b) with the kernel exp(−|z − z'|² / 2Z), without the pairs of a point with itself.",
    hint="The kernel of a point with itself is 1: subtract the N ones from the sum and divide by N (N − 1).",
)
def unbiased_mmd(answer) -> bool:
    draw = torch.Generator().manual_seed(1)
    for n, m, width in ((6, 4, 2), (5, 9, 3)):
        a, b = torch.randn(n, width, generator=draw), 1 + torch.randn(m, width, generator=draw)

        def kernel(p, q, width=width):
            return math.exp(-float((p - q).square().sum()) / (2 * width))

        within = [
            sum(kernel(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j) / (len(s) * (len(s) - 1))
            for s in (a, b)
        ]
        between = sum(kernel(p, q) for p in a for q in b) / (n * m)
        if abs(float(answer(a, b)) - (sum(within) - 2 * between)) > 1e-4:
            return False
    return True


@exercise(
    "3.2.2-next-token-loss",
    question="loss(logits (B, T, V), tokens (B, T)): mean of −log p of each next token, logits made from those tokens.",
    hint="What is scored by the logits at the first position? And what do those at the last position score?",
)
def next_token_loss(answer) -> bool:
    draw = torch.Generator().manual_seed(2)
    for batch, length, vocab_size in ((3, 5, 4), (1, 2, 7)):
        logits = torch.randn(batch, length, vocab_size, generator=draw)
        tokens = torch.randint(vocab_size, (batch, length), generator=draw)
        log_p = logits.log_softmax(-1)
        said = [log_p[b, t, tokens[b, t + 1]] for b in range(batch) for t in range(length - 1)]
        if abs(float(answer(logits, tokens)) + sum(said) / len(said)) > 1e-4:
            return False
    return True


@exercise(
    "3.2.2-leaks",
    question="leaks(layer, x (T, d)): the set of pairs (t, s), s > t, for which output t depends on input s.",
    hint="One gradient for each t, of a weighted sum of output t: some sums, as that of a softmax, never change.",
)
def leaks(answer) -> bool:
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(4))
    past, ahead = torch.ones(5, 5).tril(), torch.ones(5, 5).tril(1)
    cases = [
        (lambda x: past @ x, set()),
        (lambda x: (ahead @ x).softmax(-1), {(t, t + 1) for t in range(4)}),
        (lambda x: x - x.mean(0), {(t, s) for t in range(5) for s in range(t + 1, 5)}),
        (lambda x: torch.cat([x[:2].flip(0), x[2:]]), {(0, 1)}),
        (lambda x: torch.cat([x[:4] * x[4:], x[:1]]), {(t, 4) for t in range(4)}),
    ]
    return all(set(answer(layer, x.clone())) == expected for layer, expected in cases)


@exercise(
    "3.2.2-two-ahead",
    question="The chain of 3.2.2 keeps to a → b → c → d → a with 0.85. Entropy of the letter after the next, in nats?",
    hint="Square the transition matrix. All its rows hold the same four numbers; take the entropy of one of them.",
)
def two_ahead(answer) -> bool:
    return math.isclose(answer, -0.73 * math.log(0.73) - 0.27 * math.log(0.09), abs_tol=6e-4)


@exercise(
    "3.3.1-period",
    question="Layers (two taps, dilations 1, 2, 4, …) that see one period of `frequency` hertz at `sample_rate` hertz?",
    hint="n layers see 2ⁿ samples. How many samples has a period?",
)
def period(answer) -> bool:
    cases = ((16_000, 100, 8), (16_000, 440, 6), (8_000, 1_000, 3), (16_000, 1_000, 4))
    return all(answer(rate, frequency) == n for rate, frequency, n in cases)


@exercise(
    "3.3.1-entropy",
    question="Least bits a sample if the sample k back is repeated, but with odds ε one of the Q − 1 others is drawn.",
    hint="One value has the probability 1 − ε, each of Q − 1 others ε/(Q − 1). What is the entropy of that?",
)
def echo_entropy(answer) -> bool:
    def expected(epsilon: float, n_levels: int) -> float:
        return -(1 - epsilon) * math.log2(1 - epsilon) - epsilon * math.log2(epsilon / (n_levels - 1))

    return all(math.isclose(answer(e, q), expected(e, q), abs_tol=1e-4) for e, q in ((0.1, 2), (0.2, 256), (0.5, 4)))


@exercise(
    "3.3.2-shapes",
    question="Samples, steps and numbers in z for a mel of 250 columns, hop 256, groups of 32.",
    hint="A column stands for a hop of samples. A step holds a group. Nothing is lost on the way to z.",
)
def waveglow_shapes(answer) -> bool:
    return tuple(answer) == (64_000, 2_000, 64_000)


@exercise(
    "3.3.2-energy",
    question="Mean of ‖z‖²/N on the straight line between two white noises. A function of share.",
    hint="Variances of independent things add up, with the squares of their factors.",
)
def waveglow_energy(answer) -> bool:
    return all(math.isclose(answer(a), (1 - a) ** 2 + a**2, abs_tol=1e-6) for a in (0.0, 0.25, 0.5, 1.0))
