import base64
import html
import io
import re
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib import colors, font_manager
from PIL import Image

from aigc_lib.teaching import figures
from aigc_lib.teaching.figures import COLORS, figure, image_grid, show, table, use_style


@pytest.fixture(autouse=True)
def _style():
    use_style()
    yield
    plt.close("all")


@pytest.fixture
def shown(monkeypatch):
    """The MIME bundles that are displayed."""
    bundles = []
    monkeypatch.setattr(figures, "display", lambda bundle, raw: bundles.append(bundle))
    return bundles


class Elements(HTMLParser):
    """The start tags of an HTML text, as (name, attributes)."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def of(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def test_a_figure_is_one_html_output_with_picture_caption_and_plain_text(shown):
    fig, axes = figure()
    axes.plot([1, 2])
    show(fig, caption='Losses <fall> & "rise".', alt='A line <up> & "on".')
    (bundle,) = shown
    elements = Elements(bundle["text/html"])
    (picture,) = elements.of("img")
    assert picture["alt"] == 'A line <up> & "on".'
    assert html.escape('Losses <fall> & "rise".') in bundle["text/html"]
    assert [name for name, _ in elements.found] == ["figure", "img", "figcaption"]
    assert bundle["text/plain"] == 'Losses <fall> & "rise".'


def test_the_picture_is_an_opaque_png_on_white(shown):
    fig, axes = figure(height=2)
    axes.plot([1, 2])
    show(fig, "caption", "alt")
    encoded = re.search(r"data:image/png;base64,([^\"]+)", shown[0]["text/html"])[1]
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGBA"))
    assert (picture[..., 3] == 255).all()
    assert (picture[0, 0] == 255).all()
    assert 600 < picture.shape[1] < 900


def test_a_plot_travels_with_a_palette_and_a_photograph_with_all_its_colours():
    def travelled(pixels):
        fig, ax = figures.figure(height=2)
        ax.imshow(pixels)
        return Image.open(io.BytesIO(figures.png(fig, crop=True)))

    random = np.random.default_rng(0)
    plot = travelled(np.linspace(0, 1, 400).reshape(20, 20))
    photograph = travelled(random.uniform(size=(60, 60, 3)))
    assert plot.mode == "P"
    assert plot.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    assert photograph.mode == "RGBA"
    assert len(photograph.getcolors(maxcolors=10**6)) > 1000


def test_showing_closes_the_figure(shown):
    fig, _ = figure()
    show(fig, "caption", "alt")
    assert len(shown) == 1
    assert not plt.fignum_exists(fig.number)


@pytest.mark.parametrize(("caption", "alt"), [("", "alt"), ("caption", " "), ("same", "same")])
def test_caption_and_alternative_text_are_both_required(shown, caption, alt):
    with pytest.raises(ValueError, match="caption"):
        show(figure()[0], caption, alt)
    assert not shown


def test_chinese_labels_have_glyphs(recwarn):
    fig, axes = figure(height=1)
    axes.set_title("生成对抗网络 Loss −1")
    figures.png(fig, crop=True)
    assert not [str(warning.message) for warning in recwarn if "Glyph" in str(warning.message)]


def test_without_the_font_package_one_warning_names_it(monkeypatch):
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [])
    monkeypatch.setattr(figures, "_CHINESE", ("no-such-package", "font.otf", "No Such Font"))
    with pytest.warns(UserWarning, match="pip install no-such-package") as caught:
        use_style()
    assert len(caught) == 1
    assert plt.rcParams["font.family"] == ["DejaVu Sans"]


def test_the_colours_are_eight_and_differ_for_every_reader():
    assert len(set(COLORS.values())) == 8
    # Okabe and Ito chose them to differ in brightness too: no two are equal in grey.
    grey = [0.299 * r + 0.587 * g + 0.114 * b for r, g, b in map(colors.to_rgb, COLORS.values())]
    assert len({round(value, 2) for value in grey}) == 8


class TestImageGrid:
    def test_every_picture_has_its_place(self):
        levels = torch.linspace(-1, 1, 6)
        ax = image_grid(levels.view(6, 1, 1, 1).expand(6, 1, 4, 4), n_columns=4)
        sheet = np.asarray(ax.get_images()[0].get_array())  # one pixel between pictures
        assert sheet.shape == (2 * 4 + 1, 4 * 4 + 3, 3)
        assert [sheet[row * 5, column * 5, 0] for row, column in [(0, 0), (0, 3), (1, 0), (1, 1)]] == [0, 153, 204, 255]
        assert (sheet[5:, 10:] == 255).all(), "places without a picture are white"

    def test_it_draws_into_given_axes(self):
        _, axes = figure(ncols=2)
        assert image_grid(torch.zeros(2, 3, 4, 4), 2, ax=axes[1]) is axes[1]
        assert not axes[0].get_images()

    @pytest.mark.parametrize(
        ("images", "message"),
        [
            (torch.zeros(3, 8, 8), "B, C, H, W"),
            (torch.zeros(1, 2, 8, 8), "1 or 3 channels"),
            (torch.zeros(0, 3, 8, 8), "B ≥ 1"),
            (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "uint8"),
            (torch.full((1, 3, 8, 8), 1.5), r"\[1.5, 1.5\]"),
            (torch.full((1, 3, 8, 8), torch.nan), "nan"),
        ],
    )
    def test_bad_images_are_refused(self, images, message):
        with pytest.raises(ValueError, match=message):
            image_grid(images, 4)

    def test_it_needs_a_column(self):
        with pytest.raises(ValueError, match="n_columns"):
            image_grid(torch.zeros(1, 1, 4, 4), 0)


class TestTable:
    rows = (("GAN <1>", 0.83125, 5_000, True), ("VAE", torch.tensor(12.5), np.int64(7), None))
    header = ("model", "precision", "steps", "converged")

    def test_cells_are_headed_by_their_row_and_column(self, shown):
        table(self.rows, self.header, "What to see.")
        elements = Elements(shown[0]["text/html"])
        assert [th["scope"] for th in elements.of("th")] == ["col"] * 4 + ["row"] * 2
        assert len(elements.of("caption")) == 1
        assert "GAN &lt;1&gt;" in shown[0]["text/html"]

    def test_the_plain_text_has_the_same_cells(self, shown):
        table(self.rows, self.header, "What to see.")
        assert shown[0]["text/plain"].splitlines() == [
            "What to see.",
            "model | precision | steps | converged",
            "GAN <1> | 0.8312 | 5,000 | True",
            "VAE | 12.5 | 7 | None",
        ]

    def test_only_measured_floats_carry_the_sign_that_is_masked(self, shown):
        table(self.rows, self.header, "What to see.", measured=True)
        assert shown[0]["text/plain"].count("≈") == shown[0]["text/html"].count("≈") == 2
        assert "≈ 0.8312 | 5,000" in shown[0]["text/plain"]

    @pytest.mark.parametrize("rows", [[], [("one",)]])
    def test_rows_are_as_long_as_the_header(self, rows):
        with pytest.raises(ValueError, match="4 cells"):
            table(rows, self.header, "caption")

    def test_a_caption_is_required(self):
        with pytest.raises(ValueError, match="caption"):
            table(self.rows, self.header, "")
