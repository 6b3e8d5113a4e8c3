"""Enhance a film: twice the height and width, less noise, the sound as it was. What is added is a guess."""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path

import av
import torch
from torch import Tensor
from tqdm.auto import tqdm

from aigc_lib.applications.captions import join
from aigc_lib.datasets.base import from_bytes
from aigc_lib.datasets.video_files import VideoFile, open_video, write_video
from aigc_lib.models.enhancement import VideoEnhancer, noise_level, shrink
from aigc_lib.training.checkpoints import load
from aigc_lib.training.devices import resolve_device
from aigc_lib.training.previews import to_uint8
from aigc_lib.trust.exports import exported
from aigc_lib.trust.provenance import COMPOSITE, ENHANCED

MAX_NOISE = 25  # grey levels of 255: what the network was trained for
_LEVEL = 2 / 255  # a grey level in [-1, 1]
_TEXTURE = 5  # levels: what fine texture is mistaken for; less than that is no noise
_CUT = 0.3  # mean difference of neighbours of different shots, and more than of any two of one


def enhance(
    source: Path | str,
    out: Path | str,
    *,
    scale: int = 2,
    noise: float | None = None,
    network: VideoEnhancer | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Path:
    """Write a film anew: of all frames that could have come out like its frames, the mean.

    Each is seen with its two neighbours, but not across a cut. One frame after another is read, made and written, so
    the film may be of any length, and its sides may be odd. The sound is copied, not coded anew, where mp4 can hold it.
    `out` appears when it is complete; stopped before, it is what it was.

    Args:
        source: any video file of constant frame rate.
        out: a path ending in .mp4; may be the source itself.
        scale: 2 for twice the height and width, 1 for their present size: then noise alone is taken away.
        noise: its standard deviation in grey levels of 255, 0 to 25; 0 leaves what is there. None estimates it from the
            first frames, where less than 5 counts as texture.
        network: in place of the trained "enhancement-film".
        device: see `training.devices`.
        progress: show a progress bar.

    Returns:
        `out`, as a path.

    Raises:
        FileNotFoundError, ValueError: the source cannot be read (`open_video`), its sound cannot be put into mp4, or
            scale, noise or the ending of `out` is another.
    """
    source, out = Path(source), Path(out)
    if scale not in (1, 2) or not (noise is None or 0 <= noise <= MAX_NOISE):
        raise ValueError(f"scale must be 1 or 2 and noise 0 to {MAX_NOISE} grey levels, got {scale} and {noise}")
    if out.suffix.lower() != ".mp4":
        raise ValueError(f"videos go into a file that ends in .mp4, got {out.name!r}")
    video = open_video(source)
    place, networks = resolve_device(device), [] if network else ["enhancement-film"]
    network = network or load("enhancement-film").to(place)
    level = estimated_noise(video) if noise is None else noise
    frames = _enhanced(video, network, level * _LEVEL, scale, place)
    kind = COMPOSITE if scale > 1 else ENHANCED  # detail is invented, or noise taken away
    made = {"parameters": {"scale": scale, "noise": level}, "source_type": kind, "edited": source}
    with exported(out, networks=networks, **made) as whole:
        pictures = whole.with_name("pictures.mp4")
        bar = tqdm(frames, total=video.n_frames, desc="enhancing", unit="frame", disable=not progress)
        write_video(pictures, bar, video.frame_rate)
        try:
            join(pictures, source, whole)
        except av.error.FFmpegError as error:
            raise ValueError(f"the sound of {source} cannot be put into mp4: {error.strerror or error}") from error
    return out


def estimated_noise(video: VideoFile) -> float:
    """The level of noise in the first eight frames of a film, 0 or 5 to 25 grey levels of 255: see `noise_level`."""
    levels = [noise_level(frame) for frame in islice(video.chunks(1), 8)]
    level = torch.cat(levels).median().item() / _LEVEL
    return min(level, MAX_NOISE) if level >= _TEXTURE else 0.0


@torch.no_grad()
def _enhanced(
    video: VideoFile, network: VideoEnhancer, noise: float, scale: int, place: torch.device
) -> Iterator[Tensor]:
    """All frames of the new film in order, (1, C, H, W) each."""
    n_frames = network.config.n_frames
    reach = n_frames // 2
    level = torch.full((1,), noise, device=place)
    near: deque[Tensor] = deque(maxlen=n_frames)
    frames = (frame.to(place) for frame in video.chunks(1))
    for frame in chain(frames, [None] * reach):  # (1, C, H, W); after the end time stands still
        near.extend([near[-1] if frame is None else frame] * (1 if near else reach + 1))
        if len(near) == n_frames:
            made = network(torch.stack(_of_one_shot(list(near)), dim=1), level).clamp(-1, 1)
            yield made if scale == 2 else shrink(made)


def _of_one_shot(near: list[Tensor]) -> list[Tensor]:
    """Frames around the one in the middle; those beyond a cut are replaced by the last before it."""
    middle = len(near) // 2
    for step in (-1, 1):
        for i in range(middle + step, len(near) if step > 0 else -1, step):
            if (near[i] - near[i - step]).abs().mean() > _CUT:
                near[i] = near[i - step]
    return near


def anime4k(model: str = "acnet-gan") -> Callable[[Tensor], Tensor]:
    """The packaged helper to compare with: a small network of Anime4KCPP, trained by others on drawn pictures.

    Returns:
        What takes frames (F, 3, H, W) in [-1, 1] and gives (F, 3, 2H, 2W).

    Raises:
        ModuleNotFoundError: pyanime4k is not installed; the message says how to.
        ValueError: no such model; the message lists them.
    """
    try:
        from pyanime4k.pyac import pyac
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("the helper is not installed: pip install pyanime4k==3.1.0") from error
    if model not in pyac.specs.ModelNameList:  # the package would take another one without a word
        raise ValueError(f"no model {model!r}; there are {', '.join(pyac.specs.ModelNameList)}")
    processor = pyac.core.Processor("cpu", 0, model)

    def enlarged(frames: Tensor) -> Tensor:
        pictures = to_uint8(frames).permute(0, 2, 3, 1).contiguous().numpy()
        made = torch.stack([torch.from_numpy(processor(picture, 2.0)) for picture in pictures])
        return from_bytes(made.permute(0, 3, 1, 2).contiguous())

    return enlarged
