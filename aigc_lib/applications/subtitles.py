"""Captions as data: words broken into lines that can be read in time, SRT and WebVTT files, captions in the picture.

The limits are those of Netflix's style guides for timed text (English template, and Simplified Chinese; read in
November 2026): two lines of 42 characters (16 in Chinese), 17 characters a second for adults (9), five sixths of a
second to seven seconds, two frames between captions. Where to break within them is an optimum, found exactly.
"""

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from aigc_lib.datasets.provenance import info
from aigc_lib.datasets.sources import verify
from aigc_lib.datasets.timed_speech import Span
from aigc_lib.training.checkpoints import write_whole

_SENTENCE, _CLAUSE = re.compile(r"[.!?…。！？]['\"”’)」』]*$"), re.compile(r"[,;:，；：、–—-]['\"”’)」』]*$")
_LEANING = re.compile("(a|an|the|my|your|his|her|its|our|their|to|of|in|on|at|for|from|with|by|and|or|but|as)", re.I)
_CLOCK = r"(?:(\d{2,}):)?(\d\d):(\d\d)[,.](\d{3})"
_TIMES = re.compile(rf"{_CLOCK} --> {_CLOCK}(?: .*)?")
_SAFE, _TEXT_HEIGHT, _BOX = 0.05, 0.06, 0.75  # margin and letters, shares of the picture; how black the box is
_SMALLEST = 12  # pixels, so that Chinese can be read


@dataclass(frozen=True, kw_only=True)
class Caption:
    """One or two lines of text, shown from second `start` to second `end`.

    Raises:
        ValueError: no lines, an empty one, one with a line break or blanks around it, or not 0 ≤ start < end.
    """

    lines: tuple[str, ...]
    start: float
    end: float

    def __post_init__(self) -> None:
        if not self.lines or any(line != line.strip() or len(line.splitlines()) != 1 for line in self.lines):
            raise ValueError(f"a caption has lines of text without blanks or breaks around them, got {self.lines!r}")
        if not 0 <= self.start < self.end < math.inf:
            raise ValueError(f"a caption is shown from 0 ≤ start < end, got {self.start} to {self.end} seconds")


@dataclass(frozen=True, kw_only=True)
class CaptionRules:
    """What readers need. A word longer than a line stands on one alone."""

    n_lines: int = 2  # at most, 1 or 2
    width: int = 42  # characters a line
    speed: float = 17.0  # characters a second, blanks included
    shortest: float = 5 / 6  # seconds
    longest: float = 7.0
    gap: float = 2 / 24  # seconds without a caption before the next: two frames of a film
    blank: str = " "  # between words


ENGLISH = CaptionRules()
CHINESE = CaptionRules(width=16, speed=9.0, blank="")
RULES = {"en": ENGLISH, "zh": CHINESE}


def break_lines(words: Sequence[Span], *, rules: CaptionRules = ENGLISH) -> list[Caption]:
    """All words in captions of one or two lines, by the split of least `captioning_cost`.

    The cost is a sum over captions, so the best captions for the first j words continue the best ones for some first
    i < j: dynamic programming tries every i, and the optimum is exact. A caption begins with its first word and stays
    until it can be read, if the next one leaves the time.

    Args:
        words: in order of time, one thing said each. Chinese: one character each, punctuation attached.

    Raises:
        ValueError: an empty word or one with a break in it, or starts that do not increase from 0 on.
    """
    words = [Span(text=word.text.strip(), start=word.start, end=word.end) for word in words]
    for before, word in zip([None, *words], words, strict=False):
        if len(word.text.splitlines()) != 1:
            raise ValueError(f"a word is text without line breaks, got {word.text!r}")
        if not (before.start if before else -1e-9) < word.start <= word.end < math.inf:
            raise ValueError(f"words begin one after another from 0 on and end after that, got {before} and {word}")
    best: list[tuple[float, int]] = [(0.0, 0)]  # for the first j words: cost, and where the last caption begins
    for j in range(1, len(words) + 1):
        choices = []
        for i in range(j - 1, -1, -1):
            if not _fits(words[i:j], rules):
                break
            choices.append((best[i][0] + _cost(words, i, j, rules), i))
        best.append(min(choices))
    places, j = [], len(words)
    while j:
        i = best[j][1]
        places.append((i, j))
        j = i
    return [_caption(words, i, j, rules) for i, j in reversed(places)]


