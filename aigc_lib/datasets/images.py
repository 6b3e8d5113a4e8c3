"""Real pictures: handwritten digits, emoji with captions in two languages, photographs."""

import gzip
import io
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from aigc_lib.datasets.base import (
    SPLITS,
    ImageItem,
    Images,
    Items,
    from_bytes,
    split_groups,
    split_of,
    stable_hash,
)
from aigc_lib.datasets.cache import prepared
from aigc_lib.datasets.pixels import area_resize, read_rgb
from aigc_lib.datasets.provenance import info
from aigc_lib.datasets.sources import verify

DIGITS_PER_CLASS = {"train": 350, "validation": 50, "test": 100}


def digits(split: str) -> Images:
    """5,000 MNIST digits, 28 by 28 pixels, white on black, in the resolution they were made in.

    Within each class the pictures are put in the order of the hash of their pixels and cut at 350 and 400, so all
    splits are class-balanced and fixed.

    Returns:
        Images (N, 1, 28, 28) with N = 3,500, 500 or 1,000; labels 0 to 9.
    """
    entry = info("digits")
    (path,) = verify(entry).values()

    def build() -> dict[str, np.ndarray]:
        table = np.loadtxt(io.BytesIO(gzip.decompress(path.read_bytes())), delimiter=",", dtype=np.uint8)
        return {"pixels": table[:, :-1].reshape(-1, 1, 28, 28), "labels": table[:, -1]}

    arrays = prepared(entry, build)
    pixels, labels = arrays["pixels"], arrays["labels"].astype(np.int64)
    hashes = np.array([stable_hash(picture.tobytes().hex()) for picture in pixels], dtype=np.uint64)
    start = sum(DIGITS_PER_CLASS[name] for name in SPLITS[: SPLITS.index(split)])
    chosen = []
    for label in range(10):
        members = np.flatnonzero(labels == label)
        chosen.append(members[np.argsort(hashes[members], kind="stable")][start : start + DIGITS_PER_CLASS[split]])
    # Interleave the classes: the first ten pictures are one of each.
    index = np.stack(chosen, axis=1).reshape(-1)
    return Images(
        from_bytes(torch.from_numpy(pixels[index])),
        labels=torch.from_numpy(labels[index]),
        keys=[f"mnist-5k/{i:04d}" for i in index],
        info=entry,
        split=split,
    )


SKIN_TONES = {f"{code:x}" for code in range(0x1F3FB, 0x1F400)}
# Pictures of a man, a woman and a person doing the same thing differ by a few pixels, and so do many flags.
PERSONS = {"1f468", "1f469", "1f9d1"}
REGIONAL_LETTERS = {f"{code:x}" for code in range(0x1F1E6, 0x1F200)}


def emoji(split: str, resolution: int = 32) -> Images:
    """Twemoji without skin tones, on white, with their names in English and Chinese.

    The original is 72 by 72 pixels; each new pixel is the mean of the area that it covers. Splits go by base code
    point (all flags count as one, and so do man, woman and person). Of pictures that are equal to the last pixel, one
    is kept.

    Args:
        resolution: height and width, 8 to 72.

    Returns:
        Images (N, 3, resolution, resolution), without labels; caption `{"en": "red heart", "zh": "红心"}`; key "2764".
    """
    if not 8 <= resolution <= 72:
        raise ValueError(f"expected a resolution from 8 to 72 (the size of the originals), got {resolution}")
    entry = info("emoji")
    files = verify(entry)

    def build() -> dict[str, np.ndarray]:
        pictures = emoji_files(files.values())
        pixels = {key: read_rgb(path) for key, path in pictures.items()}
        unique = {picture.tobytes(): key for key, picture in reversed(pixels.items())}  # the first of equals stays
        keys = sorted(unique.values())
        return {
            "pixels": np.stack([area_resize(pixels[key], resolution, resolution) for key in keys]),
            "keys": np.array(keys),
        }

    arrays = prepared(entry, build, resolution=resolution)
    keys = arrays["keys"].tolist()
    index = [i for i, key in enumerate(keys) if split_of(emoji_group(key)) == split]
    captions = emoji_captions(files.values())
    return Images(
        from_bytes(torch.from_numpy(arrays["pixels"][index])),
        captions=[captions[_without_variation(keys[i])] for i in index],
        keys=[keys[i] for i in index],
        info=entry,
        split=split,
    )


def emoji_files(files: Iterable[Path]) -> dict[str, Path]:
    """Key (code points in hexadecimal, joined by "-") -> PNG, of those that have a name and no skin tone."""
    named = emoji_captions(files)
    pictures = {path.stem: path for path in files if path.suffix == ".png"}
    return {
        key: path
        for key, path in pictures.items()
        if _without_variation(key) in named and not SKIN_TONES & set(key.split("-"))
    }


