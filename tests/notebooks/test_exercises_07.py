"""The exercises of chapter 7 accept right answers and refuse the usual wrong ones."""

import math

import pytest

from aigc_lib.teaching import exercises, reading
from aigc_lib.teaching.bibliography_checks import number_month


def is_right(exercise_id, answer):
    return exercises.all_exercises()[exercise_id].is_right(answer)


def test_the_month_of_an_arxiv_number_is_read_from_its_first_four_digits():
    assert is_right("7.1-arxiv-month", number_month)
    assert is_right("7.1-arxiv-month", lambda number: (2000 + int(number[:2]), int(number[2:4])))


@pytest.mark.parametrize(
    "answer",
    [
        lambda number: (int(number[:2]), int(number[2:4])),  # without the century
        lambda number: ("20" + number[:2], number[2:4]),  # texts
        lambda number: (2000 + int(number[2:4]), int(number[:2])),  # the other way round
    ],
)
def test_other_readings_of_the_number_fail(answer):
    assert not is_right("7.1-arxiv-month", answer)


def best_divisor(n):
    return min((k for k in range(1, n + 1) if n % k == 0), key=lambda k: (k + n / k, k))


def test_the_best_number_of_segments_is_a_divisor_near_the_root():
    assert is_right("7.2-segments", best_divisor)
    assert [best_divisor(n) for n in (7, 12, 16, 18)] == [1, 3, 4, 3]


@pytest.mark.parametrize(
    "answer",
    [
        math.isqrt,  # 18 has no divisor 4
        lambda n: n,
        lambda n: 1,
        lambda n: max(k for k in range(1, n + 1) if n % k == 0 and k * k <= n) if n != 12 else 4,  # the larger of two
    ],
)
def test_wrong_numbers_of_segments_fail(answer):
    assert not is_right("7.2-segments", answer)


BEST = reading.reading_path("video", 18).names


def test_the_best_path_for_video_is_accepted_in_every_possible_order():
    assert is_right("7.1-video-path", BEST)
    assert is_right(
        "7.1-video-path", ["prince-basics", "sequence", "video-lstm", *BEST[1:2], "optical-flow", "video-order"]
    )


@pytest.mark.parametrize(
    "answer",
    [
        [],
        BEST[1:],  # without the basics
        BEST[::-1],  # prerequisites behind
        [*BEST, BEST[-1]],  # one twice
        BEST[:-1],  # worth less
        [*BEST, "probability"],  # too long
        ["prince-basics", "prince-convolution", "probability", "gan", "video-gan"],  # greedy by what is famous
    ],
)
def test_paths_that_are_impossible_too_long_or_worth_less_fail(answer):
    assert not is_right("7.1-video-path", answer)
