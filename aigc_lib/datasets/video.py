"""Real video: clips of Big Buck Bunny with their sound."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from aigc_lib.datasets.base import Items, VideoItem, from_bytes
from aigc_lib.datasets.cache import prepared
from aigc_lib.datasets.pixels import area_resize
from aigc_lib.datasets.provenance import info
from aigc_lib.datasets.sources import verify

FRAME_RATE = 25
SAMPLE_RATE = 24_000
# Which frames of the 132 belong to which split: the film's order is kept, so no clip's neighbour lies in another split
# except at two points.
FRAMES = {"train": (0, 96), "validation": (96, 114), "test": (114, 132)}


def big_buck_bunny(split: str, resolution: int = 72, n_frames: int = 6) -> Items[VideoItem]:
    """Clips of 5.3 seconds of Big Buck Bunny (25 frames a second), side by side in time without overlap.

    Training has the first 96 frames, validation the next 18, test the last 18; frames left over at the end of a split
    are not used. The original is 1280 by 720; each new pixel is the mean of the area that it covers, nothing is
    cropped. The sound is mixed down from six channels to one and lasts exactly as long as its frames.

    Args:
        resolution: height, a multiple of 9 from 36 to 360; the width is 16/9 of it.
        n_frames: frames a clip, 1 to 18.

    Returns:
        Items with frames (n_frames, 3, resolution, resolution * 16 / 9) and audio (n_frames * 960,) at 24 kHz.
    """
    if resolution % 9 or not 36 <= resolution <= 360:
        raise ValueError(f"expected a resolution (height) that is a multiple of 9 from 36 to 360, got {resolution}")
    if not 1 <= n_frames <= 18:
        raise ValueError(f"expected clips of 1 to 18 frames, got {n_frames}")
    entry = info("big-buck-bunny")
    (path,) = verify(entry).values()

    def build() -> dict[str, np.ndarray]:
        import av

        with av.open(str(path)) as container:
            # The file does not say which matrix its colours need; for high definition that is BT.709.
            progress = tqdm(container.decode(video=0), desc="reading frames", leave=False)
            pictures = (frame.to_ndarray(format="rgb24", src_colorspace="ITU709") for frame in progress)
            frames = [area_resize(p.transpose(2, 0, 1), resolution, resolution * 16 // 9) for p in pictures]
        with av.open(str(path)) as container:
            mixer = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
            chunks = [chunk for frame in container.decode(audio=0) for chunk in mixer.resample(frame)]
            chunks += mixer.resample(None)
        sound = np.concatenate([chunk.to_ndarray()[0] for chunk in chunks])
        return {"frames": np.stack(frames), "audio": sound[: len(frames) * SAMPLE_RATE // FRAME_RATE]}

    arrays = prepared(entry, build, resolution=resolution)
    frames = torch.from_numpy(arrays["frames"])
    audio = torch.from_numpy(arrays["audio"]).float() / 2**15
    first, end = FRAMES[split]
    per_frame = SAMPLE_RATE // FRAME_RATE
    return Items(
        (
            VideoItem(
                frames=from_bytes(frames[start : start + n_frames]),
                frame_rate=float(FRAME_RATE),
                audio=audio[start * per_frame : (start + n_frames) * per_frame],
                sample_rate=SAMPLE_RATE,
                key=f"big-buck-bunny/{start:03d}",
            )
            for start in range(first, end - n_frames + 1, n_frames)
        ),
        info=entry,
        split=split,
    )


def without_repeats(frames: Tensor) -> Tensor:
    """Consecutive frames (F, C, H, W) of the film without those in which time stands still.

    It was made with 24 frames a second and is shown with 25: once a second a frame comes twice, coded anew. A repeated
    frame differs from the one before it by less than a quarter of what its neighbours do from theirs.
    """
    change = (frames[1:] - frames[:-1]).abs().mean(dim=(1, 2, 3))
    usual = F.pad(change[None], (1, 1), mode="replicate")[0].unfold(0, 3, 1).median(dim=1).values
    return frames[torch.cat([torch.tensor([True]), change > usual / 4])]
