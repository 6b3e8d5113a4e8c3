"""The exercises of the VAE in chapters 3 to 5: right answers pass, the mistakes that learners make do not."""

import math

import pytest
import torch
import torch.nn.functional as F

from aigc_lib.teaching.exercises import all_exercises, submit

IDS = [each for each in all_exercises() if each.startswith(("3.1.2-", "4.2-", "5.2.5-"))]


def is_right(exercise_id, answer):
    return all_exercises()[exercise_id].is_right(answer)


def negative_elbo(logits, x, mean, log_variance, *, reduce=torch.sum, targets=lambda x: (x + 1) / 2):
    pixels = F.binary_cross_entropy_with_logits(logits, targets(x), reduction="none")
    rate = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2
    return (reduce(pixels.flatten(1), 1) + rate).mean()


def squared_mmd(a, b, *, own=True):
    def kernel(p, q):
        return torch.exp(-torch.cdist(p, q).square() / (2 * p.shape[1]))

    within = [(kernel(s, s).sum() - own * len(s)) / (len(s) * (len(s) - own)) for s in (a, b)]
    return sum(within) - 2 * kernel(a, b).mean()


def divergence(m1, s1, m2, s2):
    return math.log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - 0.5


def surgery(q, p):
    marginal = q.mean(0)
    return (q * (q / marginal).log()).sum(1).mean(), (marginal * (marginal / p).log()).sum()


def psnr(a, b, peak=2.0):
    return 10 * torch.log10(peak**2 / (a - b).square().mean())


def purified(d, other):
    return d - (d @ other) / (other @ other) * other


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("3.1.2-first-loss", 543.43),
        ("3.1.2-negative-elbo", negative_elbo),
        ("3.1.2-unbiased-mmd", squared_mmd),
        ("4.2-two-gaussians", divergence),
        ("4.2-surgery", surgery),
        ("4.2-collapse", (2, 1, 0.55)),
        ("4.2-rate", lambda lam, beta, s2: max(0.0, 0.5 * math.log(lam / beta / s2))),
        ("4.2-importance-bound", lambda w: w.logsumexp(0) - math.log(len(w))),
        ("5.2.5-active-units", lambda means, threshold: (means.var(0) > threshold).sum()),
        ("5.2.5-psnr", psnr),
        ("5.2.5-purified-direction", purified),
    ],
)
def test_right_answers_pass(exercise_id, answer):
    assert is_right(exercise_id, answer)


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("3.1.2-first-loss", math.log(2)),  # a mean over pixels
        ("3.1.2-first-loss", 784.0),  # bits
        ("3.1.2-negative-elbo", lambda *args: negative_elbo(*args, reduce=torch.mean)),
        ("3.1.2-negative-elbo", lambda *args: negative_elbo(*args, targets=lambda x: x)),
        ("3.1.2-negative-elbo", lambda *args: -negative_elbo(*args)),
        ("3.1.2-unbiased-mmd", lambda a, b: squared_mmd(a, b, own=False)),
        ("3.1.2-unbiased-mmd", lambda a, b: (a.mean(0) - b.mean(0)).square().sum()),
        ("4.2-two-gaussians", lambda m1, s1, m2, s2: divergence(m2, s2, m1, s1)),  # the other way round
        ("4.2-two-gaussians", lambda m1, s1, m2, s2: divergence(m1, s1**0.5, m2, s2**0.5)),  # s for the variance
        ("4.2-surgery", lambda q, p: surgery(q, p)[::-1]),
        ("4.2-surgery", lambda q, p: ((q * (q / p).log()).sum(1).mean(), surgery(q, p)[1])),  # the rate itself
        ("4.2-collapse", (2, 2, 0.55)),
        ("4.2-collapse", (2, 1, 1.1)),  # a sum where a mean belongs
        ("4.2-rate", lambda lam, beta, s2: 0.5 * math.log(lam / (beta * s2))),  # negative when collapsed
        ("4.2-rate", lambda lam, beta, s2: max(0.0, 0.5 * math.log(lam / s2))),
        ("4.2-importance-bound", lambda w: w.exp().mean(0).log()),  # −inf far down
        ("4.2-importance-bound", lambda w: w.logsumexp(0)),
        ("4.2-importance-bound", lambda w: w.mean(0)),  # the ELBO
        ("5.2.5-active-units", lambda means, threshold: (means.abs().mean(0) > threshold).sum()),
        ("5.2.5-active-units", lambda means, threshold: (means.var(1) > threshold).sum()),
        ("5.2.5-psnr", lambda a, b: psnr(a, b, peak=1.0)),
        ("5.2.5-psnr", lambda a, b: psnr(a, b, peak=255.0)),
        ("5.2.5-purified-direction", lambda d, other: d - (d @ other) * other),  # other is no unit vector
        ("5.2.5-purified-direction", lambda d, other: d - other),
    ],
)
def test_typical_mistakes_do_not(exercise_id, answer):
    assert not is_right(exercise_id, answer)


def test_every_exercise_has_answers_here():
    assert len(IDS) == 11


@pytest.mark.parametrize("exercise_id", IDS)
@pytest.mark.parametrize("answer", [3, "text", len, (1, 2, 3, 4, 5)], ids=str)
def test_nonsense_gets_a_hint_and_no_exception(capsys, exercise_id, answer):
    submit(exercise_id, answer)
    assert "Hint: " in capsys.readouterr().out
