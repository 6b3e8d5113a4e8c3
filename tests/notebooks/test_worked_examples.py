"""Chapter 4's heading promises worked examples (item K4.0 of the course map); each of its eight systems has them."""

import re

import pytest

from tests.notebooks.rules import ROOT, Chapter, text_of

WORKED = {
    "4.1": "gan-two-classes-check",
    "4.2": "vae-example-check",
    "4.3": "rnn-example-check",
    "4.4": "transformer-attention-check",
    "4.5": "wavenet-model-check",
    "4.6": "waveglow-change-check",
    "4.7": "flownet-model-check",
    "4.8": "stylegan-logit-check",
}
CELLS = {cell.id: cell for cell in Chapter(ROOT / "notebooks" / "04_mathematics.ipynb").code}


@pytest.mark.parametrize("section", WORKED)
def test_every_system_works_an_example_in_closed_form(section):
    """A result stated beforehand and met to at least six digits, in the stored run: no simulation comes that near."""
    printed = "\n".join(text_of(output) for output in CELLS[WORKED[section]].outputs)
    passed = re.findall(rf"(?m)^✓ {re.escape(section)}\b.*\|difference\| ≤ 1e-(\d+)$", printed)
    assert passed, f"{WORKED[section]} checks nothing of {section}"
    assert max(map(int, passed)) >= 6
