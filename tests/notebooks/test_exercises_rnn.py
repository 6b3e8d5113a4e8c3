"""The exercises on recurrent networks: right answers pass, the mistakes that learners make do not."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from aigc_lib.teaching.exercises import all_exercises, submit

IDS = [each for each in all_exercises() if each.startswith(("3.2.1-", "4.3-", "5.2.2-"))]


def is_right(exercise_id, answer):
    return all_exercises()[exercise_id].is_right(answer)


def windows(tokens, length, *, shift=1):
    n = (len(tokens) - 1) // length
    return tokens[: n * length].view(n, length), tokens[shift : n * length + shift].view(n, length)


def generate(model, first, n, generator, *, carry=True):
    token, state, made = torch.tensor([[first]]), None, []
    for _ in range(n):
        logits, left = model(token, state)
        state = left if carry else None
        token = torch.multinomial(logits[:, -1].softmax(dim=-1), 1, generator=generator)
        made.append(int(token))
    return made


def jacobian(states, weight, *, latest_left=True):
    product = torch.eye(len(weight), dtype=weight.dtype)
    for h in states:
        step = torch.diag(1 - h**2) @ weight
        product = step @ product if latest_left else product @ step
    return product


def nucleus(probabilities, top_p, *, extra=1):
    return int((probabilities.sort(descending=True).values.cumsum(0) < top_p).sum()) + extra


def backwards(P, shares):
    return (shares[:, None] * P).T / shares[:, None]


def masked(logits, targets, padding):
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=padding)


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("3.2.1-windows", windows),
        ("3.2.1-entropy-rate", 0.3864),
        ("3.2.1-generate", generate),
        ("4.3-units", (2.135, 4.393)),
        ("4.3-half-life", lambda bias: math.log(2) / -math.log(1 / (1 + math.exp(-bias)))),
        ("4.3-jacobian", jacobian),
        ("4.3-nucleus", nucleus),
        ("4.3-exposure", lambda e, n: (1 - e) * (1 - (1 - e) ** n) / (n * e)),
        ("4.3-backwards", backwards),
        ("5.2.2-one-hot", (40, 0.008)),
        ("5.2.2-lstm-parameters", 5_246_976),
        ("5.2.2-masked-loss", masked),
    ],
)
def test_right_answers_pass(exercise_id, answer):
    assert is_right(exercise_id, answer)


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("3.2.1-windows", lambda tokens, length: windows(tokens, length, shift=0)),  # the document's target
        ("3.2.1-windows", lambda tokens, length: windows(tokens[: len(tokens) // 2], length)),
        ("3.2.1-entropy-rate", 0.5091),  # the rows weighted alike
        ("3.2.1-entropy-rate", 0.5575),  # bits
        ("3.2.1-generate", lambda *given: generate(*given, carry=False)),
        ("4.3-units", (2.135, 2**1.48)),
        ("4.3-units", (1.48 * math.log(2), 4.393)),
        ("4.3-half-life", lambda bias: math.log(2) / (1 + math.exp(-bias))),
        ("4.3-jacobian", lambda states, weight: jacobian(states, weight, latest_left=False)),
        ("4.3-jacobian", lambda states, weight: jacobian(states[:-1], weight)),
        ("4.3-nucleus", lambda probabilities, top_p: nucleus(probabilities, top_p, extra=0)),
        ("4.3-exposure", lambda e, n: (1 - e) ** n),  # the last token alone
        ("4.3-exposure", lambda e, n: 1 - e),
        ("4.3-backwards", lambda P, shares: P.T),
        ("4.3-backwards", lambda P, shares: P),
        ("5.2.2-one-hot", (40, 8)),
        ("5.2.2-lstm-parameters", sum(p.numel() for p in nn.LSTM(256, 1024).parameters())),  # torch's second bias
        ("5.2.2-lstm-parameters", 1024 * (256 + 1024) + 1024),
        ("5.2.2-masked-loss", lambda *given: F.cross_entropy(given[0].flatten(0, 1), given[1].flatten())),
        ("5.2.2-masked-loss", lambda *given: masked(*given) * (given[1] != given[2]).float().mean()),
    ],
)
def test_typical_mistakes_do_not(exercise_id, answer):
    assert not is_right(exercise_id, answer)


@pytest.mark.parametrize("exercise_id", IDS)
@pytest.mark.parametrize("answer", [3, "text", len, (1, 2, 3, 4, 5)], ids=str)
def test_nonsense_gets_a_hint_and_no_exception(capsys, exercise_id, answer):
    submit(exercise_id, answer)
    assert "Hint: " in capsys.readouterr().out
