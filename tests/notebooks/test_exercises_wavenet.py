"""The exercises on WaveNet: right answers pass, the mistakes that learners make do not."""

import math

import pytest
import torch.nn.functional as F

from aigc_lib.teaching.exercises import all_exercises


def is_right(exercise_id, answer):
    return all_exercises()[exercise_id].is_right(answer)


def entropy(epsilon, n_levels):
    return -(1 - epsilon) * math.log2(1 - epsilon) - epsilon * math.log2(epsilon / (n_levels - 1))


def convolved(before, after):
    """A dilated convolution with so many times its reach in zeros on either side."""

    def causal(x, weights, dilation):
        reach = (len(weights) - 1) * dilation
        x = F.pad(x, (int(before * reach), int(after * reach)))
        return F.conv1d(x[None, None], weights[None, None], dilation=dilation)[0, 0]

    return causal


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("3.3.1-period", lambda rate, frequency: math.ceil(math.log2(rate / frequency))),
        ("3.3.1-entropy", entropy),
        ("4.5-stacks", lambda seconds, rate: math.ceil((seconds * rate - 1) / 1023)),
        ("4.5-plateau", lambda bits, mu: 4.77 + 6.0206 * bits - 20 * math.log10(math.log(1 + mu))),
        ("4.5-queue", lambda k, dilations, channels: (k - 1) * sum(dilations) * channels),
        ("4.5-leak", lambda kernels, dilations: sum(k // 2 * d for k, d in zip(kernels, dilations, strict=True))),
        ("4.5-bits", lambda n: (math.log2(n), math.log2(n))),
        ("5.2.3-causal", convolved(before=1, after=0)),
        ("5.3.3-best-guess", lambda p, v: (p @ v, p @ v**2 - (p @ v) ** 2)),
    ],
)
def test_right_answers_pass(exercise_id, answer):
    assert is_right(exercise_id, answer)


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("3.3.1-period", lambda rate, frequency: math.floor(math.log2(rate / frequency))),  # not the whole period
        ("3.3.1-period", lambda rate, frequency: math.ceil(rate / frequency)),  # undilated layers
        ("5.2.3-causal", convolved(before=0.5, after=0.5)),  # "same": sees the future
        ("5.2.3-causal", convolved(before=0, after=1)),
        ("5.2.3-causal", convolved(before=0, after=0)),  # shorter than the sound
        ("5.2.3-causal", lambda x, w, d: convolved(1, 0)(x, w.flip(0), d)),
        ("5.2.3-causal", lambda x, w, d: convolved(1, 0)(x, w, 1)),  # not dilated
        ("5.3.3-best-guess", lambda p, v: (v[p.argmax()], p @ (v - v[p.argmax()]) ** 2)),  # the likeliest value
        ("5.3.3-best-guess", lambda p, v: (p @ v, (p @ v**2 - (p @ v) ** 2).sqrt())),  # its deviation
        ("3.3.1-entropy", lambda epsilon, n: entropy(epsilon, 2)),  # forgets which of the others
        ("3.3.1-entropy", lambda epsilon, n: entropy(epsilon, n) * math.log(2)),  # nats
        ("4.5-stacks", lambda seconds, rate: math.ceil(seconds * rate / 1024)),  # stacks share one sample
        ("4.5-stacks", lambda seconds, rate: (seconds * rate - 1) / 1023),  # no whole number
        ("4.5-plateau", lambda bits, mu: 1.76 + 6.0206 * bits),  # equal steps, a full-scale sine
        ("4.5-plateau", lambda bits, mu: 4.77 + 6.0206 * bits - 10 * math.log10(math.log(1 + mu))),  # square forgotten
        ("4.5-queue", lambda k, dilations, channels: sum(dilations) * channels),  # two taps alone
        ("4.5-queue", lambda k, dilations, channels: (k - 1) * len(dilations) * channels),  # only what is read
        ("4.5-leak", lambda kernels, dilations: sum((k - 1) * d for k, d in zip(kernels, dilations, strict=True))),
        ("4.5-bits", lambda n: (math.log2(n), 8.0)),  # thinks that R = 1 has to guess among all
    ],
)
def test_typical_mistakes_do_not(exercise_id, answer):
    assert not is_right(exercise_id, answer)
