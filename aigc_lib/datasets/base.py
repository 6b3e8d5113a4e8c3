"""What all data sets have in common: one protocol, one item type a modality, and splits that cannot leak.

Axis letters: N items, C channels, H height, W width, F frames, T samples. Images are float32 in [-1, 1]; audio is
float32 in [-1, 1]; flow is in pixels, channel 0 right, channel 1 down, from the first frame to the second.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

SPLITS = ("train", "validation", "test")
FRACTIONS = (0.8, 0.1, 0.1)

Item = TypeVar("Item")
Item_co = TypeVar("Item_co", covariant=True)


class MissingDataPackage(ModuleNotFoundError):
    """A data set was asked for whose package is not installed; the message holds the command that installs it."""


class DataChangedError(ValueError):
    """The files of a data set are not those that its recorded digest was taken from; the message shows both."""


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """One entry of `data/datasets.toml`: what the data is, whose it is and how to tell that it is unchanged."""

    name: str
    title: str
    modality: str  # image, text, speech, music, video or flow
    packages: Mapping[str, str]  # distribution -> the version the digest was taken with
    licence: str
    attribution: str
    counts: Mapping[str, int]  # items a split, with default options
    files: tuple[str, ...]  # patterns below site-packages, the content of which is digested
    recipe: str  # for generated data: seeds and settings, digested with the files; else ""
    digest: str  # SHA-256, hexadecimal


# eq=False: tensors have no single truth value, so generated equality would raise.
@dataclass(frozen=True, kw_only=True, eq=False)
class ImageItem:
    """A picture."""

    image: Tensor  # (C, H, W) float32 in [-1, 1]; C is 1 (grey) or 3 (RGB)
    label: int | None = None
    caption: Mapping[str, str] | None = None  # language ("en", "zh") -> text
    key: str  # unique and stable within the data set


@dataclass(frozen=True, kw_only=True)
class TextItem:
    """A text, such as one scene of a play."""

    text: str
    key: str


@dataclass(frozen=True, kw_only=True)
class PairItem:
    """A sentence and its translation."""

    source: str  # Chinese, simplified characters
    target: str  # English
    pinyin: str  # with tone marks, syllables separated by blanks
    level: int  # HSK level, 1 (easiest) to 6
    key: str


@dataclass(frozen=True, kw_only=True)
class Pronunciation:
    """A word and one way to say it."""

    word: str
    phonemes: tuple[str, ...]  # ARPAbet without stress
    key: str  # the word, with "(2)" and so on for further ways to say it


@dataclass(frozen=True, kw_only=True, eq=False)
class SpeechItem:
    """An utterance with what is said."""

    audio: Tensor  # (T,) float32 in [-1, 1]
    sample_rate: int  # hertz
    text: str
    phonemes: str | None  # one character a phoneme, None where nobody knows them
    key: str


@dataclass(frozen=True, kw_only=True, eq=False)
class MusicItem:
    """A piece as notes.

    `notes` is (N, 4) float32, sorted by onset, then voice, then pitch. Columns: onset from the start of the piece and
    duration, both in quarter notes; MIDI pitch (60 is middle C); voice (0 is the highest part). Tied notes are joined.
    """

    notes: Tensor  # (N, 4)
    bars: Tensor  # (n,) float32, where bars begin, in quarter notes; what comes before the first is an upbeat
    title: str
    metre: str  # time signature at the start, such as "4/4"
    key_signature: int  # sharps (positive) or flats (negative) at the start
    key: str


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoItem:
    """A clip, with its sound where there is one."""

    frames: Tensor  # (F, C, H, W) float32 in [-1, 1]
    frame_rate: float  # frames a second
    audio: Tensor | None = None  # (T,) float32 in [-1, 1], mono, as long as the frames
    sample_rate: int | None = None  # hertz
    key: str


@dataclass(frozen=True, kw_only=True, eq=False)
class FlowItem:
    """Two frames and where the points of the first went."""

    first: Tensor  # (C, H, W) float32 in [-1, 1]
    second: Tensor  # (C, H, W)
    flow: Tensor  # (2, H, W) pixels; channel 0 right, channel 1 down; zero where nobody knows it
    valid: Tensor  # (H, W) bool: flow is known and the point is to be seen in the second frame
    occluded: Tensor  # (H, W) bool: flow is known but the point is hidden in, or outside, the second frame
    key: str


@runtime_checkable
class Dataset(Protocol[Item_co]):
    """What every data set offers, whichever its modality."""

    info: DatasetInfo
    split: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Item_co: ...

    def __iter__(self) -> Iterator[Item_co]: ...


class OnDemand(Generic[Item]):
    """A data set that makes an item when it is asked for.

    Args:
        n: how many items there are.
        make: index, 0 to n - 1, -> item; the same item for the same index.

    Raises:
        ValueError: n is 0.
    """

    def __init__(self, n: int, make: Callable[[int], Item], *, info: DatasetInfo, split: str):
        if n < 1:
            raise ValueError(f"the {split!r} split of {info.name!r} is empty")
        self.info, self.split = info, split
        self._n, self._make = n, make

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: int) -> Item:
        if not -self._n <= index < self._n:
            raise IndexError(f"index {index} in a data set of {self._n} items")
        return self._make(index % self._n)

    def __iter__(self) -> Iterator[Item]:
        return map(self._make, range(self._n))

    def __repr__(self) -> str:
        return f"<{self.info.name}, {self.split}: {len(self)} items>"


class Items(OnDemand[Item]):
    """A data set that holds its items in memory."""

    def __init__(self, items: Iterable[Item], *, info: DatasetInfo, split: str):
        kept = tuple(items)
        super().__init__(len(kept), kept.__getitem__, info=info, split=split)


class Images(Items[ImageItem]):
    """Pictures of one size, in memory.

    Attributes:
        images: (N, C, H, W) float32 in [-1, 1].
        labels: (N,) int64, or None.
    """

    def __init__(
        self,
        images: Tensor,
        *,
        labels: Tensor | None = None,
        captions: Sequence[Mapping[str, str]] | None = None,
        keys: Sequence[str],
        info: DatasetInfo,
        split: str,
    ):
        self.images, self.labels = images, labels
        items = (
            ImageItem(
                image=image,
                label=None if labels is None else int(labels[i]),
                caption=None if captions is None else captions[i],
                key=keys[i],
            )
            for i, image in enumerate(images)
        )
        super().__init__(items, info=info, split=split)


def from_bytes(pixels: Tensor) -> Tensor:
    """uint8 pixels in any shape to float32: 0 becomes -1 and 255 becomes 1, both exactly."""
    return pixels.to(torch.float32, copy=True).div_(127.5).sub_(1.0)  # in place: a film has gigabytes


def stable_hash(*parts: object) -> int:
    """A 64-bit hash that is the same in every process and on every machine, unlike Python's `hash`."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:8], "big")


