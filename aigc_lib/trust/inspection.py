"""Filters for broken outputs: findings, each with the number that was measured and the bound that it breaks.

`inspect_images`, `inspect_audio`, `inspect_video` and `inspect_text` judge by the bounds below; `…_numbers` give what
is judged, to set bounds of your own from good data. Broken media never raise; only misuse of the functions does.
A bound is a statement about some data: fire crackles, and a filter for clicks finds every fire broken.
"""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from aigc_lib.metrics.video import whiteness
from aigc_lib.trust.quality import two_sets

# What a good item keeps, low and high; measured on real data in chapter 8, where the false alarms are counted.
IMAGE_BOUNDS = {
    "not finite": (0, 0),  # share of values
    "range": (0, 1.001),  # largest magnitude
    "contrast": (0.01, math.inf),  # standard deviation; one grey level of 255 is 0.008
    "midtones": (0.005, 1),  # share of values further than 0.02 from both ends
}
AUDIO_BOUNDS = {
    "not finite": (0, 0),  # share of samples
    "range": (0, 1.001),  # largest magnitude
    "level": (-50, 0),  # root mean square in decibels of full scale
    "clipped": (0, 0.002),  # share of samples in flat tops: at least 3 in a row at the peak
    "offset": (0, 0.02),  # |mean|
    "click": (0, 15),  # largest second difference over the root mean square of those around it
    "seconds": (0.1, math.inf),
}
VIDEO_BOUNDS = {
    "not finite": (0, 0),
    "range": (0, 1.001),
    "frames": (2, math.inf),
    "black": (0, 0.25),  # share of frames in which nothing is above a twentieth of the range
    "frozen": (0, 0.5),  # longest run without change, seconds
    "flicker": (0, 0.9),  # `metrics.video.whiteness`; 1 is noise, above it frames alternate
    "sound": (0, 0.1),  # difference of the lengths of sound and picture, seconds
}
TEXT_BOUNDS = {
    "length": (1, math.inf),  # characters but for blanks at the ends
    "not text": (0, 0),  # share of control, unassigned, private and replacement characters
    "loop": (0, 0.25),  # share of windows of 12 characters that were there before
    "copied": (0, 60),  # longest run of characters all of whose windows of 40 stand in the training text
}
_WINDOW, _SEED = 12, 40  # characters; runs shorter than _SEED are not looked for in the training text


@dataclass(frozen=True)
class Finding:
    """Item `index` has the number `measured` where good ones lie from `low` to `high`; NaN counts as outside."""

    index: int
    fault: str
    measured: float
    low: float
    high: float


def findings(numbers: Mapping[str, Tensor], bounds: Mapping[str, tuple[float, float]]) -> list[Finding]:
    """Compare numbers (N,) of each name with its bounds; what has no number or no bounds is not judged."""
    return [
        Finding(index, name, value, *bounds[name])
        for name in numbers.keys() & bounds.keys()
        for index, value in enumerate(numbers[name].tolist())
        if not bounds[name][0] <= value <= bounds[name][1]
    ]


