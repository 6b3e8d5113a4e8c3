"""Data that you already have: a folder of pictures, of recordings with their text, or of frames with optical flow.

The same items, splits and errors as everywhere else. Splits hang on the names of the files (of the sentences, of the
scenes), not on their number, so adding files moves none. Nothing is written into your folder.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile
import torch

from aigc_lib.datasets.base import (
    SPLITS,
    DataChangedError,
    DatasetInfo,
    FlowItem,
    Images,
    OnDemand,
    SpeechItem,
    from_bytes,
    split_of,
)
from aigc_lib.datasets.flow_files import FLO_UNKNOWN, read_flo
from aigc_lib.datasets.pixels import area_resize, read_rgb
from aigc_lib.datasets.sources import digest_of

PICTURES = {".png", ".jpg", ".jpeg", ".ppm", ".pgm", ".bmp", ".webp", ".tif", ".tiff"}
RECORDINGS = {".wav", ".flac"}


def image_folder(
    path: str | Path,
    resolution: int,
    *,
    split: str = "train",
    seed: int = 0,
    fit: str = "exact",
    digest: str | None = None,
) -> Images:
    """Pictures of a folder and its subfolders, in memory; the names of direct subfolders, if there are any, are labels.

    Args:
        path: the folder; png, jpg, ppm, bmp, webp and tiff files count, everything else is passed over.
        resolution: height and width of what comes out. Pictures are shrunk by area, never enlarged.
        split: "train", "validation" or "test"; drawn by the name of the file within the folder.
        seed: another one draws other splits.
        fit: what to do with pictures that are not square. "exact" refuses them, "crop" takes the square in the middle,
            "pad" adds white on both sides.
        digest: what `folder_digest` gave for this folder; checked if given.

    Returns:
        Images (N, 3, resolution, resolution), grey ones with three equal channels; labels number the subfolders in the
        order of their names, and captions name them.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: no picture in it, or none for this split; a picture is too small or not square; another digest
            (`DataChangedError`).
    """
    if fit not in ("exact", "crop", "pad"):
        raise ValueError(f"expected fit 'exact', 'crop' or 'pad', got {fit!r}")
    root, files = _files(path, PICTURES, "pictures", digest)
    chosen = _of_split(files, split, seed, group=lambda file: file.relative_to(root).with_suffix("").as_posix())
    pixels = np.stack([_square(file, resolution, fit) for file in chosen])
    folders = sorted({file.relative_to(root).parts[0] for file in files if len(file.relative_to(root).parts) > 1})
    labelled = folders and all(len(file.relative_to(root).parts) > 1 for file in chosen)
    labels = [folders.index(file.relative_to(root).parts[0]) for file in chosen] if labelled else None
    return Images(
        from_bytes(torch.from_numpy(pixels)),
        labels=None if labels is None else torch.tensor(labels),
        captions=None if labels is None else [{"en": folders[label]} for label in labels],
        keys=[file.relative_to(root).as_posix() for file in chosen],
        info=_info(root, "image", digest, {split: len(chosen)}),
        split=split,
    )


def _square(file: Path, resolution: int, fit: str) -> np.ndarray:
    """(3, resolution, resolution) uint8."""
    pixels = read_rgb(file)
    height, width = pixels.shape[1:]
    if height != width and fit == "exact":
        raise ValueError(f"{file} is {width}×{height}, not square; choose fit='crop' or fit='pad'")
    if fit == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        pixels = pixels[:, top : top + side, left : left + side]
    elif fit == "pad":
        side = max(height, width)
        top, left = (side - height) // 2, (side - width) // 2
        edges = ((0, 0), (top, side - height - top), (left, side - width - left))
        pixels = np.pad(pixels, edges, constant_values=255)
    if pixels.shape[1] < resolution:
        raise ValueError(f"{file} is {width}×{height}, too small for resolution {resolution}; choose a lower one")
    return area_resize(pixels, resolution, resolution)


def speech_folder(
    path: str | Path,
    *,
    split: str = "train",
    seed: int = 0,
    sample_rate: int | None = None,
    digest: str | None = None,
) -> OnDemand[SpeechItem]:
    """Recordings with their text: `name.wav` (or flac) beside `name.txt`, or LJSpeech's `metadata.csv` above them.

    Recordings are read when asked for. The split of a recording is that of its text, so a sentence that was recorded
    twice lies in one split. Phonemes are None.

    Args:
        path, split, seed, digest: as in `image_folder`.
        sample_rate: what all recordings must have; None takes the first one's and expects it of the others.

    Raises:
        FileNotFoundError: there is no such folder, or a recording has no text; the message names it.
        ValueError: no recording, or none for this split; another sample rate, more than one channel; another digest.
    """
    root, files = _files(path, RECORDINGS, "recordings", digest)
    texts = _texts(root, files)
    expected = sample_rate or soundfile.info(files[0]).samplerate
    for file in files:
        header = soundfile.info(file)
        if header.samplerate != expected:
            raise ValueError(f"{file} has {header.samplerate} Hz, expected {expected}; resample it first")
        if header.channels != 1:
            raise ValueError(f"{file} has {header.channels} channels, expected 1; mix it down first")
    chosen = _of_split(files, split, seed, group=lambda file: " ".join(texts[file].lower().split()))

    def read(index: int) -> SpeechItem:
        file = chosen[index]
        audio, rate = soundfile.read(file, dtype="float32")
        key = file.relative_to(root).as_posix()
        return SpeechItem(audio=torch.from_numpy(audio), sample_rate=rate, text=texts[file], phonemes=None, key=key)

    return OnDemand(len(chosen), read, info=_info(root, "speech", digest, {split: len(chosen)}), split=split)


def _texts(root: Path, files: list[Path]) -> dict[Path, str]:
    table = root / "metadata.csv"
    if table.is_file():  # LJSpeech: name|text|text with numbers written out
        rows = (line.split("|") for line in table.read_text(encoding="utf-8").splitlines() if line)
        known = {row[0]: row[-1].strip() for row in rows}
    else:
        beside = {file.stem: file.with_suffix(".txt") for file in files}
        known = {stem: text.read_text(encoding="utf-8").strip() for stem, text in beside.items() if text.is_file()}
    if missing := [file for file in files if file.stem not in known]:
        raise FileNotFoundError(
            f"{len(missing)} recordings have no text, the first is {missing[0]}; "
            f"put it into {missing[0].with_suffix('.txt').name} beside it, or into metadata.csv"
        )
    return {file: known[file.stem] for file in files}


def flow_folder(
    path: str | Path, *, split: str = "train", seed: int = 0, digest: str | None = None
) -> OnDemand[FlowItem]:
    """Pairs of frames with their flow, read when asked for; nothing is resized or cropped.

    Two layouts are known: FlyingChairs' `x_img1.ppm`, `x_img2.ppm`, `x_flow.flo` (any picture format), and Sintel's
    `flow/scene/frame_0001.flo` with `clean/scene/frame_0001.png` and the next number. A scene lies in one split.
    Where the file says that flow is unknown, it is zero and not valid. Occlusion is not in such files: `occluded` is
    False everywhere, so `valid` only says that flow is known.

    Args:
        path, split, seed, digest: as in `image_folder`.

    Raises:
        FileNotFoundError: there is no such folder, or a frame of a pair is missing; the message names it.
        ValueError: no .flo file, or none for this split; frames and flow of different sizes (when the item is read);
            a damaged .flo file; another digest.
    """
    root, files = _files(path, {".flo"}, ".flo files", digest)
    frames = {file: _frames_of(file) for file in files}
    chosen = _of_split(files, split, seed, group=lambda file: _scene(file, root))

    def read(index: int) -> FlowItem:
        file = chosen[index]
        flow = read_flo(file)
        first, second = (from_bytes(torch.from_numpy(read_rgb(frame).copy())) for frame in frames[file])
        if not first.shape[1:] == second.shape[1:] == flow.shape[1:]:
            sizes = ", ".join(f"{shape[2]}×{shape[1]}" for shape in (first.shape, second.shape, flow.shape))
            raise ValueError(f"frames and flow of {file} differ in size (first, second, flow): {sizes}")
        known = (flow.abs() < FLO_UNKNOWN).all(dim=0)
        return FlowItem(
            first=first,
            second=second,
            flow=torch.where(known, flow, 0.0),
            valid=known,
            occluded=torch.zeros_like(known),
            key=file.relative_to(root).as_posix(),
        )

    return OnDemand(len(chosen), read, info=_info(root, "flow", digest, {split: len(chosen)}), split=split)


def _frames_of(flow: Path) -> tuple[Path, Path]:
    if flow.stem.endswith("_flow"):
        folder, names = flow.parent, [flow.stem.removesuffix("_flow") + suffix for suffix in ("_img1", "_img2")]
    else:
        name, _, number = flow.stem.rpartition("_")
        if not number.isdigit():
            raise ValueError(
                f"{flow} is named neither x_flow.flo nor x_0001.flo: it is not clear which frames it joins"
            )
        folder = flow.parent.parent.parent / "clean" / flow.parent.name
        names = [f"{name}_{value:0{len(number)}d}" for value in (int(number), int(number) + 1)]
    found = []
    for name in names:
        pictures = [file for file in folder.glob(f"{name}.*") if file.suffix.lower() in PICTURES]
        if not pictures:
            raise FileNotFoundError(f"{flow} needs the frame {folder / name}.png (or .ppm, .jpg), which is not there")
        found.append(pictures[0])
    return found[0], found[1]


def _scene(flow: Path, root: Path) -> str:
    place = flow if flow.stem.endswith("_flow") else flow.parent
    return place.relative_to(root).as_posix()


def folder_digest(path: str | Path) -> str:
    """SHA-256 over the names and contents of all files of a folder: note it down, and give it to the loaders later."""
    root = Path(path)
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
    files = sorted(file for file in root.rglob("*") if file.is_file())
    return digest_of({file.relative_to(root).as_posix(): file for file in files})


def _files(path: str | Path, suffixes: set[str], what: str, digest: str | None) -> tuple[Path, list[Path]]:
    """The folder and its files with these endings, sorted, once the digest was found right (if there is one)."""
    root = Path(path)
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
    files = sorted(file for file in root.rglob("*") if file.suffix.lower() in suffixes)
    if not files:
        raise ValueError(f"found no {what} in {root} (looked for {', '.join(sorted(suffixes))})")
    if digest is not None and (found := folder_digest(root)) != digest:
        raise DataChangedError(f"the folder {root} has changed: expected SHA-256 {digest}, found {found}")
    return root, files


def _of_split(files: Iterable[Path], split: str, seed: int, *, group) -> list[Path]:
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; there are: {', '.join(SPLITS)}")
    files = list(files)
    chosen = [file for file in files if split_of(group(file), seed=seed) == split]
    if not chosen:
        raise ValueError(
            f"none of the {len(files)} files falls into {split!r} with seed {seed}; add files or change it"
        )
    return chosen


def _info(root: Path, modality: str, digest: str | None, counts: dict[str, int]) -> DatasetInfo:
    return DatasetInfo(
        name=root.name,
        title=f"your folder {root.name}",
        modality=modality,
        packages={},
        licence="not known here",
        attribution="not known here",
        counts=counts,
        files=(),
        recipe="",
        digest=digest or "",
    )
