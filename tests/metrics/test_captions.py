"""Times of words that were heard, and stretches that were found."""

import pytest
import torch

from aigc_lib.datasets.timed_speech import Span
from aigc_lib.metrics.captions import detection, start_errors


def spans(*pairs):
    return [Span(text=text, start=start, end=start + 0.1) for text, start in pairs]


TRUTH = spans(("The", 1.0), ("well-known", 1.5), ("cat", 2.0), ("sat.", 3.0))


def test_words_in_time_have_no_error():
    assert start_errors(TRUTH, TRUTH).tolist() == [0.0] * 4


def test_only_words_heard_right_count():
    heard = spans(("the", 1.1), ("um", 1.2), ("well", 1.4), ("known", 1.6), ("hat", 2.0), ("sat", 3.3))
    torch.testing.assert_close(start_errors(heard, TRUTH), torch.tensor([0.1, -0.1, 0.3], dtype=torch.float64))


def test_nothing_heard_is_no_error_of_time():
    assert start_errors([], TRUTH).shape == (0,)
    with pytest.raises(ValueError, match="no words"):
        start_errors(TRUTH, spans(("—", 0.0)))


@pytest.mark.parametrize(
    ("found", "precision", "recall"),
    [
        ([(1, 3)], 1, 1),
        ([(0, 4)], 0.5, 1),
        ([(1, 2)], 1, 0.5),
        ([(2, 4)], 0.5, 0.5),
        ([], 1, 0),
        ([(1, 2), (1.5, 3)], 1, 1),
    ],
)
def test_shares_of_time(found, precision, recall):
    assert detection(found, [(1, 3)], 4.0) == (precision, recall)


def test_there_has_to_be_something_to_find():
    with pytest.raises(ValueError, match="no stretch"):
        detection([(0, 1)], [(5, 6)], 4.0)
