"""tests/notebooks/sanitize.cfg, read and applied as nbval does it, and by nbval itself on a small notebook."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from nbval.plugin import get_sanitize_patterns

CONFIG = Path(__file__).parents[1] / "notebooks" / "sanitize.cfg"
PATTERNS = get_sanitize_patterns(CONFIG.read_text(encoding="ascii"))


def sanitize(text: str) -> str:
    for pattern, replacement in dict(PATTERNS).items():
        text = re.sub(pattern, replacement, text)
    return text


def test_nbval_finds_every_pair():
    written = CONFIG.read_text(encoding="ascii").count("\nregex: ")
    assert len(dict(PATTERNS)) == written == 8


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("got ≈ 0.83, expected ≈ 0.9", "got ≈ 12, expected ≈ -1e-05"),
        ("accuracy ≈ 97.5 % of 1,000", "accuracy ≈ 9 % of 1,000"),
        ("mean of 1,000 ≈ 0.0029 ± 0.031, expected = 0", "mean of 1,000 ≈ −1,234.5 ± 2e+03, expected = 0"),
        ("eigenvalue ≈ -0.15+0.477j", "eigenvalue ≈ 3-1e-03j"),
        ("<td>≈ 0.5</td>", "<td>≈ nan</td>"),
        ('<img src="data:image/png;base64,iVBORw0KGgo=">', '<img src="data:image/png;base64,AAAA+/==">'),
        ("<audio src='data:audio/flac;base64,QUJD'>", "<audio src='data:audio/flac;base64,Qg=='>"),
        ("<object at 0x7f3a1c2b>", "<object at 0x55d0e8a1b2c3>"),
        ("id=" + "0123456789abcdef" * 2, "id=" + "f" * 32),
        (" 40%|████      | 4/10 [00:01<00:02, 2.9it/s]", "100%|██████████| 10/10 [00:03<00:00]"),
        ("took 3.2 s and 15 ms", "took 10 s and 1.5e+01 ms"),
        ("saved to /home/reader/course/build/a.png.", "saved to /tmp/x.png."),
        (r"saved to C:\Users\reader\a.png now", r"saved to D:\b.png now"),
    ],
)
def test_what_differs_between_machines_is_masked(one, other):
    assert one != other
    assert sanitize(one) == sanitize(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("got = 0.83, expected = 0.83", "got = 0.84, expected = 0.83"),
        ("got ≈ 0.83, |difference| ≤ 0.05", "got ≈ 0.83, |difference| ≤ 0.5"),
        ("got ≈ 0.83 of 10", "got ≈ 0.83 of 11"),
        ("shape (3, 4)", "shape (3, 5)"),
        ("4 standard errors", "5 standard errors"),
        ("100 steps", "200 steps"),
        ("sha256 " + "0a" * 32, "sha256 " + "0b" * 32),
        ("see https://arxiv.org/abs/1406.2661", "see https://arxiv.org/abs/1406.2662"),
        ("<tr><td>1</td></tr>", "<tr><td>2</td></tr>"),
        ("wav/8000/16", "wav/8000/24"),
    ],
)
def test_what_is_the_same_everywhere_is_compared(one, other):
    assert sanitize(one) != sanitize(other)


CELL = """
from aigc_lib.teaching.checks import check
check("1", "exact", 0.5, 0.5, within=1e-12)
check("1", "measured", 0.52, 0.5, within=0.1, measured=True)
"""
OUTPUT = """\
✓ 1  exact: got = 0.5, expected = 0.5, |difference| ≤ 1e-12
✓ 1  measured: got ≈ 0.52, expected ≈ 0.5, |difference| ≤ 0.1
"""


def write_notebook(path: Path, stored: str) -> None:
    output = new_output("stream", name="stdout", text=stored)
    nbformat.write(new_notebook(cells=[new_code_cell(CELL, execution_count=1, outputs=[output])]), path)


def test_nbval_compares_exact_values_and_not_measured_ones(tmp_path):
    write_notebook(tmp_path / "measured.ipynb", OUTPUT.replace("≈ 0.52, expected ≈ 0.5", "≈ 0.4871, expected ≈ 0.51"))
    write_notebook(tmp_path / "exact.ipynb", OUTPUT.replace("got = 0.5", "got = 0.6"))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-rA",
            "--nbval",
            "--nbval-current-env",
            f"--nbval-sanitize-with={CONFIG}",
            ".",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "PASSED measured.ipynb" in result.stdout, result.stdout
    assert "FAILED exact.ipynb" in result.stdout, result.stdout
