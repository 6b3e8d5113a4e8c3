"""Error rates of sequences against a plain dynamic programme, and what they refuse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigc_lib.metrics.text import error_rates

sequences = st.lists(st.sampled_from(["AA", "B", "K", "IY"]), min_size=1, max_size=6)


def edits(a: list[str], b: list[str]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


@given(st.lists(st.tuples(sequences, sequences), min_size=1, max_size=5))
def test_rates_count_edits_over_all_symbols_and_sequences_with_any(pairs):
    rates = error_rates([answer for answer, _ in pairs], [[right] for _, right in pairs])
    distances = [edits(right, answer) for answer, right in pairs]
    assert rates.symbols == pytest.approx(sum(distances) / sum(len(right) for _, right in pairs))
    assert rates.sequences == pytest.approx(sum(distance > 0 for distance in distances) / len(pairs))


def test_the_closest_of_several_references_counts():
    right = [["R", "EH", "D"], ["R", "IY", "D"]]
    assert error_rates([["R", "IY", "D"]], [right]) == error_rates([["R", "EH", "D"]], [right])
    assert error_rates([["R", "IY", "D"]], [right]).sequences == 0
    assert error_rates([["R", "AA", "D"]], [right]).symbols == pytest.approx(1 / 3)


def test_an_empty_answer_misses_everything():
    assert error_rates([[]], [[["B", "IY"]]]).symbols == 1


def test_answers_need_references():
    for answers, references in (([], []), ([["B"]], []), ([["B"]], [[]])):
        with pytest.raises(ValueError, match="at least one answer, each with references"):
            error_rates(answers, references)
