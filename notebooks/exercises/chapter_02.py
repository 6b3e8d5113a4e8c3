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
