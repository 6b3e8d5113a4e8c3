"""Six shots of a street, taken by a real camera. Nobody says who filmed them: to be measured on, not to be shown."""

import av
import torch

from aigc_lib.datasets.base import Items, VideoItem, from_bytes
from aigc_lib.datasets.pixels import area_resize
from aigc_lib.datasets.provenance import info
from aigc_lib.datasets.sources import verify

BEGINS = (0, 30, 76, 137, 187, 242)  # frames where the shots begin, of 250
N_FRAMES = 8  # the last shot has no more


def street(split: str) -> Items[VideoItem]:
    """The first eight frames (25 a second) of each shot, as things for testing only: no shot is of the same thing.

    Each pixel is the mean of four of the original, which is 640 by 272 and coarsely coded.

    Returns:
        Six items with frames (8, 3, 136, 320), without sound.

    Raises:
        ValueError: the split is not "test".
    """
    if split != "test":
        raise ValueError(f"'street' is kept for testing: expected split 'test', got {split!r}")
    entry = info("street")
    (path,) = verify(entry).values()
    with av.open(str(path)) as container:
        pictures = {
            i: torch.from_numpy(area_resize(frame.to_ndarray(format="rgb24").transpose(2, 0, 1), 136, 320))
            for i, frame in enumerate(container.decode(video=0))
            if any(begin <= i < begin + N_FRAMES for begin in BEGINS)
        }
    return Items(
        (
            VideoItem(
                frames=from_bytes(torch.stack([pictures[i] for i in range(begin, begin + N_FRAMES)])),
                frame_rate=25.0,
                key=f"street/{begin:03d}",
            )
            for begin in BEGINS
        ),
        info=entry,
        split=split,
    )
