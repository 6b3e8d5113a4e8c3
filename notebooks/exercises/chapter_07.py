"""Exercises of chapter 7: questions and answers."""

from collections.abc import Callable, Sequence

from aigc_lib.teaching import reading
from aigc_lib.teaching.exercises import exercise

VIDEO_HOURS = 18


@exercise(
    "7.1-arxiv-month",
    question="arxiv_month(number): year and month of an arXiv number such as '1609.03499', as a pair of integers.",
    hint="The four digits in front of the dot are two numbers of two digits each; the century is not written. Should "
    "the month of '1609' be the text '09' or the number 9?",
)
def arxiv_month(answer: Callable[[str], tuple[int, int]]) -> bool:
    cases = {"1609.03499": (2016, 9), "1406.2661": (2014, 6), "2311.00001": (2023, 11), "0704.0001": (2007, 4)}
    return all(tuple(answer(number)) == when for number, when in cases.items())


@exercise(
    "7.2-segments",
    question="segments_of(n): the divisor k of n with the least k + n/k; of two equal ones the smaller.",
    hint="Formula 7.2-2 puts the best k near √n, but √12 is no divisor of 12. Try all divisors and compare k + n/k.",
)
def segments(answer: Callable[[int], int]) -> bool:
    def best(n: int) -> int:
        return min((k for k in range(1, n + 1) if n % k == 0), key=lambda k: k + n // k)

    return all(answer(n) == best(n) for n in (1, 7, 12, 16, 18, 30, 64, 100))


@exercise(
    "7.1-video-path",
    question=f"Names of readings in a possible order that are worth the most for video within {VIDEO_HOURS} hours.",
    hint="A reading counts only if everything that it requires stands before it; add up the hours. The basics cost "
    "eight of them, so ask what each way on from there is worth for an hour, prerequisites included.",
)
def video_path(answer: Sequence[str]) -> bool:
    every, names = reading.load(), list(answer)
    in_order = all(set(every.readings[name].requires) <= set(names[:n]) for n, name in enumerate(names))
    fits = every.hours(names) <= VIDEO_HOURS and len(set(names)) == len(names)
    return in_order and fits and every.worth(names, "video") == reading.reading_path("video", VIDEO_HOURS, every).worth
