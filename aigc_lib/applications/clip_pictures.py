"""The pictures of `clip`: which words get one, how one melts into the next, and how a frame is put together.

Two networks paint each picture. The VAE knows the details (its reconstruction of the emoji), StyleGAN knows how shapes
change (its styles for the same emoji, found by gradient descent): on the way from one picture to the next only StyleGAN
is seen, and where the way stops the details come out. Sizes are shares of the frame's height.
"""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from aigc_lib import datasets
from aigc_lib.datasets.base import SPLITS, ImageItem
from aigc_lib.datasets.images import emoji_group
from aigc_lib.datasets.provenance import info
from aigc_lib.datasets.sources import verify
from aigc_lib.datasets.timed_speech import Span
from aigc_lib.models.stylegan_editing import closed_path, invert
from aigc_lib.training.checkpoints import load

NETWORKS = ("vae-emoji", "stylegan-emoji")
MOST, FEWEST = 6, 3  # pictures in a film
MELT, APART = 0.9, 0.6  # seconds from one picture to the next, and the least between the words of two
_STEPS = 120  # of gradient descent to a picture's styles
_CALM = 0.6  # truncation of pictures that no word asked for
_NO_THINGS = ("off", "right", "left", "down", "away", "way", "type", "one", "two", "three")
_PAPER, _INK, _WASH = (0.975, 0.955, 0.915), (0.13, 0.12, 0.2), 0.45


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """What is painted for a word."""

    word: str  # as it is said; empty if StyleGAN invented the picture because the sentence names too few things
    name: str  # of the emoji, empty likewise
    time: float  # in the film, in seconds: when it is complete
    styles: Tensor  # (L, Z) StyleGAN's
    detail: Tensor  # (3, 32, 32) in [-1, 1], the VAE's


def named_things(words: Sequence[Span]) -> list[tuple[Span, list[ImageItem]]]:
    """The words that emoji are named after, at least `APART` seconds from each other, with the emoji to choose from.

    "rain" finds "cloud with rain" and "night" finds "night with stars": the last word of a name counts, or that before
    "with", "of" or "in"; of several names the shortest ones.
    """
    found: list[tuple[Span, list[ImageItem]]] = []
    for span in words:
        word = re.sub(r"[^a-z]", "", span.text.lower().removesuffix("'s"))
        forms = [word, *(word[: -len(end)] for end in ("s", "es") if word.endswith(end))]
        choices = next((_emoji()[form] for form in forms if form in _emoji()), None)
        used = {id(items) for _, items in found}
        if choices and id(choices) not in used and (not found or span.start - found[-1][0].start >= APART):
            found.append((span, choices))
    return found[:MOST]


@cache
def _emoji() -> dict[str, list[ImageItem]]:
    """Word of a name -> the emoji that it fits best."""
    ranked: dict[str, list[tuple[tuple[int, bool], ImageItem]]] = {}
    items = [item for split in SPLITS for item in datasets.load("emoji", split) if emoji_group(item.key) != "flags"]
    for item in items:
        name = item.caption["en"].lower()
        last, head = name.split()[-1], re.split(" with | of | in ", name)[0].split()[-1]
        for word in {last, head}:
            if len(word) > 2 and word.isalpha() and word not in _NO_THINGS:
                ranked.setdefault(word, []).append(((len(name.split()), last != word), item))
    best = {word: min(rank for rank, _ in items) for word, items in ranked.items()}
    return {word: [item for rank, item in items if rank == best[word]] for word, items in ranked.items()}


