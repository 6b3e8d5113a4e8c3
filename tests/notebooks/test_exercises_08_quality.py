"""The exercises of section 8.5 accept right answers and refuse the usual wrong ones."""

import pytest
import torch

from aigc_lib.teaching import exercises
from aigc_lib.trust.quality import frechet_bias


def is_right(exercise_id, answer):
    return exercises.all_exercises()[exercise_id].is_right(answer)


def test_the_excess_is_that_of_the_library():
    assert is_right("8.5-excess", lambda a, b, n: (a * a + b * b + a * b) / n)
    assert is_right("8.5-excess", lambda a, b, n: frechet_bias(torch.tensor([[a * a]]), torch.tensor([[b * b]]), n, n))


@pytest.mark.parametrize(
    "answer",
    [
        lambda a, b, n: (a * a + b * b) / n,  # the means alone
        lambda a, b, n: (a * a + b * b + a * b / 2) / n,  # one set alone in the mixed term
        lambda a, b, n: (a - b) ** 2 / n,
        lambda a, b, n: 3 / n,  # right for two standard normals only
    ],
)
def test_wrong_excesses_fail(answer):
    assert not is_right("8.5-excess", answer)


def test_the_share_of_the_rare_follows_bayes():
    assert is_right("8.5-rare-share", lambda w, r, c: 1 / (1 + (1 - w) * c / (w * r)))


@pytest.mark.parametrize(
    "answer",
    [lambda w, r, c: w * r, lambda w, r, c: w * r / c, lambda w, r, c: w, lambda w, r, c: w * r / (w * r + c)],
)
def test_wrong_shares_fail(answer):
    assert not is_right("8.5-rare-share", answer)
