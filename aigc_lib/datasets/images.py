"""Real pictures: handwritten digits, emoji with captions in two languages, photographs."""

import gzip
import io

import numpy as np
import torch

from aigc_lib.datasets.base import SPLITS, Images, from_bytes, stable_hash
from aigc_lib.datasets.cache import prepared
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
