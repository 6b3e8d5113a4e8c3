"""What chapter 3 shows: the families it names and the five steps, each run and checked."""

import re
from functools import cache

import pytest

from tests.notebooks.rules import ROOT, Chapter


@cache
def cells():
    return {cell.id: cell for cell in Chapter(ROOT / "notebooks" / "03_algorithms.ipynb").cells}


def printed(cell):
    return "".join(out.get("text", "") for out in cell.outputs)


def test_five_families_are_named():
    rows = re.findall(r'\("(\w+)", "[^"]+ arXiv:\d{4}\.\d{4,5}"', cells()["algorithms-five-families"].source)
    assert rows == ["adversarial", "variational", "autoregressive", "flow", "diffusion"]


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_each_of_the_five_steps_is_run_and_checked(step):
    names = [name for name in cells() if name.startswith(f"algorithms-step-{step}")]
    assert cells()[names[0]].source.startswith(f"#### Step {step}: ")
    runs = [cells()[name] for name in names if cells()[name].cell_type == "code"]
    assert any(re.search(r"^(✓|✗ refuted) 3\.1\.1  ", printed(cell), re.M) for cell in runs)
    assert f"| {step} | " in cells()["algorithms-five-steps"].source