def emoji_captions(files: Iterable[Path]) -> dict[str, dict[str, str]]:
    """Code points without variation selectors -> name in both languages."""
    tables = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in files if path.suffix == ".json"}
    english, chinese = tables["emoji.json"], tables["emoji_zh.json"]
    captions = {}
    for characters, names in english.items():
        key = _without_variation("-".join(f"{ord(character):x}" for character in characters))
        # ":red_heart:" -> "red heart"
        captions[key] = {
            "en": names["en"].strip(":").replace("_", " "),
            "zh": chinese[characters].strip(":").replace("_", " "),
        }
    return captions


def emoji_group(key: str) -> str:
    """What must not be torn apart by splits: the base code point, with persons and flags taken together."""
    base = key.split("-")[0]
    return "persons" if base in PERSONS else "flags" if base in REGIONAL_LETTERS else base


def _without_variation(key: str) -> str:
    return "-".join(part for part in key.split("-") if part != "fe0f")


# Those that scikit-image ships inside its package and whose documentation says CC0, public domain or free of known
# restrictions. File name -> what is to be seen.
PHOTOGRAPHS = {
    "astronaut.png": ("an astronaut in front of a shuttle model", "航天飞机模型前的宇航员"),
    "brick.png": ("a brick wall", "砖墙"),
    "camera.png": ("a man behind a camera on a tripod", "三脚架相机后的摄影师"),
    "chelsea.png": ("a cat", "一只猫"),
    "clock_motion.png": ("a clock, blurred by motion", "因运动而模糊的时钟"),
    "coffee.png": ("a cup of coffee", "一杯咖啡"),
    "coins.png": ("Greek coins from Pompeii", "庞贝出土的希腊硬币"),
    "grass.png": ("grass", "草地"),
    "gravel.png": ("gravel", "砾石"),
    "hubble_deep_field.jpg": ("galaxies in the Hubble deep field", "哈勃深空场中的星系"),
    "ihc.png": ("stained tissue under a microscope", "显微镜下的染色组织"),
    "retina.jpg": ("the retina of an eye", "眼睛的视网膜"),
    "rocket.jpg": ("the launch of a rocket", "火箭发射"),
}


def photographs(split: str, patch: int | None = None) -> Items[ImageItem]:
    """Thirteen photographs and textures in their own sizes (300 to 1,411 pixels), or tiles of them.

    Grey ones have three equal channels. Splits go by photograph, so tiles of one never lie in two splits.

    Args:
        patch: None gives whole pictures, each (3, H, W) in its own size, not resized and not cropped. A number gives
            square tiles of that many pixels, side by side from the upper left corner without overlap, in the original
            resolution; strips at the right and lower edge narrower than a tile are left out.

    Returns:
        Items whose label is None and whose caption is what is to be seen; with `patch`, `Images` (N, 3, patch, patch).

    Raises:
        ValueError: `patch` is not from 8 to 256.
    """
    if patch is not None and not 8 <= patch <= 256:
        raise ValueError(f"expected a patch of 8 to 256 pixels or None, got {patch}")
    entry = info("photographs")
    splits = split_groups(PHOTOGRAPHS, fractions=(0.72, 0.14, 0.14))
    chosen = {path.name: read_rgb(path) for path in verify(entry).values() if splits[path.name] == split}
    captions = {name: dict(zip(("en", "zh"), PHOTOGRAPHS[name], strict=True)) for name in chosen}
    if patch is None:
        return Items(
            (
                ImageItem(image=from_bytes(torch.from_numpy(pixels.copy())), caption=captions[name], key=name)
                for name, pixels in chosen.items()
            ),
            info=entry,
            split=split,
        )
    tiles = {name: _tiles(pixels, patch) for name, pixels in chosen.items()}
    return Images(
        from_bytes(torch.from_numpy(np.concatenate(list(tiles.values())))),
        captions=[captions[name] for name, group in tiles.items() for _ in group],
        keys=[f"{name}/{i}" for name, group in tiles.items() for i in range(len(group))],
        info=entry,
        split=split,
    )


def _tiles(pixels: np.ndarray, size: int) -> np.ndarray:
    """(C, H, W) -> (N, C, size, size), row by row."""
    channels, height, width = pixels.shape
    rows, columns = height // size, width // size
    grid = pixels[:, : rows * size, : columns * size].reshape(channels, rows, size, columns, size)
    return grid.transpose(1, 3, 0, 2, 4).reshape(-1, channels, size, size)
