"""The exercises on Transformers: right answers pass, the mistakes that learners make do not."""

import math

import pytest
import torch
import torch.nn.functional as F

from aigc_lib.teaching.exercises import all_exercises

IDS = [each for each in all_exercises() if each.startswith(("3.2.2-", "4.4-"))]


def smoothed(epsilon, V, *, right_share=True):
    right, wrong = 1 - epsilon + right_share * epsilon / V, epsilon / V
    return -right * math.log(right) - (V - 1) * wrong * math.log(wrong)


def shift(k, d, *, sign=1):
    rates = 10_000.0 ** -(torch.arange(0, d, 2, dtype=torch.float64) / d)
    c, s = (k * rates).cos(), sign * (k * rates).sin()
    return torch.block_diag(*torch.stack([torch.stack([c, s], -1), torch.stack([-s, c], -1)], -2))


def next_token_loss(logits, tokens, *, behind=1):
    return F.cross_entropy(logits[:, : logits.shape[1] - behind].flatten(0, 1), tokens[:, behind:].flatten())


def leaks(layer, x, *, weighted=True, first=1):
    x = x.requires_grad_()
    y, found = layer(x), set()
    for t in range(len(x)):
        weights = torch.arange(1.0, y.shape[1] + 1) if weighted else torch.ones(y.shape[1])
        gradient = torch.autograd.grad(y[t] @ weights, x, retain_graph=True)[0]
        found |= {(t, s) for s in range(t + first, len(x)) if gradient[s].abs().max() > 1e-6}
    return found


RIGHT = {
    "3.2.2-next-token-loss": next_token_loss,
    "3.2.2-leaks": leaks,
    "3.2.2-two-ahead": 0.8799,
    "4.4-scale": lambda d_k, a, b: 1 / math.sqrt(d_k * a * b),
    "4.4-chunk-mask": lambda T, S: torch.ones(T, S).tril(S - T).bool(),
    "4.4-shift-matrix": shift,
    "4.4-cache-memory": lambda n_layers, T, d, size: (2 * n_layers * T * d * size, 6 * d),
    "4.4-smoothed-minimum": smoothed,
}
WRONG = {
    "3.2.2-next-token-loss": [
        lambda logits, tokens: next_token_loss(logits, tokens, behind=0),  # not shifted
        lambda logits, tokens: next_token_loss(logits, tokens) * (tokens.shape[1] - 1),  # a sum over time
    ],
    "3.2.2-leaks": [
        lambda layer, x: set(),
        lambda layer, x: leaks(layer, x, weighted=False),  # the sum of a softmax
        lambda layer, x: leaks(layer, x, first=0),  # the present is no leak
    ],
    "3.2.2-two-ahead": [0.5875, 1.1750, 1.2694],  # one step, twice that, bits
    "4.4-scale": [
        lambda d_k, a, b: 1 / (d_k * a * b),
        lambda d_k, a, b: d_k**-0.5,
        lambda d_k, a, b: (d_k * a) ** -0.5,
    ],
    "4.4-chunk-mask": [
        lambda T, S: torch.ones(T, S).tril().bool(),  # the triangle top left, as is_causal has it
        lambda T, S: torch.ones(T, S).tril(S - T),  # not bool
        lambda T, S: torch.ones(T, S).triu(S - T).bool(),
        lambda T, S: torch.ones(S, S).tril().bool(),
    ],
    "4.4-shift-matrix": [lambda k, d: shift(k, d, sign=-1), lambda k, d: torch.eye(d)],
    "4.4-cache-memory": [
        lambda n_layers, T, d, size: (n_layers * T * d * size, 12 * d),  # keys without values
        lambda n_layers, T, d, size: (2 * n_layers * T * d, 6 * d),  # numbers, not bytes
    ],
    "4.4-smoothed-minimum": [lambda e, V: smoothed(e, V, right_share=False), lambda e, V: 0.0],
}


def test_every_exercise_has_its_answers():
    assert set(IDS) == set(RIGHT) == set(WRONG)


@pytest.mark.parametrize("exercise_id", RIGHT)
def test_right_answers_pass(exercise_id):
    assert all_exercises()[exercise_id].is_right(RIGHT[exercise_id])


@pytest.mark.parametrize(("exercise_id", "answer"), [(each, a) for each, answers in WRONG.items() for a in answers])
def test_mistakes_do_not(exercise_id, answer):
    assert not all_exercises()[exercise_id].is_right(answer)
