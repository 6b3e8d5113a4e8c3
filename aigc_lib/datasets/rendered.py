"""Pictures made from vector drawings: seeded avatars and Chinese characters."""

import importlib.util
import io
import json

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from tqdm.auto import tqdm

from aigc_lib.datasets.base import Images, MissingDataPackage, from_bytes, split_of
from aigc_lib.datasets.cache import prepared
from aigc_lib.datasets.pixels import read_rgb
from aigc_lib.datasets.provenance import info
from aigc_lib.datasets.sources import install_command, verify

STYLES = ("pixel-art", "lorelei", "landscape", "critters")
FONTS = {"sans": "NotoSansSC-Regular.otf", "serif": "NotoSerifSC-Regular.otf"}


def avatars(split: str, style: str = "pixel-art", resolution: int = 64, n: int = 2000, seed: int = 0) -> Images:
    """Seeded drawings by DiceBear: faces ("pixel-art", "lorelei"), landscapes or critters, all under CC0.

    Drawing i of a seed is the same whatever `n` is. A drawing's split comes from the hash of the drawing itself, so
    equal drawings cannot lie in two splits. The vector drawing is rendered on white at exactly `resolution` pixels.

    Args:
        style: one of `STYLES`.
        resolution: height and width, 16 to 512.
        n: how many are drawn for all splits together; about 80, 10 and 10 percent of them are in the splits.
        seed: another one gives other drawings.

    Returns:
        Images (N, 3, resolution, resolution), without labels or captions.
    """
    if style not in STYLES:
        raise ValueError(f"unknown style {style!r}; there are: {', '.join(STYLES)}")
    if not 16 <= resolution <= 512:
        raise ValueError(f"expected a resolution from 16 to 512, got {resolution}")
    if n < 30:
        raise ValueError(f"expected n of at least 30, so that no split is empty, got {n}")
    entry = info("avatars")
    files = verify(entry)

    def build() -> dict[str, np.ndarray]:
        draw = _avatar_renderer(files[f"dicebear_styles/{style}.json"].read_text(encoding="utf-8"))
        keys = [f"{style}/{seed}/{i}" for i in range(n)]
        drawings = [draw(key, resolution) for key in tqdm(keys, desc=f"drawing {style} avatars", leave=False)]
        splits = [split_of(svg) for svg, _ in drawings]
        return {
            "pixels": np.stack([pixels for _, pixels in drawings]),
            "keys": np.array(keys),
            "splits": np.array(splits),
        }

    arrays = prepared(entry, build, style=style, resolution=resolution, n=n, seed=seed)
    index = np.flatnonzero(arrays["splits"] == split)
    return Images(
        from_bytes(torch.from_numpy(arrays["pixels"][index])),
        keys=arrays["keys"][index].tolist(),
        info=entry,
        split=split,
    )


def _avatar_renderer(style_definition: str):
    """A function (seed text, resolution) -> (SVG, (3, resolution, resolution) uint8)."""
    if importlib.util.find_spec("dicebear") is None or importlib.util.find_spec("resvg_py") is None:
        raise MissingDataPackage(
            f"drawing avatars needs dicebear-core and resvg-py. Run: {install_command(dict(info('avatars').packages))}"
        )
    from dicebear import Avatar, Style
    from resvg_py import svg_to_bytes

    style = Style(json.loads(style_definition))

    def draw(key: str, resolution: int) -> tuple[str, np.ndarray]:
        svg = str(Avatar(style, {"seed": key}))
        png = svg_to_bytes(svg_string=svg, width=resolution, height=resolution, skip_system_fonts=True)
        return svg, read_rgb(Image.open(io.BytesIO(bytes(png))))

    return draw


def common_characters() -> list[str]:
    """The 3,755 characters of GB 2312 level 1, in the order of their pinyin."""
    rows = (bytes([high, low]) for high in range(0xB0, 0xD8) for low in range(0xA1, 0xFF))
    return [text for text in (row.decode("gb2312", errors="ignore") for row in rows) if text]


def glyphs(split: str, resolution: int = 32, font: str = "sans") -> Images:
    """The 3,755 commonest Chinese characters in Noto Sans SC or Noto Serif SC, black on white.

    Drawn at four times the resolution in the middle of the picture, then shrunk by area. Splits go by character and are
    the same for both fonts, so a character that is held out is held out in both.

    Args:
        resolution: height and width, 16 to 128.
        font: "sans" or "serif".

    Returns:
        Images (N, 1, resolution, resolution); labels are code points (`chr(label)` is the character); caption
        `{"zh": "字"}`; key like "字-sans".
    """
    if font not in FONTS:
        raise ValueError(f"unknown font {font!r}; there are: {', '.join(FONTS)}")
    if not 16 <= resolution <= 128:
        raise ValueError(f"expected a resolution from 16 to 128, got {resolution}")
    entry = info("glyphs")
    path = verify(entry)[f"pylopdf_fonts_zh_cn/{FONTS[font]}"]

    def build() -> dict[str, np.ndarray]:
        size = 4 * resolution
        # The em square fills 15/16 of the picture: no stroke is cut off, and a thin margin stays.
        face = ImageFont.truetype(str(path), size=size * 15 // 16, layout_engine=ImageFont.Layout.BASIC)
        return {"pixels": np.stack([_draw(character, face, size, resolution) for character in common_characters()])}

    pixels = prepared(entry, build, resolution=resolution, font=font)["pixels"]
    characters = common_characters()
    index = [i for i, character in enumerate(characters) if split_of(character) == split]
    return Images(
        from_bytes(torch.from_numpy(pixels[index])),
        labels=torch.tensor([ord(characters[i]) for i in index]),
        captions=[{"zh": characters[i]} for i in index],
        keys=[f"{characters[i]}-{font}" for i in index],
        info=entry,
        split=split,
    )


def _draw(character: str, face: ImageFont.FreeTypeFont, size: int, resolution: int) -> np.ndarray:
    """(1, resolution, resolution) uint8, black on white."""
    picture = Image.new("L", (size, size), 255)
    # "ls" anchors at the baseline: all characters keep their place relative to each other, as in a line of text.
    ascent = size * 0.5 + face.size * 0.38  # the middle of the em square lies 0.38 em above the baseline
    ImageDraw.Draw(picture).text((size / 2 - face.size / 2, ascent), character, fill=0, font=face, anchor="ls")
    return np.asarray(picture.reduce(size // resolution))[None]
