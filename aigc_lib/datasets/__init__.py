"""Real data, offline, with provenance: `load("digits")`, `load("zh-en", "test")`, `names()`.

Everything is read from installed packages or made from them with a fixed seed; nothing is downloaded. What each data
set is, its licence and its digest stand in `data/datasets.toml` and in the `info` of what `load` returns.
"""

import inspect
import time
from collections.abc import Iterable
from importlib import import_module

from aigc_lib.datasets.base import SPLITS, Dataset

__all__ = ["load", "names", "prepare"]

# name -> module and function; imported only when asked for, so that `import aigc_lib.datasets` needs no data package
_LOADERS = {
    "digits": "images.digits",
    "emoji": "images.emoji",
    "avatars": "rendered.avatars",
    "photographs": "images.photographs",
    "glyphs": "rendered.glyphs",
    "shakespeare": "text.shakespeare",
    "zh-en": "text.zh_en",
    "pronunciations": "text.pronunciations",
    "moving-objects": "flow.moving_objects",
    "motorcycle": "flow.motorcycle",
    "bach": "music.bach",
    "oneill": "music.oneill",
    "ryan": "music.ryan",
    "notes": "notes.notes",
    "recorded-scale": "recordings.recorded_scale",
    "speech": "speech.speech",
    "effects": "effects.effects",
    "big-buck-bunny": "video.big_buck_bunny",
    "street": "street.street",
}

_CACHED = (
    "digits", "emoji", "avatars", "glyphs", "bach", "oneill", "ryan", "notes", "speech", "effects", "big-buck-bunny",
)  # fmt: skip


def names() -> tuple[str, ...]:
    """All data sets that `load` knows."""
    return tuple(_LOADERS)


def load(name: str, split: str = "train", **options: object) -> Dataset:
    """One split of a data set.

    Args:
        name: one of `names()`.
        split: "train", "validation" or "test".
        options: what the data set's own function takes besides the split, such as `resolution`.

    Raises:
        ValueError: unknown name, split or option; the message lists the choices. Also a changed digest
            (`DataChangedError`).
        ModuleNotFoundError: a data package is not installed; the message holds the command that installs it.
    """
    if name not in _LOADERS:
        raise ValueError(f"unknown data set {name!r}; there are: {', '.join(_LOADERS)}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; there are: {', '.join(SPLITS)}")
    module, _, function = _LOADERS[name].partition(".")
    loader = getattr(import_module(f"aigc_lib.datasets.{module}"), function)
    known = list(inspect.signature(loader).parameters)[1:]
    if unknown := [option for option in options if option not in known]:
        raise ValueError(f"data set {name!r} has no option {unknown[0]!r}; it takes: {', '.join(known) or 'none'}")
    return loader(split, **options)


def prepare(names: Iterable[str] | None = None) -> dict[str, float]:
    """Make and cache, with default options, whatever takes a while on first use.

    Args:
        names: data sets; None takes all that keep something in the cache.

    Returns:
        Seconds a data set took; near zero where it was there already.

    Raises:
        as `load`.
    """
    from tqdm.auto import tqdm

    seconds = {}
    for name in tqdm(_CACHED if names is None else tuple(names), desc="preparing data", unit="set"):
        start = time.perf_counter()
        load(name, "test")
        seconds[name] = time.perf_counter() - start
    return seconds