def _media_numbers(values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Media (N, …) as finite float64 rows in [-1, 1], and what had to be mended for that."""
    rows = values.detach().cpu().double().flatten(1)
    finite = rows.isfinite()
    mended = torch.where(finite, rows, 0.0)
    return mended.clamp(-1, 1), {"not finite": 1 - finite.double().mean(1), "range": mended.abs().amax(1)}


def image_numbers(images: Tensor) -> dict[str, Tensor]:
    """The numbers of `IMAGE_BOUNDS`, (N,) each, of images (N, C, H, W); ValueError if they are no such tensor."""
    _check_media(images, 4, "images (N, C, H, W)")
    rows, numbers = _media_numbers(images)
    return numbers | {"contrast": rows.std(1, correction=0), "midtones": (rows.abs() < 0.98).double().mean(1)}


def audio_numbers(audio: Tensor, sample_rate: int) -> dict[str, Tensor]:
    """The numbers of `AUDIO_BOUNDS`, (B,) each, of sounds (B, T); ValueError if they are no such tensor."""
    _check_media(audio, 2, "audio (B, T)")
    if sample_rate < 1:
        raise ValueError(f"sample_rate must be at least 1 hertz, got {sample_rate}")
    rows, numbers = _media_numbers(F.pad(audio, (0, max(0, 8 - audio.shape[1]))))
    n, peak = rows.shape[1], rows.abs().amax(1, keepdim=True)
    top = F.pad(((rows.abs() >= 0.999 * peak) & (peak > 0)).double(), (2, 2))[:, None]  # (B, 1, T + 4)
    runs = F.max_pool1d((F.avg_pool1d(top, 3, 1) > 0.99).double(), 3, 1)[:, 0]  # (B, T): in a run of three or more
    bend = F.pad(rows, (1, 1), mode="replicate").diff(n=2, dim=1).square()  # (B, T)
    reach = max(8, sample_rate // 200)  # 5 ms either way
    total = F.pad(bend, (reach + 1, reach)).cumsum(1)
    near, core = (total[:, reach + r + 1 :][:, :n] - total[:, reach - r :][:, :n] for r in (reach, 3))
    around = (near - core).clamp(min=0) / (2 * reach - 6) + 1e-6  # 1e-3 squared: below, nothing is heard
    return numbers | {
        "level": 10 * rows.square().mean(1).clamp(min=1e-12).log10(),
        "clipped": runs.mean(1),
        "offset": rows.mean(1).abs(),
        "click": (bend / around).sqrt().amax(1),
        "seconds": torch.full((len(rows),), audio.shape[1] / sample_rate, dtype=torch.float64),
    }


def video_numbers(frames: Tensor, frame_rate: float, sound_seconds: float | None = None) -> dict[str, Tensor]:
    """The numbers of `VIDEO_BOUNDS`, (1,) each, of one clip (F, C, H, W); "sound" only if there are its seconds.

    Raises:
        ValueError: no such tensor, or a rate ≤ 0.
    """
    _check_media(frames, 4, "frames (F, C, H, W)")
    if not frame_rate > 0:
        raise ValueError(f"frame_rate must be above 0, got {frame_rate}")
    n = len(frames)
    frames = frames if n else frames.new_full((1, *frames.shape[1:]), -1.0)  # a film without frames is black
    rows, numbers = _media_numbers(frames)
    still = (rows.diff(dim=0).abs().mean(1) < 0.5 / 127.5).tolist()
    one, two = ((rows[gap:] - rows[:-gap]).square().sum().item() for gap in (1, 2))
    values = {
        "frames": n,
        "black": (rows.amax(1) < -0.9).double().mean().item(),
        "frozen": _longest_run(still) / frame_rate,
        "flicker": whiteness(rows.view(frames.shape)) if two > 0 else math.inf if one > 0 and n > 2 else 0.0,
    }
    if sound_seconds is not None:
        values["sound"] = abs(sound_seconds - n / frame_rate)
    numbers = {name: value.amax(0, keepdim=True) for name, value in numbers.items()}
    return numbers | {name: torch.tensor([value], dtype=torch.float64) for name, value in values.items()}


def text_numbers(texts: Sequence[str], training: str | None = None) -> dict[str, Tensor]:
    """The numbers of `TEXT_BOUNDS`, (N,) each; "copied" only if there is the training text, 0 below 40 characters.

    Raises:
        ValueError: a text alone instead of a sequence, or something in it that is no text.
    """
    if isinstance(texts, str) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"expected a sequence of at least one text, got {type(texts).__name__}")

    def odd(c: str) -> bool:
        return c == "\ufffd" or (unicodedata.category(c)[0] == "C" and c not in "\n\t\r\u200d")

    def windows(text: str, size: int) -> list[str]:
        return [text[i : i + size] for i in range(len(text) - size + 1)]

    def loop(text: str) -> float:
        found = windows(text, _WINDOW)
        return 1 - len(set(found)) / len(found) if found else 0.0

    values = {
        "length": [len(text.strip()) for text in texts],
        "not text": [sum(map(odd, text)) / max(1, len(text)) for text in texts],
        "loop": [loop(text) for text in texts],
    }
    if training is not None:
        wanted = {window for text in texts for window in windows(text, _SEED)}
        known = {window for i in range(len(training) - _SEED + 1) if (window := training[i : i + _SEED]) in wanted}
        runs = [_longest_run([window in known for window in windows(text, _SEED)]) for text in texts]
        values["copied"] = [run + _SEED - 1 if run else 0 for run in runs]
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def _longest_run(flags: Sequence[bool]) -> int:
    return max((len(list(group)) for flag, group in groupby(flags) if flag), default=0)


def inspect_images(images: Tensor) -> list[Finding]:
    """What is broken in images (N, C, H, W); none found: an empty list. Errors as `image_numbers`."""
    return findings(image_numbers(images), IMAGE_BOUNDS)


def inspect_audio(audio: Tensor, sample_rate: int) -> list[Finding]:
    """What is broken in sounds (B, T). Errors as `audio_numbers`."""
    return findings(audio_numbers(audio, sample_rate), AUDIO_BOUNDS)


def inspect_video(frames: Tensor, frame_rate: float, sound_seconds: float | None = None) -> list[Finding]:
    """What is broken in one clip (F, C, H, W); its index is 0. Errors as `video_numbers`."""
    return findings(video_numbers(frames, frame_rate, sound_seconds), VIDEO_BOUNDS)


def inspect_text(texts: Sequence[str], training: str | None = None) -> list[Finding]:
    """What is broken in texts. Errors as `text_numbers`."""
    return findings(text_numbers(texts, training), TEXT_BOUNDS)


def inspect_copies(rows: Tensor, training: Tensor, *, bound: float) -> list[Finding]:
    """Near-duplicates by distance of features: of training items ("memorised"), of items further up ("repeated").

    Args:
        rows, training: features (N, D) and (M, D) under one network, of items that `inspect_images` found whole.
        bound: distance below which two count as one, such as a low quantile of the distances between different real
            items. `metrics.images.memorisation_test` finds copies of simple items better; it needs held-out ones.

    Raises:
        ValueError: not such rows, or a bound that is not above 0.
    """
    training, rows = two_sets(training, rows, at_least=1)
    if not bound > 0:
        raise ValueError(f"bound must be above 0, got {bound}")
    among = torch.cdist(rows, rows).masked_fill_(torch.ones(len(rows), len(rows)).triu().bool(), math.inf)
    numbers = {"memorised": torch.cdist(rows, training).amin(1), "repeated": among.amin(1)}
    return findings(numbers, dict.fromkeys(numbers, (bound, math.inf)))


def _check_media(values: Tensor, rank: int, what: str) -> None:
    if not isinstance(values, Tensor) or values.ndim != rank or not values.is_floating_point():
        got = f"{values.dtype} {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"expected {what} as a float tensor in [-1, 1], got {got}")
    if 0 in values.shape[1 if rank == 4 else 2 :] or (len(values) == 0 and not what.startswith("frames")):
        raise ValueError(f"expected at least one of {what}, got shape {tuple(values.shape)}")
