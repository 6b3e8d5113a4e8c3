import asyncio
import base64
import html
import io
import re
import subprocess
import sys
from pathlib import Path

import ipywidgets
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

from aigc_lib.teaching import figures, widgets
from aigc_lib.teaching.widgets import InteractiveFigure, Scrubber, explore

FRAMES = torch.linspace(-1, 1, 9).view(9, 1, 1, 1).expand(9, 3, 8, 8)
LABELS = [f"step {1_000 * i:,}" for i in range(9)]
SANITIZE = Path(__file__).parents[1] / "notebooks" / "sanitize.cfg"


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture
def shown(monkeypatch):
    """The MIME bundles that are displayed."""
    bundles = []
    for module in (figures, widgets):
        monkeypatch.setattr(module, "display", lambda bundle, raw: bundles.append(bundle))
    return bundles


def scrubber(**changes) -> Scrubber:
    return Scrubber(
        **({"frames": FRAMES, "labels": LABELS, "description": "Grey rises.", "alt": "A square."} | changes)
    )


def brightness(figure: InteractiveFigure) -> float:
    encoded = re.search(r'src="data:image/png;base64,([^"]+)"', figure.picture.value)[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded)))).mean() / 127.5 - 1


def alternative_text(figure: InteractiveFigure) -> str:
    return html.unescape(re.search(r'alt="([^"]*)"', figure.picture.value)[1])


@pytest.mark.parametrize("position", [0, 3, 8])
def test_the_slider_chooses_the_frame_and_its_description(position):
    figure = scrubber()
    figure.controls["show"].index = position
    assert brightness(figure) == pytest.approx(FRAMES[position].mean().item(), abs=0.01)
    assert alternative_text(figure) == f"A square. (show: {LABELS[position]})"


def test_figures_and_png_bytes_are_frames_too():
    drawn = []
    for level in ("black", "white"):
        fig, _ = figures.figure(height=1)
        fig.set_facecolor(level)
        drawn.append(fig)
    figure = scrubber(frames=[drawn[0], figures.png(drawn[1], crop=False)], labels=["a", "b"])
    first, size = figure.picture.value, len(plt.get_fignums())
    figure.controls["show"].label = "b"
    assert figure.picture.value != first
    assert size == 0, "its figures are closed"


def test_it_shows_a_widget_without_its_bytes_and_a_still_with_the_caption(shown):
    scrubber()._ipython_display_()
    widget, still = shown
    assert "application/vnd.jupyter.widget-view+json" in widget
    assert widget["text/plain"] == "Interactive figure: run this cell to use it."
    assert "Grey rises." in still["text/plain"]
    assert "without a running kernel the controls do not change the picture" in still["text/plain"]
    assert 'alt="A square."' in still["text/html"]


@pytest.mark.parametrize(("n_frames", "titles"), [(9, ["0", "2,000", "3,000", "5,000", "6,000", "8,000"]), (1, ["0"])])
def test_the_still_goes_from_the_first_frame_to_the_last(n_frames, titles):
    fig = scrubber(frames=FRAMES[:n_frames], labels=LABELS[:n_frames])._draw_still()
    assert [ax.get_title() for ax in fig.axes if ax.get_images()] == [f"step {title}" for title in titles]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": FRAMES[:0], "labels": []}, "got 0"),
        ({"labels": LABELS[:-1]}, "as many different labels, got 9"),
        ({"labels": ["same"] * 9}, "different labels"),
        ({"frames": FRAMES * 2}, r"\[-1, 1\]"),
        ({"frames": ["picture.png"] * 9}, "PNG bytes, got str"),
        ({"frames": [b"GIF89a"] * 9}, "PNG bytes"),
        ({"description": ""}, "caption"),
        ({"alt": " "}, "alt text"),
    ],
)
def test_bad_input_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        scrubber(**changes)


def draw_level(level: float, colour: str):
    if level < 0.2:
        raise ValueError("level <0.2>")
    fig, ax = figures.figure(height=1)
    ax.bar([0], [level], color=colour)
    return fig


def explorer() -> InteractiveFigure:
    controls = {
        "level": ipywidgets.FloatSlider(value=0.5, min=0, max=1),
        "colour": ipywidgets.Dropdown(options=["blue", "red"], description="paint"),
    }
    return explore(draw_level, controls, "A bar rises.", "One bar.")


def test_a_figure_follows_its_controls_and_keeps_its_size():
    figure = explorer()
    first = figure.picture.value
    assert alternative_text(figure) == "One bar. (level: 0.5, paint: blue)"
    figure.controls["level"].value = 0.75
    figure.controls["colour"].value = "red"
    assert figure.picture.value != first
    assert alternative_text(figure) == "One bar. (level: 0.75, paint: red)"
    assert figure.settings == {"level": 0.75, "colour": "red"}
    assert not plt.get_fignums()


def test_controls_without_a_label_get_their_name():
    assert [control.description for control in explorer().controls.values()] == ["level", "paint"]


def test_an_exception_is_shown_in_place_of_the_picture_until_it_is_mended():
    figure = explorer()
    figure.controls["level"].value = 0.1
    assert figure.picture.value == '<pre role="alert">ValueError: level &lt;0.2&gt;</pre>'
    figure.controls["level"].value = 0.5
    assert figure.picture.value.startswith("<img")


@pytest.mark.parametrize("controls", [{}, {"box": ipywidgets.VBox()}])
def test_controls_need_a_value(controls):
    with pytest.raises(ValueError, match="controls have to be"):
        explore(draw_level, controls, "A bar.", "One bar.")


def test_in_a_running_loop_only_the_last_of_quick_changes_is_drawn(monkeypatch):
    monkeypatch.setattr(widgets, "_REST", 0.01)
    drawn = []

    async def drag():
        figure = scrubber()
        monkeypatch.setattr(figure, "_draw", lambda show: drawn.append(show) or b"")
        for position in (1, 2, 3):
            figure.controls["show"].index = position
        assert drawn == [], "nothing is drawn while the control moves"
        await asyncio.sleep(0.1)

    asyncio.run(drag())
    assert drawn == [3]


CELL = """
import torch
from aigc_lib.teaching.widgets import Scrubber
Scrubber(torch.zeros(3, 1, 8, 8), ["a", "b", "c"], "Nothing changes.", "A grey square.")
"""


def test_a_notebook_with_a_widget_passes_strict_nbval(tmp_path):
    notebook = new_notebook(cells=[new_code_cell(CELL)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    NotebookClient(notebook, timeout=120).execute()
    assert len(notebook.cells[0].outputs) == 2
    nbformat.write(notebook, tmp_path / "widget.ipynb")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "--nbval", "--nbval-current-env", f"--nbval-sanitize-with={SANITIZE}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert "1 passed" in result.stdout, result.stdout