def captioning_cost(words: Sequence[Span], counts: Sequence[int], *, rules: CaptionRules = ENGLISH) -> float:
    """What `break_lines` makes least, for captions of counts[0], counts[1], … words; infinite if one does not fit.

    A caption costs 1; 4 for every second it lacks for being read; 4 for every second by which a pause in it exceeds
    0.3 s; the seam after its last word; and if it has two lines, half the seam between them and the share of the width
    by which they differ. A seam costs 0 at the end of a sentence or a pause of 0.5 s, 1 after a comma or at a pause of
    0.25 s, else 3; and 2 more after a word that leans on the next ("the", "of"), 4 more between two words with
    capitals.
    """
    total, i = 0.0, 0
    for count in counts:
        total += _cost(words, i, i + count, rules) if _fits(words[i : i + count], rules) else math.inf
        i += count
    return total


def _fits(words: Sequence[Span], rules: CaptionRules) -> bool:
    if len(words) == 1:
        return True
    return words[-1].end - words[0].start <= rules.longest and bool(_ways(tuple(w.text for w in words), rules))


def _ways(texts: tuple[str, ...], rules: CaptionRules) -> list[int]:
    """After how many words the first line may end; all of them, if one line is enough."""
    lengths = [len(text) for text in texts]
    blank, whole = len(rules.blank), sum(lengths) + len(rules.blank) * (len(texts) - 1)
    if whole <= rules.width or len(texts) == 1:
        return [len(texts)]
    if rules.n_lines == 1:
        return []
    ways, first = [], -blank
    for k, length in enumerate(lengths[:-1], start=1):
        first += blank + length
        fits = first <= rules.width or k == 1, whole - first - blank <= rules.width or k == len(texts) - 1
        if all(fits):
            ways.append(k)
    return ways


def _lines(words: Sequence[Span], rules: CaptionRules) -> tuple[float, tuple[str, ...]]:
    """The cheapest way to write a caption: cost and lines."""
    texts = tuple(word.text for word in words)
    choices = []
    for k in _ways(texts, rules):
        lines = tuple(rules.blank.join(part) for part in (texts[:k], texts[k:]) if part)
        uneven = abs(len(lines[0]) - len(lines[1])) / rules.width + _seam(words, k) / 2 if len(lines) > 1 else 0.0
        choices.append((uneven, lines))
    return min(choices)


def _seam(words: Sequence[Span], k: int) -> float:
    """What it costs to part words[k − 1] from words[k]."""
    if k == len(words):
        return 0.0
    before, after = words[k - 1], words[k]
    pause = after.start - before.end
    if _SENTENCE.search(before.text) or pause >= 0.5:
        return 0.0
    if _CLAUSE.search(before.text) or pause >= 0.25:
        return 1.0
    leans = 2.0 * (_LEANING.fullmatch(before.text) is not None)
    return 3.0 + leans + 4.0 * (before.text[0].isupper() and after.text[0].isupper())


def _cost(words: Sequence[Span], i: int, j: int, rules: CaptionRules) -> float:
    caption = words[i:j]
    uneven, lines = _lines(caption, rules)
    start, end = _times(words, i, j, rules)
    lacking = max(0.0, _needed(lines, rules) - (end - start))
    silence = sum(max(0.0, b.start - a.end - 0.3) for a, b in pairwise(caption))
    return 1.0 + 4.0 * (lacking + silence) + _seam(words, j) + uneven


def _needed(lines: Sequence[str], rules: CaptionRules) -> float:
    """Seconds that readers need."""
    return max(rules.shortest, sum(map(len, lines)) / rules.speed)


def _times(words: Sequence[Span], i: int, j: int, rules: CaptionRules) -> tuple[float, float]:
    start = words[i].start
    text = rules.blank.join(word.text for word in words[i:j])
    end = min(max(words[j - 1].end, start + _needed([text], rules)), start + rules.longest)
    if j < len(words):
        free = words[j].start - rules.gap
        end = min(end, free if free > start else (start + words[j].start) / 2)
    return start, end


def _caption(words: Sequence[Span], i: int, j: int, rules: CaptionRules) -> Caption:
    start, end = _times(words, i, j, rules)
    return Caption(lines=_lines(words[i:j], rules)[1], start=start, end=end)


def write_subtitles(captions: Sequence[Caption], path: Path | str) -> None:
    """Write SubRip (.srt) or WebVTT (.vtt), by the ending; times to the millisecond. The file is whole or not there.

    Text stays as it is: in WebVTT "&", "<" and ">" are escaped, SubRip has no way to. (A library for subtitles that
    was tried drops "<i>" and braces from the text, escapes nothing, and ends time at 100 hours.)

    Raises:
        ValueError: another ending, or no captions.
        CheckpointError: the file cannot be written.
    """
    path = Path(path)
    web = _is_web(path)
    if not captions:
        raise ValueError(f"there are no captions to write into {path.name}")
    cues = []
    for number, caption in enumerate(captions, start=1):
        start = round(1000 * caption.start)
        times = " --> ".join(
            _clock(at, "." if web else ",") for at in (start, max(start + 1, round(1000 * caption.end)))
        )
        lines = (html.escape(line, quote=False) for line in caption.lines) if web else caption.lines
        cues.append("\n".join([str(number), times, *lines]) + "\n")
    write_whole(path, "\n".join((["WEBVTT\n"] if web else []) + cues).encode())


