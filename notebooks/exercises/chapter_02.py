"""Exercises of chapter 2: core concepts and their links."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import networkx as nx
import torch

from aigc_lib.teaching.diagrams import graph
from aigc_lib.teaching.exercises import exercise

_FAMILIES = {
    "PixelCNN": "exact",  # autoregressive, arXiv:1606.05328
    "RealNVP": "exact",  # normalizing flow, arXiv:1605.08803
    "DDPM": "bound",  # diffusion, trained on a bound, arXiv:2006.11239
    "BigGAN": "samples only",  # arXiv:1809.11096
    "RAFT": "nothing",  # optical flow, a regression, arXiv:2003.12039
}


@exercise(
    "2.1-families",
    question="What can PixelCNN, RealNVP, DDPM, BigGAN and RAFT say about a given x?",
    hint="Ask of each: is log p(x) a sum it can compute (by the chain rule, or by a change of variables), or is there "
    "a hidden variable to integrate over, or only a sampler, or not even that? One of the five compares two frames.",
)
def families(answer: Mapping[str, str]) -> bool:
    return dict(answer) == _FAMILIES


@exercise(
    "2.1-lost-mode",
    question="KL(data ‖ model) and KL(model ‖ data) for a model that lost one of eight equal modes, in nats.",
    hint="KL(p ‖ q) is the mean of log p/q over p. What is q, and so log p/q, where p has mass and the model has none? "
    "In the other direction the ratio is the same at every point of the model.",
)
def lost_mode(answer: Sequence[float]) -> bool:
    forward, reverse = answer
    return forward == math.inf and math.isclose(reverse, math.log(8 / 7), abs_tol=2e-3)


@exercise(
    "2.2-damping",
    question="For which γ does the Dirac-GAN just stop oscillating?",
    hint="Oscillation is an imaginary part of the eigenvalues in (2.3). Where does the root become real?",
)
def damping(answer: float) -> bool:
    return math.isclose(answer, 1.0, abs_tol=1e-6)


@exercise(
    "2.4-chain-rule",
    question="log p of a word from the probabilities of its first letter and of each next letter.",
    hint="One factor for the first letter and one for each following pair of letters, and logarithms add up. The "
    "probabilities of all words of three letters have to add up to 1.",
)
def chain_rule(answer: Callable) -> bool:
    numbers = torch.Generator().manual_seed(0)
    first = torch.rand(4, generator=numbers, dtype=torch.float64).softmax(0)
    then = torch.rand(4, 4, generator=numbers, dtype=torch.float64).softmax(1)
    total = sum(math.exp(answer(list(word), first, then)) for word in itertools.product(range(4), repeat=3))
    one = math.log(first[2] * then[2, 0] * then[0, 3] * then[3, 3])
    return math.isclose(total, 1.0, abs_tol=1e-6) and math.isclose(answer([2, 0, 3, 3], first, then), one, abs_tol=1e-6)


@exercise(
    "2.4-vocoder-diagram",
    question="Draw how WaveGlow speaks a text: text, acoustic, mel, noise, waveglow, audio.",
    hint="Use exactly these six node names. Which two things does WaveGlow get, and where does the audio come from? "
    "When it speaks, nothing is judged and nothing is fed back.",
)
def vocoder_diagram(answer: str) -> bool:
    drawn = graph(answer)
    chain = [
        ("text", "acoustic"),
        ("acoustic", "mel"),
        ("mel", "waveglow"),
        ("noise", "waveglow"),
        ("waveglow", "audio"),
    ]
    return nx.utils.edges_equal(drawn.edges, chain, directed=True)


@exercise(
    "2.7-price-of-exploring",
    question="Regret that random trials at ε = 0.1 add in 10,000 rounds to four variants of 0.5, 0.4, 0.3 and 0.2.",
    hint="How many rounds are trials? What does one trial lose on average, given that it may also hit the best "
    "variant?",
)
def price_of_exploring(answer: float) -> bool:
    return math.isclose(answer, 150.0, abs_tol=0.5)


@exercise(
    "2.5-missing-nats",
    question="missing(stay, n_modes, n_frames): the nats that independent frames miss of a film that jumps at times.",
    hint="(2.14) with another chain: the next mode is the present one with probability `stay`, otherwise any of the "
    "others alike. What is the entropy of the next mode, and what is it when the present one is known?",
)
def missing_nats(answer: Callable) -> bool:
    def truth(stay: float, n: int, n_frames: int) -> float:
        chances = torch.tensor([stay] + [(1 - stay) / (n - 1)] * (n - 1), dtype=torch.float64)
        return (n_frames - 1) * (math.log(n) + torch.special.xlogy(chances, chances).sum().item())

    cases = ((0.9, 8, 4), (0.5, 3, 10), (1.0, 5, 2), (0.25, 4, 6))
    return all(math.isclose(answer(*case), truth(*case), abs_tol=1e-6) for case in cases)


@exercise(
    "2.5-whiteness",
    question="whiteness(rho): squared change over one step by that over two, if frames k apart correlate as rho ** k.",
    hint="E(x − y)² of two numbers of variance 1 is 2 − 2 times their correlation.",
)
def whiteness_of_memory(answer: Callable) -> bool:
    return all(math.isclose(answer(rho), 1 / (1 + rho), abs_tol=1e-9) for rho in (0.0, 0.5, 0.9, -0.5))


@exercise(
    "2.7-same-viewers",
    question="False alarms of a test at 5 % that takes 20 requests of each user, correlated by 0.08, for strangers.",
    hint="What is the variance of a mean of 20 numbers, every two of which have the correlation ρ, over that of 20 "
    "independent ones? The test's standard error is too small by the root of that factor: how many true standard "
    "errors is its bound of 1.96 then?",
)
def same_viewers(answer: float) -> bool:
    return math.isclose(answer, math.erfc(1.959964 / math.sqrt(2 * (1 + 19 * 0.08))), abs_tol=5e-3)


@exercise(
    "2.7-doubly-robust",
    question="The doubly robust estimate from clicks, weights, predictions, and predictions for the new rule.",
    hint="Start from what the model expects of the new rule. Correct it by how far the clicks were from the model, "
    "each weighted as in the inverse-propensity estimate. If the model is right, that correction has to vanish in the "
    "mean; if the weights are right, the model has to.",
)
def doubly_robust(answer: Callable) -> bool:
    old, new, chance = (torch.tensor(x).double() for x in ([0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.2, 0.4, 0.5]))
    counts = torch.stack([1000 * old * chance, 1000 * old * (1 - chance)]).round().long()  # clicked or not, by action
    actions = torch.arange(3).expand(2, 3).flatten().repeat_interleave(counts.flatten())
    clicks = (torch.arange(1000) < counts[0].sum()).double()
    weights, wrong = new / old, torch.tensor([0.6, 0.1, 0.2]).double()

    def finds_the_truth(weights: torch.Tensor, model: torch.Tensor) -> bool:
        estimate = answer(clicks, weights[actions], model[actions], (new @ model).expand(1000))
        return math.isclose(estimate, new @ chance, abs_tol=1e-6)

    return finds_the_truth(weights, wrong) and finds_the_truth(torch.tensor([1.0, 3.0, 0.5]).double(), chance)