def split_of(group: str, *, seed: int = 0, fractions: Sequence[float] = FRACTIONS) -> str:
    """The split that everything of `group` belongs to: a group never lies in two, and adding others moves nothing."""
    position = stable_hash("split", seed, group) / 2**64
    return SPLITS[0] if position < fractions[0] else SPLITS[1] if position < fractions[0] + fractions[1] else SPLITS[2]


def split_groups(groups: Iterable[str], *, seed: int = 0, fractions: Sequence[float] = FRACTIONS) -> dict[str, str]:
    """Like `split_of` for a closed list of at least three groups: the shares are exact and no split is empty.

    The groups are put in the order of their hashes and cut in three, so the order they come in does not matter.

    Raises:
        ValueError: there are fewer than three different groups.
    """
    ordered = sorted(set(groups), key=lambda group: stable_hash("split", seed, group))
    n = len(ordered)
    if n < 3:
        raise ValueError(f"expected at least 3 groups to make three splits of, got {n}")
    n_validation, n_test = (max(1, round(n * fraction)) for fraction in fractions[1:])
    n_train = n - n_validation - n_test
    names = [SPLITS[0]] * n_train + [SPLITS[1]] * n_validation + [SPLITS[2]] * n_test
    return dict(zip(ordered, names, strict=True))
