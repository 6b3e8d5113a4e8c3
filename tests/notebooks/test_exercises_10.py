"""The exercises of chapter 10 accept right answers and refuse the usual wrong ones."""

import math
import re

import pytest
import torch

from aigc_lib.teaching import exercises
from aigc_lib.teaching.bibliography_checks import number_month


def is_right(exercise_id, answer):
    return exercises.all_exercises()[exercise_id].is_right(answer)


def month(number):
    found = re.fullmatch(r"(\d\d)(0[1-9]|1[0-2])\.(\d{4,5})", number)
    if not found:
        return None
    when = 2000 + int(found[1]), int(found[2])
    return when if when >= (2007, 4) and len(found[3]) == (5 if when >= (2015, 1) else 4) else None


def number_month_or_none(number):
    try:
        return number_month(number)
    except ValueError:
        return None


@pytest.mark.parametrize("answer", [month, number_month_or_none])
def test_the_month_of_a_number_is_found_and_impossible_ones_are_not(answer):
    assert is_right("10.1-arxiv-month", answer)


@pytest.mark.parametrize(
    "answer",
    [
        lambda number: (2000 + int(number[:2]), int(number[2:4])) if number[:4].isdigit() else None,  # month 13
        lambda number: month(number) and (2000 + month(number)[1], month(number)[0] % 100),  # month before year
        lambda number: month(number) and (month(number)[0] - 2000, month(number)[1]),  # two digits of a year
        lambda number: None,
    ],
)
def test_wrong_months_fail(answer):
    try:
        right = is_right("10.1-arxiv-month", answer)
    except (TypeError, ValueError):
        right = False  # `submit` counts an exception as not right
    assert not right


def bound(n, d, width):
    return -d / 2 * math.log(2 * math.pi * width**2)


def test_the_bound_of_a_parzen_window_is_the_height_of_one_gaussian():
    assert is_right("10.3-parzen-bound", bound)


def test_the_bound_holds_everywhere_and_is_reached_where_all_centres_are():
    generator = torch.Generator().manual_seed(0)
    kernel = torch.distributions.Normal(0, 0.3)
    for centres in (torch.randn(20, 3, generator=generator), torch.zeros(20, 3)):
        x = torch.cat([centres, torch.randn(500, 3, generator=generator)])
        nats = kernel.log_prob(x[:, None] - centres).sum(2).logsumexp(1) - math.log(20)
        assert nats.max() <= bound(20, 3, 0.3) + 1e-5
    assert nats[0].item() == pytest.approx(bound(20, 3, 0.3), abs=1e-5)


@pytest.mark.parametrize(
    "answer",
    [
        lambda n, d, width: bound(n, d, width) - math.log(n),  # centres apart
        lambda n, d, width: bound(n, d, width) + math.log(n),  # without the 1/n
        lambda n, d, width: bound(n, 1, width),  # one dimension
        lambda n, d, width: -d / 2 * math.log(2 * math.pi * width),  # σ for σ²
        lambda n, d, width: 0.0,  # a density is not a probability
    ],
)
def test_wrong_bounds_fail(answer):
    assert not is_right("10.3-parzen-bound", answer)
