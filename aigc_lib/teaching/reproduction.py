"""Reproduction cards: a result of a paper, the same at course scale, and how far apart the two are.

The deviation is computed from the two numbers, never typed in: a card cannot claim to be nearer than it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from aigc_lib.teaching.figures import table

# How sure the paper's number is: compared with the text of the paper; with copies of its tables in other people's notes
# and threads; or remembered.
CERTAINTIES = ("compared", "second-hand", "from memory")
HEADER = ("what", "in the paper", "here")


@dataclass(frozen=True, kw_only=True)
class Card:
    """One result of a paper beside its repetition.

    Args:
        system: such as "GAN".
        arxiv: the paper's number, such as "1406.2661".
        place: the table, figure or section that is repeated.
        quantity: what both numbers are, with unit.
        theirs, ours: the numbers.
        their_setting, our_setting: data, size and budget.
        certainty: of `theirs`, one of `CERTAINTIES`.
        why: where the deviation comes from.

    Raises:
        ValueError: an empty text, another certainty, or a number that is not finite; `theirs` is 0.
    """

    system: str
    arxiv: str
    place: str
    quantity: str
    theirs: float
    ours: float
    their_setting: str
    our_setting: str
    certainty: str
    why: str

    def __post_init__(self) -> None:
        empty = [name for name, value in vars(self).items() if isinstance(value, str) and not value.strip()]
        if empty:
            raise ValueError(f"a card says everything: {', '.join(empty)} is empty")
        if self.certainty not in CERTAINTIES:
            raise ValueError(f"certainty has to be one of {', '.join(CERTAINTIES)}, got {self.certainty!r}")
        if not (isfinite(self.theirs) and isfinite(self.ours)) or self.theirs == 0:
            raise ValueError(f"both numbers have to be finite and the paper's not 0, got {self.theirs} and {self.ours}")

    @property
    def difference(self) -> float:
        """ours − theirs, in the unit of both."""
        return self.ours - self.theirs

    @property
    def deviation(self) -> float:
        """(ours − theirs) / |theirs|: 0 is a perfect repetition, 1 is twice a positive number, −1 is nothing left."""
        return self.difference / abs(self.theirs)

    def show(self) -> None:
        """Display the card as a table."""
        table(
            [
                ("setting", self.their_setting, self.our_setting),
                (self.quantity, self.theirs, self.ours),
                ("deviation, in percent of the paper's", "", 100.0 * self.deviation),
                ("why", f"number {self.certainty}", self.why),
            ],
            HEADER,
            f"{self.system}: {self.place} of arXiv:{self.arxiv}, repeated at course scale.",
            measured=True,
        )


def summary(cards: Sequence[Card]) -> None:
    """Display all cards as rows of one table. Raises ValueError without cards, or with two for one paper."""
    papers = [card.arxiv for card in cards]
    if len(set(papers)) < len(papers) or not papers:
        raise ValueError(f"expected one card a paper and at least one, got {', '.join(papers) or 'none'}")
    table(
        [(c.system, f"{c.place}: {c.quantity}", c.theirs, c.ours, 100.0 * c.deviation, c.certainty) for c in cards],
        ("system", "what is repeated", "paper", "here", "deviation in %", "the paper's number"),
        "Deviation: here minus paper, in percent of the paper's number. Settings and reasons are on the cards.",
        measured=True,
    )