def paint(words: Sequence[Span], *, generator: torch.Generator) -> list[Picture]:
    """Three to six pictures in order of time, for words with their times in the film.

    Of several emoji for a word the one is taken of which the VAE keeps the largest share of the variance.
    """
    network, vae = load("stylegan-emoji"), load("vae-emoji")
    things = [(span.start, span.text, *_best(vae, items)) for span, items in named_things(words)]
    with torch.no_grad():
        free = FEWEST - len(things)
        invented = network.sample(max(free, 0), generator=generator, truncation=_CALM) if free > 0 else []
        begin, length = words[0].start, words[-1].end - words[0].start
        things += [(begin + (i + 0.5) * length / free, "", "", image) for i, image in enumerate(invented)]
        things.sort(key=lambda thing: thing[0])
        targets = torch.stack([image for *_, image in things])
        details = _drawn(vae, targets)
    styles = invert(network, targets, n_steps=_STEPS).styles
    return [
        Picture(word=re.sub(r"[^\w'’-]", "", text), name=name, time=start, styles=each, detail=detail)
        for (start, text, name, _), each, detail in zip(things, styles, details, strict=True)
    ]


@torch.no_grad()
def _best(vae, items: Sequence[ImageItem]) -> tuple[str, Tensor]:
    images = torch.stack([item.image for item in items])
    missed = (_drawn(vae, images) - images).flatten(1).var(dim=1) / images.flatten(1).var(dim=1)
    item = items[int(missed.argmin())]
    return item.caption["en"], item.image


def _drawn(vae, images: Tensor) -> Tensor:
    return vae.decode(vae.encode(images)[0]).clamp(-1, 1)


@torch.no_grad()
def melting(pictures: Sequence[Picture], times: Sequence[float]) -> Tensor:
    """(n, 3, 32, 32): what is to be seen at these times, from the mean of all emoji over one picture after another."""
    network = load("stylegan-emoji")
    mean = network.mapping.mean_style.expand(network.config.n_styles, -1)
    styles = torch.stack([mean, *(picture.styles for picture in pictures)])
    details = torch.stack([network.synthesis(mean[None])[0], *(picture.detail for picture in pictures)])
    knots = [(float(times[0]), 0.0)]
    for k, picture in enumerate(pictures, start=1):
        knots += [(max(knots[-1][0], picture.time - MELT), k - 1.0), (picture.time, float(k))]
    places = np.interp(times, *zip(*knots, strict=True))
    below = torch.from_numpy(np.floor(places)).long().clamp(max=len(pictures) - 1)
    t = torch.from_numpy(places).float() - below
    t = (t * t * (3 - 2 * t)).view(-1, 1, 1)
    made = network.synthesis(torch.lerp(styles[below], styles[below + 1], t))
    t = t[..., None]
    return torch.lerp(made, details[below + (t.flatten() > 0.5)], (1 - 2 * t).abs().square())


