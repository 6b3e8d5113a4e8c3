"""One style for every figure, and one way to show figures and tables: with a caption and a text alternative.

A figure is a picture on an opaque white card, so it reads the same in light and dark mode; captions and tables are
HTML text that takes the reader's colours. Colours are those of Okabe and Ito (2008), which colour-blind readers can
tell apart; Chinese labels use Noto Sans SC from an installed package.
"""

import base64
import io
import math
import warnings
from collections.abc import Sequence
from html import escape
from importlib import metadata
from types import MappingProxyType
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from cycler import cycler
from IPython.display import display
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from aigc_lib.teaching import values

COLORS = MappingProxyType(
    {
        "blue": "#0072B2",
        "vermilion": "#D55E00",
        "green": "#009E73",
        "purple": "#CC79A7",
        "orange": "#E69F00",
        "sky": "#56B4E9",
        "black": "#000000",
        "yellow": "#F0E442",  # for areas only: a yellow line is hard to see on white
    }
)

WIDTH = 7.0  # inches: the text column of JupyterLab
_DPI = 120
_SHOWN_SIZE = 256  # pixels
_PALETTE_ERROR = 0.5  # of 255 levels, in the mean; a plot loses 0.1 to 0.2, a photograph more than 1
_CHINESE = ("pylopdf-fonts-zh-cn", "NotoSansSC-Regular.otf", "Noto Sans SC")  # package, file, family
_STYLE = {
    "figure.dpi": _DPI,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.facecolor": "white",
    "axes.edgecolor": "#444444",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "axes.prop_cycle": cycler(color=[color for name, color in COLORS.items() if name != "yellow"]),
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.9,
    "image.cmap": "viridis",
    "image.interpolation": "nearest",
    "axes.unicode_minus": True,
}


def use_style() -> None:
    """Set the course's style for all figures that follow. `begin` calls it.

    Warns once if the package with the Chinese font is not installed: Chinese labels then show as boxes.
    """
    plt.rcParams.update(_STYLE | {"font.family": ["DejaVu Sans", *_chinese_font()]})


def _chinese_font() -> list[str]:
    package, file_name, family = _CHINESE
    if family in {font.name for font in font_manager.fontManager.ttflist}:
        return [family]
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        files = []
    path = next((file.locate() for file in files if file.name == file_name), None)
    if path is None:
        warnings.warn(f"Chinese labels will show as boxes: pip install {package}", stacklevel=3)
        return []
    font_manager.fontManager.addfont(path)  # by file: matplotlib's own list of fonts may be older than the package
    return [family]


def figure(width: float = WIDTH, height: float = 3.2, **subplots_kw: Any) -> tuple[Figure, Any]:
    """A figure of `width` × `height` inches and its axes, as `matplotlib.pyplot.subplots` gives them."""
    return plt.subplots(figsize=(width, height), **({"layout": "constrained"} | subplots_kw))


def show(fig: Figure, caption: str, alt: str) -> None:
    """Display a figure with its caption, and close it. The one way to show a figure.

    Args:
        caption: what to see in it, for everybody.
        alt: what it shows, for readers who cannot see it; not the caption again.

    Raises:
        ValueError: caption or alt is empty, or they are the same text.
    """
    require_texts(caption, alt)
    show_html(picture_html(png(fig, crop=True), alt), caption)


def png(fig: Figure, *, crop: bool) -> bytes:
    """The figure as PNG bytes, and closes it. With `crop` without its empty margins: not for pictures that change."""
    buffer = io.BytesIO()
    margins = {"bbox_inches": "tight", "pad_inches": 0.08} if crop else {}
    fig.savefig(buffer, format="png", dpi=_DPI, **margins)
    plt.close(fig)
    return _with_palette(buffer.getvalue())


def _with_palette(image: bytes) -> bytes:
    """The same PNG with 256 colours of its own, a third of the bytes, unless that would show (as in photographs)."""
    full = Image.open(io.BytesIO(image)).convert("RGB")  # the style paints an opaque card
    reduced = full.quantize(256, dither=Image.Dither.NONE)
    error = np.abs(np.asarray(reduced.convert("RGB"), dtype=np.int16) - np.asarray(full)).mean()
    buffer = io.BytesIO()
    reduced.save(buffer, format="png", optimize=True)
    return buffer.getvalue() if error <= _PALETTE_ERROR else image


def picture_html(image: bytes, alt: str) -> str:
    """An `<img>` that carries its PNG bytes."""
    return f'<img alt="{escape(alt)}" src="{data_uri(image, "image/png")}" style="max-width:100%">'


def data_uri(content: bytes, mime_type: str) -> str:
    """The bytes as a data URI."""
    return f"data:{mime_type};base64,{base64.b64encode(content).decode()}"


def show_html(content: str, caption: str) -> None:
    """Display HTML, escaped already, as one figure with its caption."""
    html = (
        f'<figure style="margin:0.5em 0">{content}'
        f'<figcaption style="font-style:italic">{escape(caption)}</figcaption></figure>'
    )
    display({"text/html": html, "text/plain": caption}, raw=True)


