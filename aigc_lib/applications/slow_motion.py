"""Slow motion, and what comes after the end: frames that no camera took, written as a film."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from aigc_lib.datasets.video_files import VideoFile, open_video, write_video
from aigc_lib.models.interpolation import both_flows, predict_next
from aigc_lib.training.checkpoints import load
from aigc_lib.training.devices import resolve_device
from aigc_lib.trust.exports import exported
from aigc_lib.trust.provenance import COMPOSITE

MAX_FACTOR = 16


def slow_motion(
    source: Path | str,
    out: Path | str,
    *,
    factor: int = 4,
    beyond: int = 0,
    estimator: Callable[[Tensor, Tensor], Tensor] | None = None,
    synthesis: Callable[..., Tensor] | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Path:
    """Write a film at its own frame rate, `factor` times as long: between two frames come factor − 1 new ones.

    One frame after another is read, made and written, so the film may be of any length. `out` appears when it is
    complete; stopped before, it is what it was. The sound is left out: slowed down, it would be another sound.

    Args:
        source: any video file of constant frame rate.
        out: a path ending in .mp4; may be the source itself.
        factor: 1 to 16; 1 makes nothing new.
        beyond: frames to predict after the end, each 1/factor of a step further, if everything goes on as it went.
        estimator: of flow, in place of the trained "flownet-objects"; see `interpolation.both_flows`.
        synthesis: in place of the trained "interpolation-film"; called as `FrameSynthesis`.
        device: see `training.devices`.
        progress: show a progress bar.

    Returns:
        `out`, as a path.

    Raises:
        FileNotFoundError, ValueError: the source cannot be read (`open_video`), factor or beyond is out of range, or
            there are fewer than two frames.
    """
    if not 1 <= factor <= MAX_FACTOR or beyond < 0:
        raise ValueError(f"factor must be 1 to {MAX_FACTOR} and beyond at least 0, got {factor} and {beyond}")
    video = open_video(source)
    if video.n_frames < 2:
        raise ValueError(f"{source} has a single frame; motion needs two")
    place = resolve_device(device)
    own = {"flownet-objects": estimator, "interpolation-film": synthesis}
    networks = [name for name, given in own.items() if given is None]
    estimator = estimator or load("flownet-objects").to(place)
    synthesis = synthesis or load("interpolation-film").to(place)
    total = (video.n_frames - 1) * factor + 1 + beyond
    frames = _slowed(video, factor, beyond, estimator, synthesis, place)
    bar = tqdm(frames, total=total, desc="slow motion", unit="frame", disable=not progress)
    made = {"parameters": {"factor": factor, "beyond": beyond}, "source_type": COMPOSITE, "edited": source}
    with exported(out, networks=networks, **made) as film:
        write_video(film, bar, video.frame_rate)
    return Path(out)


@torch.no_grad()
def _slowed(
    video: VideoFile, factor: int, beyond: int, estimator: Callable, synthesis: Callable, place: torch.device
) -> Iterator[Tensor]:
    """All frames of the new film in order, (1, 3, H, W) each."""
    first = second = None
    for frame in video.chunks(1):
        first, second = second, frame.to(place)
        if first is not None:
            flows = both_flows(estimator, first, second) if factor > 1 else None
            for i in range(1, factor):
                yield synthesis(first, second, *flows, i / factor)
        yield frame
    if beyond:
        _, to_previous = both_flows(estimator, first, second)
        for i in range(1, beyond + 1):
            yield predict_next(second, to_previous, i / factor)
