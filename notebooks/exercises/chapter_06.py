"""Exercises of chapter 6: what its applications are measured by."""

from difflib import SequenceMatcher

from aigc_lib.teaching.exercises import exercise


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