def require_texts(caption: str, alt: str) -> None:
    """Raise ValueError unless there is a caption and a text alternative that says something else."""
    if not caption.strip():
        raise ValueError("a figure needs a caption that says what to see in it")
    if not alt.strip() or alt.strip() == caption.strip():
        raise ValueError(f"a figure needs an alt text that describes it and is not the caption, got {alt!r}")


def image_grid(images: torch.Tensor, n_columns: int, ax: Axes | None = None) -> Axes:
    """Draw pictures in rows of `n_columns` into `ax`, or into a new figure (`show(ax.figure, …)` displays it).

    Args:
        images: (B, C, H, W) float in [-1, 1]; one channel is shown in grey, three in colour. Values are not clipped.

    Raises:
        ValueError: another shape, no images, values outside [-1, 1] or not finite, or `n_columns` < 1.
    """
    pixels = to_pixels(images)
    if n_columns < 1:
        raise ValueError(f"n_columns has to be at least 1, got {n_columns}")
    batch, height, width, _ = pixels.shape
    n_columns = min(n_columns, batch)
    n_rows = math.ceil(batch / n_columns)
    gap = max(1, round(width / 16))
    sheet = np.full((n_rows * (height + gap) - gap, n_columns * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for i, image in enumerate(pixels):
        top, left = (i // n_columns) * (height + gap), (i % n_columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
    if ax is None:
        inches = min(WIDTH, 1.1 * n_columns)
        _, ax = figure(inches, inches * sheet.shape[0] / sheet.shape[1])
    ax.imshow(sheet)
    ax.set_axis_off()
    return ax


def to_pixels(images: torch.Tensor) -> np.ndarray:
    """(B, C, H, W) float in [-1, 1] → (B, H, W, 3) uint8. ValueError for everything else; see `image_grid`."""
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.numel() or not images.is_floating_point():
        shape, dtype = tuple(images.shape), images.dtype
        raise ValueError(f"expected float images (B, C, H, W) with 1 or 3 channels and B ≥ 1, got {shape}, {dtype}")
    images = images.detach().cpu().float()
    if not images.isfinite().all() or images.abs().max() > 1 + 1e-4:  # rounding of bf16 and of resizing is allowed
        low, high = images.min().item(), images.max().item()
        raise ValueError(f"images have to be finite and in [-1, 1], got [{low:.4g}, {high:.4g}]; clamp or rescale them")
    colour = images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1)  # (B, H, W, 3)
    return ((colour.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()


def enlarge(pixels: np.ndarray) -> np.ndarray:
    """(B, H, W, 3), enlarged by the whole factor that brings the longer side up to 256 pixels, if there is one."""
    factor = max(1, _SHOWN_SIZE // max(pixels.shape[1:3]))
    return pixels.repeat(factor, axis=1).repeat(factor, axis=2)


def table(rows: Sequence[Sequence[Any]], header: Sequence[str], caption: str, measured: bool = False) -> None:
    """Display a table; the first column names the rows.

    Floats show four significant digits, integers and texts show exactly. With `measured=True` every float carries a
    "≈" and is masked when the notebooks are validated; integers are not, so make a measured count a float.

    Raises:
        ValueError: no rows, a row that is not as long as the header, or an empty caption.
    """
    wrong = next((row for row in rows if len(row) != len(header)), None)
    if not rows or wrong is not None:
        raise ValueError(f"a table needs rows with {len(header)} cells each, as its header has, got {wrong}")
    if not caption.strip():
        raise ValueError("a table needs a caption that says what to see in it")
    texts = [[_cell(value, measured) for value in row] for row in rows]
    head = "".join(f'<th scope="col" style="text-align:{_side(column)}">{escape(name)}</th>'
                   for name, column in zip(header, zip(*rows, strict=True), strict=True))  # fmt: skip
    body = "".join(
        f'<tr><th scope="row" style="text-align:left">{escape(first)}</th>'
        + "".join(f'<td style="text-align:{_side([value])}">{escape(text)}</td>'
                  for text, value in zip(rest, row[1:], strict=True))
        + "</tr>"
        for (first, *rest), row in zip(texts, rows, strict=True)
    )  # fmt: skip
    html = (
        f'<table><caption style="caption-side:bottom;text-align:left;font-style:italic">{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )
    plain = "\n".join(" | ".join(row) for row in [list(header), *texts])  # not aligned: widths of "≈" values vary
    display({"text/html": html, "text/plain": f"{caption}\n{plain}"}, raw=True)


def _cell(value: Any, measured: bool) -> str:
    if isinstance(value, torch.Tensor | np.generic):
        value = value.item()
    if isinstance(value, float):
        return f"≈ {values.number(value)}" if measured else values.number(value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _side(column: Sequence[Any]) -> str:
    return "left" if any(isinstance(value, str) for value in column) else "right"
