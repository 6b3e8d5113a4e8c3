"""A reproduction card computes its deviation and cannot be half filled in."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigc_lib.teaching import reproduction
from aigc_lib.teaching.reproduction import Card

FIELDS = {
    "system": "GAN",
    "arxiv": "1406.2661",
    "place": "Table 1",
    "quantity": "nats",
    "theirs": 200.0,
    "ours": 150.0,
    "their_setting": "MNIST",
    "our_setting": "5,000 digits",
    "certainty": "compared",
    "why": "less data",
}
numbers = st.floats(-1e6, 1e6).filter(lambda x: abs(x) > 1e-3)


@given(numbers, numbers)
def test_the_deviation_is_the_difference_in_units_of_the_papers_number(theirs, ours):
    card = Card(**FIELDS | {"theirs": theirs, "ours": ours})
    assert theirs + card.deviation * abs(theirs) == pytest.approx(ours, rel=1e-9, abs=1e-6)
    assert card.difference == ours - theirs


@pytest.mark.parametrize(("theirs", "ours", "sign"), [(-100, -90, 1), (-100, -110, -1), (2, 1, -1), (-0.1, 0.1, 1)])
def test_the_deviation_is_positive_where_ours_is_the_larger_number(theirs, ours, sign):
    assert math.copysign(1, Card(**FIELDS | {"theirs": theirs, "ours": ours}).deviation) == sign


@pytest.mark.parametrize(
    "wrong", [{"why": " "}, {"place": ""}, {"certainty": "sure"}, {"ours": math.nan}, {"theirs": 0}]
)
def test_a_card_says_everything(wrong):
    with pytest.raises(ValueError, match=r"is empty|certainty has to be|finite"):
        Card(**FIELDS | wrong)


def test_a_card_shows_both_numbers_the_percentage_and_how_sure_the_papers_is(monkeypatch):
    shown = []
    monkeypatch.setattr(reproduction, "table", lambda *arguments, **options: shown.append((arguments, options)))
    Card(**FIELDS).show()
    ((rows, header, caption), options) = shown[0]
    assert header == reproduction.HEADER
    assert rows[1:3] == [("nats", 200.0, 150.0), ("deviation, in percent of the paper's", "", -25.0)]
    assert rows[3][1] == "number compared"
    assert "Table 1 of arXiv:1406.2661" in caption
    assert options == {"measured": True}


def test_the_summary_has_a_row_a_card_and_one_card_a_paper(monkeypatch):
    shown = []
    monkeypatch.setattr(reproduction, "table", lambda rows, *rest, **options: shown.extend(rows))
    reproduction.summary([Card(**FIELDS), Card(**FIELDS | {"arxiv": "1312.6114", "system": "VAE"})])
    assert [(row[0], row[4]) for row in shown] == [("GAN", -25.0), ("VAE", -25.0)]
    for cards in ([], [Card(**FIELDS)] * 2):
        with pytest.raises(ValueError, match="one card a paper"):
            reproduction.summary(cards)
