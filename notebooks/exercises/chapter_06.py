"""Exercises of chapter 6: what its applications are measured by."""

import math
from difflib import SequenceMatcher
from itertools import pairwise

import numpy as np

from aigc_lib.teaching.exercises import exercise


@exercise(
    "6.0-duck",
    question="ducking(voice, music, below): the factor for the music that puts it so many decibels below the voice.",
    hint="The quotient of two root mean squares makes them equally loud. Which factor is 20 dB, in amplitude?",
)
def duck(answer) -> bool:
    voice = [0.3 * math.sin(0.1 * i) for i in range(500)]
    for music, below in (([0.8 * math.cos(0.37 * i) for i in range(300)], 20), ([0.05, -0.1, 0.02], 9), ([0.5], 0)):
        loudness = [math.sqrt(sum(x * x for x in samples) / len(samples)) for samples in (voice, music)]
        if not math.isclose(answer(voice, music, below), loudness[0] / loudness[1] * 10 ** (-below / 20), rel_tol=1e-3):
            return False
    return True


@exercise(
    "6.1-parallels",
    question="Soprano to bass, (67, 60, 52, 45) goes to (69, 62, 53, 46): how many parallel fifths are there?",
    hint="Six pairs of voices. Which are seven semitones (or 19, or 31) apart before and after, and move the same way?",
)
def parallels(answer) -> bool:
    return answer == 2


@exercise(
    "6.1-longest-run",
    question="A function of two lists: the length of the longest run of equal numbers that both hold.",
    hint="For each place in the first list, how far does a run that begins there reach in the second?",
)
def longest_run(answer) -> bool:
    pairs = [
        ([1, 2, 3, 9], [0, 1, 2, 3]),
        ([1, 2, 1, 2, 3], [5, 1, 2, 3, 1, 2, 1]),
        ([4, 4, 4], [4, 4]),
        ([1], [2]),
        ([], [1, 2]),
        ([3, 1, 4, 1, 5, 9, 2, 6], [1, 4, 1, 5, 0, 9, 2, 6, 5]),
    ]
    expected = [SequenceMatcher(None, *pair, autojunk=False).find_longest_match().size for pair in pairs]
    return [answer(*pair) for pair in pairs] == expected


@exercise(
    "6.2-fades",
    question="A function of t and rho (0 to 1): weights a, b from (1, 0) to (0, 1) that keep E(ax + by)² as it was.",
    hint="Begin with cosine and sine. What is their power when the sounds are correlated, and what undoes it?",
)
def fades(answer) -> bool:
    for rho in (0.0, 0.3, 0.5, 1.0):
        weights = [tuple(map(float, answer(i / 50, rho))) for i in range(51)]
        ends = [*weights[0], *weights[-1]]
        if any(not math.isclose(got, wanted, abs_tol=1e-6) for got, wanted in zip(ends, (1, 0, 0, 1), strict=True)):
            return False
        if any(a < -1e-9 or b < -1e-9 or abs(a**2 + b**2 + 2 * rho * a * b - 1) > 1e-6 for a, b in weights):
            return False
        if any(later[0] > earlier[0] + 1e-9 for earlier, later in pairwise(weights)):
            return False
    return True


@exercise(
    "6.2-bins",
    question="How many bins of one ratio cover 0.25 to 1 s, if no stretch from a bin's middle may exceed 1.1?",
    hint="From the middle of a bin of ratio r it is the root of r to either edge, and all bins together span 4.",
)
def bins(answer) -> bool:
    return answer == 8


@exercise(
    "6.3-dullest",
    question="Two uncorrelated shots of variance 4 and 1 dissolve: at which share of the second is the variance least?",
    hint="Uncorrelated parts add with the squares of their shares. Where is the derivative of that sum zero?",
)
def dullest(answer) -> bool:
    return abs(float(answer) - 0.8) < 1e-3


@exercise(
    "6.3-timecode",
    question='timecode(frame, base): the non-drop time code of a frame counted from 0, such as "01:00:00:07".',
    hint="divmod twice or thrice: frames first, by the base; then seconds and minutes, by 60. Two digits each.",
)
def timecode(answer) -> bool:
    right = {(0, 25): "00:00:00:00", (24, 25): "00:00:00:24", (25, 25): "00:00:01:00", (1799, 30): "00:00:59:29"}
    right |= {(1800, 30): "00:01:00:00", (90_007, 25): "01:00:00:07", (89_999, 25): "00:59:59:24"}
    return all(answer(*asked) == code for asked, code in right.items())


