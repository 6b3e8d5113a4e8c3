"""The exercises of chapter 2 accept right answers and refuse the usual wrong ones."""

import itertools
import math

import pytest

from aigc_lib.teaching import exercises

FAMILIES = {"PixelCNN": "exact", "RealNVP": "exact", "DDPM": "bound", "BigGAN": "samples only", "RAFT": "nothing"}
VOCODER = """graph LR
  text --> acoustic[acoustic model] --> mel[mel spectrogram]
  mel --> waveglow
  noise --> waveglow
  waveglow --> audio"""


def chain_rule(word, first, then):
    pairs = itertools.pairwise(word)
    return math.log(first[word[0]]) + sum(math.log(then[a, b]) for a, b in pairs)


def forgets_the_first_letter(word, first, then):
    return sum(math.log(then[a, b]) for a, b in itertools.pairwise(word))


def swaps_the_letters(word, first, then):
    return math.log(first[word[0]]) + sum(math.log(then[b, a]) for a, b in itertools.pairwise(word))


def gives_the_probability(word, first, then):
    return math.exp(chain_rule(word, first, then))


def starts_at_the_end(word, first, then):  # a distribution over words, but another one
    return chain_rule(word[::-1], first, then)


def robust(clicks, w, q, q_new):
    return (q_new + w * (clicks - q)).mean()


def only_weights(clicks, w, q, q_new):  # right as long as the weights are
    return (w * clicks).mean()


def only_the_model(clicks, w, q, q_new):
    return q_new.mean()


def corrects_without_weights(clicks, w, q, q_new):
    return (q_new + clicks - q).mean()


def adds_both(clicks, w, q, q_new):
    return (q_new + w * clicks).mean()


def is_right(exercise_id, answer):
    return exercises.all_exercises()[exercise_id].is_right(answer)


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("2.1-families", FAMILIES),
        ("2.1-lost-mode", (math.inf, math.log(8 / 7))),
        ("2.1-lost-mode", [float("inf"), 0.1335]),
        ("2.2-damping", 1),
        ("2.4-chain-rule", chain_rule),
        ("2.4-vocoder-diagram", VOCODER),
        ("2.4-vocoder-diagram", "flowchart TD\n text-->acoustic-->mel\n mel & noise-->waveglow-->audio"),
        ("2.7-price-of-exploring", 150),
        ("2.7-same-viewers", 0.217),
        ("2.7-doubly-robust", robust),
    ],
)
def test_right_answers_pass(exercise_id, answer):
    assert is_right(exercise_id, answer)


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("2.1-families", FAMILIES | {"DDPM": "exact"}),
        ("2.1-families", FAMILIES | {"RAFT": "samples only"}),
        ("2.1-families", {name: kind for name, kind in FAMILIES.items() if name != "RAFT"}),
        ("2.1-lost-mode", (math.log(8 / 7), math.inf)),  # the two directions exchanged
        ("2.1-lost-mode", (math.inf, math.log(7 / 8))),  # a negative divergence
        ("2.1-lost-mode", (math.inf, math.log2(8 / 7))),  # in bits
        ("2.2-damping", 0.5),
        ("2.2-damping", 0),
        ("2.4-chain-rule", forgets_the_first_letter),
        ("2.4-chain-rule", swaps_the_letters),
        ("2.4-chain-rule", starts_at_the_end),
        ("2.4-vocoder-diagram", VOCODER.replace("noise --> waveglow", "noise --> acoustic")),
        ("2.4-vocoder-diagram", VOCODER + "\n  audio --> discriminator"),
        ("2.7-price-of-exploring", 200),  # a trial never hits the best variant
        ("2.7-price-of-exploring", 1500),  # every round is a trial
        ("2.7-same-viewers", 0.05),
        ("2.7-same-viewers", 0.437),  # the factor itself instead of its root
        ("2.7-same-viewers", 0.1085),  # one side only
        ("2.7-same-viewers", 1 - 0.95**20),
        ("2.7-doubly-robust", only_weights),
        ("2.7-doubly-robust", only_the_model),
        ("2.7-doubly-robust", corrects_without_weights),
        ("2.7-doubly-robust", adds_both),
    ],
)
def test_wrong_answers_do_not_pass(exercise_id, answer):
    assert not is_right(exercise_id, answer)


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("2.1-lost-mode", 0.13),
        ("2.4-chain-rule", gives_the_probability),
        ("2.4-vocoder-diagram", "sequenceDiagram\n text->>audio: speak"),
    ],
)
def test_answers_of_another_kind_get_a_hint(exercise_id, answer, capsys):
    exercises.submit(exercise_id, answer)
    printed = capsys.readouterr().out
    assert "not yet" in printed
    assert exercises.all_exercises()[exercise_id].hint in printed


def test_hints_do_not_hold_the_answer():
    assert not any(number in exercises.all_exercises()["2.7-price-of-exploring"].hint for number in ("150", "0.15"))
    assert "bound" not in exercises.all_exercises()["2.1-families"].hint