def read_subtitles(path: Path | str) -> list[Caption]:
    """The captions of an .srt or .vtt file. Settings, notes and styles of WebVTT are passed over, tags taken off.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another ending, not UTF-8, or a cue without times or text; the message says which.
    """
    path = Path(path)
    web = _is_web(path)
    if not path.is_file():
        raise FileNotFoundError(f"no subtitle file at {path}")
    text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    if web and not text.startswith("WEBVTT"):
        raise ValueError(f"{path} does not begin with WEBVTT")
    captions = []
    for block in re.split(r"\n{2,}", text.strip("\n"))[web:]:
        if web and re.match(r"NOTE\b|STYLE\b|REGION\b", block):
            continue
        lines = block.split("\n")
        lines = lines if _TIMES.fullmatch(lines[0]) else lines[1:]  # the number or name before it
        times = _TIMES.fullmatch(lines[0]) if lines else None
        if not times or not lines[1:]:
            raise ValueError(f"{path}: expected a number, times and text, got {block[:80]!r}")
        clock = [int(part or 0) for part in times.groups()]
        start, end = (((h * 60 + m) * 60 + s) + ms / 1000 for h, m, s, ms in (clock[:4], clock[4:]))
        shown = [html.unescape(re.sub(r"<[^>]*>", "", line)) if web else line for line in lines[1:]]
        captions.append(Caption(lines=tuple(line.strip() for line in shown if line.strip()), start=start, end=end))
    return captions


def _is_web(path: Path) -> bool:
    if path.suffix.lower() not in (".srt", ".vtt"):
        raise ValueError(f"captions go into a file that ends in .srt or .vtt, got {path.name!r}")
    return path.suffix.lower() == ".vtt"


def _clock(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"


def burn_in(frames: Tensor, captions: Sequence[Caption], frame_rate: float, first_frame: int = 0) -> Tensor:
    """The frames with their captions in the picture: white on a dark box, centred above the lower edge.

    Letters are 6 % of the picture high, at least 12 pixels, and smaller where a line would come nearer than 5 % to an
    edge. The box darkens a white picture so far that the contrast stays above 7 to 1.

    Args:
        frames: (F, 3, H, W) in [-1, 1], of any size.
        captions: a frame shows those that its time lies in, times being rounded to whole frames.
        first_frame: where the frames begin in the film.

    Returns:
        New frames of the same shape; those without a caption are what they were.

    Raises:
        ValueError: not (F, 3, H, W).
        MissingDataPackage: the font is not installed.
    """
    if frames.ndim != 4 or frames.shape[1] != 3:
        raise ValueError(f"expected frames (F, 3, H, W), got {tuple(frames.shape)}")
    frames = frames.clone()
    for caption in captions:
        start = round(caption.start * frame_rate)
        end = max(start + 1, round(caption.end * frame_rate))
        shown = slice(max(0, start - first_frame), max(0, end - first_frame))
        if len(frames[shown]):
            keep, ink = (part.to(frames) for part in _drawn(caption.lines, *frames.shape[2:]))
            frames[shown] = frames[shown] * keep + ink
    return frames


@lru_cache(maxsize=8)
def _drawn(lines: tuple[str, ...], height: int, width: int) -> tuple[Tensor, Tensor]:
    """How much of the picture stays, (H, W), and what comes on top, (H, W)."""
    path = str(verify(info("glyphs"))["pylopdf_fonts_zh_cn/NotoSansSC-Regular.otf"])
    size = min(max(_TEXT_HEIGHT * height, _SMALLEST), 0.5 * height / len(lines))
    widest = max(ImageFont.truetype(path, 100).getlength(line) for line in lines) / 100 + 1  # at size 1, with the box
    font = ImageFont.truetype(path, max(1.0, min(size, (1 - 2 * _SAFE) * width / widest)))
    step, middle = 1.4 * font.size, width / 2
    top = int((1 - _SAFE) * height) - step * len(lines)
    box, text = (Image.new("L", (width, height)) for _ in range(2))
    for i, line in enumerate(lines):
        half, y = font.getlength(line) / 2 + 0.4 * font.size, top + i * step
        edges = round(middle - half), round(y), round(middle + half) - 1, round(y + step) - 1
        ImageDraw.Draw(box).rectangle(edges, fill=255)
        ImageDraw.Draw(text).text((middle, y + step / 2), line, fill=255, font=font, anchor="mm")
    dark, white = (torch.from_numpy(np.array(part)) / 255 for part in (box, text))
    return (1 - _BOX * dark) * (1 - white), white - (1 - white) * _BOX * dark
