"""Figures that the reader moves, with a still picture for those who have no kernel.

The picture is an `<img>` with a text alternative, made anew from PNG bytes when a control changes: no Output widget,
whose contents are lost when a notebook runs without a browser. It waits until the control rests for a moment.
"""

import asyncio
import io
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import ipywidgets
import numpy as np
import torch
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image

from aigc_lib.teaching import figures, values

_REST = 0.1  # seconds
_N_STILLS = 6


class InteractiveFigure:
    """A picture below its controls. `Scrubber` and `explore` make those that the course needs most.

    As the last expression of a cell, or with `display`, it shows two outputs: the widget, and a still figure with the
    caption. Where no event loop runs (in tests) the picture follows its controls at once.

    Args:
        draw: gets the value of every control by its name, returns PNG bytes of always the same size. Its exceptions
            are shown in place of the picture.
        draw_still: returns the figure for readers without a kernel.
        controls: ipywidgets with a `value`, by name. One without a description is labelled with its name.
        description: what the reader can find out; the caption.
        alt: what the picture shows; the present values are added to it.

    Raises:
        ValueError: no controls, one without a `value`, or description or alt is empty or they are the same.
    """

    def __init__(
        self,
        draw: Callable[..., bytes],
        draw_still: Callable[[], Figure],
        controls: Mapping[str, ipywidgets.DOMWidget],
        description: str,
        alt: str,
    ):
        figures.require_texts(description, alt)
        wrong = [name for name, control in controls.items() if not control.has_trait("value")]
        if wrong or not controls:
            raise ValueError(f"controls have to be ipywidgets with a value, got {wrong or 'none'}")
        self.controls = dict(controls)
        self.description = description
        self.alt = alt
        self.picture = ipywidgets.HTML()
        self._draw = draw
        self._draw_still = draw_still
        self._timer: asyncio.TimerHandle | None = None
        for name, control in self.controls.items():
            control.description = control.description or name
            control.style.description_width = "initial"  # the whole label
            control.observe(self._redraw_soon, names="value")
        self.redraw()

    @property
    def settings(self) -> dict[str, Any]:
        """The present value of every control, by name."""
        return {name: control.value for name, control in self.controls.items()}

    def redraw(self) -> None:
        """Draw the picture for the present values."""
        try:
            image = self._draw(**self.settings)
        except Exception as error:  # in a running kernel nobody would see it otherwise
            self.picture.value = f'<pre role="alert">{escape(f"{type(error).__name__}: {error}")}</pre>'
        else:
            shown = ", ".join(f"{control.description}: {_shown(control)}" for control in self.controls.values())
            self.picture.value = figures.picture_html(image, f"{self.alt} ({shown})")

    def _redraw_soon(self, _change: Any) -> None:
        if self._timer:
            self._timer.cancel()
        try:
            self._timer = asyncio.get_running_loop().call_later(_REST, self.redraw)
        except RuntimeError:
            self.redraw()

    def _ipython_display_(self) -> None:
        box = ipywidgets.VBox([*self.controls.values(), self.picture])
        # Its own text would quote the bytes of the picture, which differ between machines.
        display(box._repr_mimebundle_() | {"text/plain": "Interactive figure: run this cell to use it."}, raw=True)
        caption = f"{self.description} (A still: without a running kernel the controls do not change the picture.)"
        figures.show(self._draw_still(), caption, self.alt)


class Scrubber(InteractiveFigure):
    """A slider through pictures, such as the samples of a model as it learns; the arrow keys move it.

    Args:
        frames: (F, C, H, W) float in [-1, 1], or a sequence of figures (they are closed) or of PNG bytes.
        labels: one for each frame, all different, such as "step 1,200".
        description: what the reader can find out; the caption.
        alt: what the pictures show.

    Raises:
        ValueError: no frames, labels that do not fit them or are equal, or bad frames; see also `InteractiveFigure`.
    """

    def __init__(
        self, frames: torch.Tensor | Sequence[Figure | bytes], labels: Sequence[str], description: str, alt: str
    ):
        if not len(frames) or len(labels) != len(frames) or len(set(labels)) != len(labels):
            raise ValueError(f"expected frames and as many different labels, got {len(frames)} and {list(labels)}")
        images = _encode(frames) if isinstance(frames, torch.Tensor) else [_png(frame) for frame in frames]
        slider = ipywidgets.SelectionSlider(
            options=[(label, i) for i, label in enumerate(labels)], layout=ipywidgets.Layout(width="98%")
        )
        super().__init__(lambda show: images[show], lambda: _strip(images, labels), {"show": slider}, description, alt)


def explore(
    draw: Callable[..., Figure], controls: Mapping[str, ipywidgets.DOMWidget], description: str, alt: str
) -> InteractiveFigure:
    """A figure that follows its controls.

    Args:
        draw: gets the value of every control by its name, returns a new matplotlib figure (it is closed).
        controls: such as `{"temperature": ipywidgets.FloatSlider(min=0.1, max=2, value=1)}`.
        description: what the reader can find out; the caption.
        alt: what the figure shows.

    Raises:
        ValueError: see `InteractiveFigure`.
    """
    return InteractiveFigure(
        lambda **settings: figures.png(draw(**settings), crop=False),
        lambda: draw(**{name: control.value for name, control in controls.items()}),
        controls,
        description,
        alt,
    )


def _shown(control: ipywidgets.DOMWidget) -> str:
    if control.has_trait("label"):  # a selection
        return str(control.label)
    return values.number(control.value) if isinstance(control.value, float) else str(control.value)


def _encode(frames: torch.Tensor) -> list[bytes]:
    images = []
    for pixels in figures.enlarge(figures.to_pixels(frames)):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG")
        images.append(buffer.getvalue())
    return images


def _png(frame: Figure | bytes) -> bytes:
    if isinstance(frame, Figure):
        return figures.png(frame, crop=False)
    if isinstance(frame, bytes) and frame.startswith(b"\x89PNG"):
        return frame
    raise ValueError(f"a frame has to be a figure or PNG bytes, got {type(frame).__name__}")


def _strip(images: Sequence[bytes], labels: Sequence[str]) -> Figure:
    """Up to six frames, from the first to the last in equal steps."""
    chosen = np.linspace(0, len(images) - 1, min(_N_STILLS, len(images))).round().astype(int)
    pictures = [Image.open(io.BytesIO(images[i])) for i in chosen]
    ratio = pictures[0].height / pictures[0].width
    n_columns = min(len(chosen), 2 if ratio < 0.6 else _N_STILLS)  # wide figures need room to be readable
    n_rows = -(-len(chosen) // n_columns)
    height = n_rows * (figures.WIDTH / n_columns * ratio + 0.25)
    fig, axes = figures.figure(height=height, nrows=n_rows, ncols=n_columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, i, picture in zip(axes.flat, chosen, pictures, strict=False):
        ax.imshow(picture)
        ax.set_title(labels[i], fontsize=8)
    return fig