@torch.no_grad()
def dancing(pictures: Sequence[Picture], n: int) -> Tensor:
    """(n, 3, 3, 32, 32): three pictures at a time, each on a round through all, a third of it apart."""
    network, k = load("stylegan-emoji"), len(pictures)
    keys, details = (torch.stack([getattr(each, part) for each in pictures]) for part in ("styles", "detail"))
    path = closed_path(keys.flatten(1), n).view(n, *keys.shape[1:])
    made = torch.cat([network.synthesis(some) for some in path.split(64)])
    places = torch.arange(n) * k / n
    near = (1 - 2 * (places - places.round()).abs()).square().view(-1, 1, 1, 1)  # 1 at a picture, 0 between two
    made = torch.lerp(made, details[places.round().long() % k], near)
    return torch.stack([made.roll(-i * n // 3, dims=0) for i in range(3)], dim=1)


# --- a frame ---------------------------------------------------------------------------------------------------------


@cache
def paper(height: int, width: int) -> Tensor:
    """(3, H, W) in [0, 1]: an empty sheet with some grain, darker towards its edges."""
    grain = torch.randn(1, 1, height, width, generator=torch.Generator().manual_seed(0))
    grain = F.avg_pool2d(grain, 3, stride=1, padding=1)[0]
    y, x = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
    sheet = torch.tensor(_PAPER).view(3, 1, 1) * (1 - 0.09 * (x**2 + y**2) / 2)
    return (sheet + 0.012 * grain).clamp(0, 1)


def washed(sheet: Tensor, picture: Tensor) -> Tensor:
    """A sheet (3, H, W) tinted by the colours of a picture (3, 32, 32), as if they had run."""
    colours = F.interpolate((picture[None] + 1) / 2, size=(3, 4), mode="area")
    colours = F.interpolate(colours, size=(36, 64), mode="bicubic", align_corners=True).clamp(0, 1)
    colours = F.interpolate(colours, size=sheet.shape[1:], mode="bilinear", align_corners=True)[0]
    return sheet * (1 - _WASH * (1 - colours))


def put(sheet: Tensor, picture: Tensor, centre: tuple[float, float], side: float, strength: float) -> None:
    """Paint a picture (3, 32, 32) into a sheet (3, H, W), as transparent colour whose edges are soft.

    Args:
        centre: x and y, shares of the width and of the height.
        strength: 0 leaves the sheet as it is.
    """
    _, height, width = sheet.shape
    n = round(side * height)
    x, y = round(centre[0] * width) - n // 2, round(centre[1] * height) - n // 2
    soft = F.avg_pool2d(picture[None], 5, stride=1, padding=2, count_include_pad=False)
    pigment = picture[None] + 0.5 * (picture[None] - soft)  # it gathers at edges
    layer = (F.interpolate(pigment, size=(n, n), mode="bicubic")[0] / 2 + 0.5).clamp(0, 1)
    here = sheet[:, y : y + n, x : x + n]
    here *= 1 - strength * _soft_square(n) * (1 - layer)


@cache
def _soft_square(n: int) -> Tensor:
    x = torch.linspace(-1, 1, n).abs()
    distance = (x[:, None] ** 8 + x**8) ** (1 / 8)
    return ((1 - distance) / 0.12).clamp(0, 1)


def show_face(sheet: Tensor, face: Tensor, centre: tuple[float, float], strength: float) -> None:
    """Put a square face (3, n, n) in [-1, 1] into a sheet (3, H, W), as a round portrait."""
    n = face.shape[1]
    x, y = round(centre[0] * sheet.shape[2]) - n // 2, round(centre[1] * sheet.shape[1]) - n // 2
    here = sheet[:, y : y + n, x : x + n]
    here += strength * _disc(n) * ((face + 1) / 2 - here)


@cache
def _disc(n: int) -> Tensor:
    x = torch.linspace(-1, 1, n)
    return ((1 - (x[:, None] ** 2 + x**2).sqrt()) * n / 8).clamp(0, 1)


def write(sheet: Tensor, rows: tuple[tuple[str, float, float, float], ...], strength: float) -> None:
    """Write rows of text, each with its size, x and y of its middle (shares), in ink into a sheet (3, H, W)."""
    ink = strength * _letters(rows, *sheet.shape[1:])
    sheet *= 1 - ink
    sheet += ink * torch.tensor(_INK).view(3, 1, 1)


@cache
def _letters(rows: tuple[tuple[str, float, float, float], ...], height: int, width: int) -> Tensor:
    """(H, W), 1 where there is ink."""
    path = str(verify(info("glyphs"))["pylopdf_fonts_zh_cn/NotoSerifSC-Regular.otf"])
    mask = Image.new("L", (width, height))
    for text, size, x, y in rows:
        font = ImageFont.truetype(path, max(5.0, size * height))
        ImageDraw.Draw(mask).text((x * width, y * height), text, fill=255, font=font, anchor="mm")
    return torch.from_numpy(np.array(mask)) / 255


def title_rows(sentence: str) -> tuple[tuple[str, float, float, float], ...]:
    """The sentence in the middle of the frame, the smaller the longer it is."""
    size = 0.11 if len(sentence) <= 60 else 0.085 if len(sentence) <= 120 else 0.065
    lines = textwrap.wrap(sentence, round(2.9 / size))
    top = 0.5 - 0.7 * size * (len(lines) - 1)
    return tuple((line, size, 0.5, top + 1.4 * size * i) for i, line in enumerate(lines))