@exercise(
    "6.4-blend",
    question="A function of sounds [(start, end, target, strength)] and time: the opening by (6.4-1), θ = 25 a second.",
    hint="The distance is 0 within a sound; outside it counts from the nearer edge. Divide by the sum of the weights.",
)
def blend(answer) -> bool:
    sounds = [(0.0, 0.1, 0.9, 1.0), (0.1, 0.14, 0.2, 0.5), (0.2, 0.5, 0.3, 0.8)]
    for time in (-0.05, 0.02, 0.1, 0.12, 0.17, 0.4, 0.6):
        away = [max(start - time, time - end, 0) for start, end, _, _ in sounds]
        weights = [sound[3] * math.exp(-25 * d) for sound, d in zip(sounds, away, strict=True)]
        right = sum(w * sound[2] for w, sound in zip(weights, sounds, strict=True)) / sum(weights)
        if not math.isclose(float(answer(sounds, time)), right, abs_tol=1e-9):
            return False
    return True


@exercise(
    "6.4-verdict",
    question="verdict(ms) for sound that comes ms before the picture: 'unnoticed', 'noticed' or 'rejected'.",
    hint="Early is positive. Two intervals around zero, neither of them symmetric: 45 and 90 early, 125 and 185 late.",
)
def verdict(answer) -> bool:
    cases = {"unnoticed": (45, 0, -60, -125), "noticed": (46, 90, -126, -185), "rejected": (91, 300, -186, -300)}
    return all(answer(ms) == word for word, offsets in cases.items() for ms in offsets)


@exercise(
    "6.5-pixel",
    question="pixel(d, height): column and row of a panorama at which the direction d = (x, y, z) lies, by (6.5-1).",
    hint="Two arc tangents of two arguments: the azimuth is that of x and z. Ahead, (0, 0, 1), lies at column H − ½.",
)
def pixel(answer) -> bool:
    for height in (2, 90):
        for column, row in ((0, 0), (0.7 * height, 0.4 * height), (2 * height - 1, height - 1), (height, height / 3)):
            azimuth = math.pi / height * (column + 0.5) - math.pi
            elevation = math.pi / 2 - math.pi / height * (row + 0.5)
            across = 3 * math.cos(elevation)  # three long
            d = (across * math.sin(azimuth), 3 * math.sin(elevation), across * math.cos(azimuth))
            if any(abs(got - wanted) > 1e-6 for got, wanted in zip(answer(d, height), (column, row), strict=True)):
                return False
    return True


@exercise(
    "6.5-azimuths",
    question="Both azimuths on the horizon, in degrees, smaller first, from which the left ear hears 300 µs later.",
    hint="θ + sin θ = ITD · c / a has no closed solution: halve an interval. And where else is the very same sound?",
)
def azimuths(answer) -> bool:
    first, second = map(float, answer)
    theta = math.radians(first)
    late = 0.0875 / 343 * (theta + math.sin(theta)) * 1e6
    return 0 < first < 90 and abs(late - 300) < 4.2 and abs(first + second - 180) <= 1


@exercise(
    "6.6-average",
    question="A still scene, 8 frames with independent noise: by how many dB does their mean beat one of them?",
    hint="The variance of a mean of 8 is an eighth. What is that in decibels, ten times the logarithm?",
)
def average(answer) -> bool:
    return abs(float(answer) - 10 * math.log10(8)) < 0.05


@exercise(
    "6.6-consistent",
    question="consistent(made, seen): the array nearest to made (2H, 2W) whose means of 2 by 2 are seen (H, W).",
    hint="How far are the means of made from seen? The nearest array spreads each difference evenly over its four.",
)
def consistent(answer) -> bool:
    random = np.random.default_rng(0)
    for height, width in ((1, 1), (3, 2), (4, 7)):
        made, seen = random.normal(size=(2 * height, 2 * width)), random.normal(size=(height, width))
        means = made.reshape(height, 2, width, 2).mean(axis=(1, 3))
        right = made + np.repeat(np.repeat(seen - means, 2, axis=0), 2, axis=1)
        if not np.allclose(answer(made.copy(), seen.copy()), right, atol=1e-6):
            return False
    return True


@exercise(
    "6.7-word-errors",
    question='WER as a number: said "we met Ada Lovelace at two", heard "we met a love lace at too late".',
    hint="Two words more were heard than said, so at least two are insertions. Which are substitutions? Divide by N.",
)
def word_errors(answer) -> bool:
    return abs(float(answer) - 5 / 6) < 0.005


@exercise(
    "6.7-needed",
    question="needed(lines): how many seconds has a caption to stay? 17 characters a second, 5/6 s to 7 s.",
    hint="Blanks inside a line are read, too. Then two bounds: one for a short word, one for very long lines.",
)
def needed(answer) -> bool:
    captions = [("Yes.",), ("a" * 34,), ("two words here", "and some more of them"), ("x" * 80, "y" * 80)]
    expected = [min(7.0, max(5 / 6, sum(map(len, lines)) / 17)) for lines in captions]
    return all(abs(answer(lines) - right) < 1e-6 for lines, right in zip(captions, expected, strict=True))
