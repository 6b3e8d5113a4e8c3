"""A film without a camera: StyleGAN walks a closed path through its styles, and a tune goes round with it."""

from fractions import Fraction
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aigc_lib import datasets
from aigc_lib.datasets.base import MusicItem
from aigc_lib.datasets.notes import play
from aigc_lib.datasets.video_files import enlarged, write_video
from aigc_lib.models.stylegan import latent_walk
from aigc_lib.training.checkpoints import load
from aigc_lib.training.devices import resolve_device
from aigc_lib.trust.exports import exported

FRAME_RATE = 24  # frames a second
SAMPLE_RATE = 24_000  # hertz
QUARTER = 0.5  # seconds a quarter note lasts, about: 120 a minute


def latent_film(
    out: Path | str,
    *,
    network: nn.Module | None = None,
    seconds: float = 5.0,
    instrument: str = "flute",
    seed: int = 0,
    device: str = "auto",
) -> Path:
    """Write a film with sound that ends where it begins, so that it can be played round and round.

    Args:
        out: a path ending in .mp4.
        network: a `StyleGenerator`, in place of the trained "stylegan-avatars".
        seconds: 1 to 60.
        instrument: that plays, see `datasets.notes.INSTRUMENTS`.
        seed: another one walks another way to another tune.
        device: see `training.devices`.

    Returns:
        `out`, as a path.

    Raises:
        ValueError: seconds out of range, or an unknown instrument.
        FileNotFoundError: no trained network.
    """
    if not 1 <= seconds <= 60:
        raise ValueError(f"seconds must be 1 to 60, got {seconds}")
    generator = torch.Generator().manual_seed(seed)
    networks = [] if network else ["stylegan-avatars"]
    network = network or load("stylegan-avatars").to(resolve_device(device))
    tunes = datasets.load("oneill")
    tune = tunes[int(torch.randint(len(tunes), (), generator=generator))]
    sound = looped_tune(tune, seconds, instrument)
    frames = latent_walk(network, round(seconds * FRAME_RATE), generator=generator)
    with exported(out, networks=networks, parameters={"seconds": seconds, "seed": seed}) as film:
        write_video(film, map(enlarged, frames.split(FRAME_RATE)), FRAME_RATE, sound=sound, sample_rate=SAMPLE_RATE)
    return Path(out)


def looped_tune(tune: MusicItem, seconds: float, instrument: str) -> Tensor:
    """As many whole bars of a tune as last about `seconds`, at the tempo that makes them last exactly so long.

    What still sounds at the end goes on at the beginning: played round and round, nothing is cut off.

    Returns:
        (seconds · 24,000,), the loudest sample 0.9.

    Raises:
        ValueError: an unknown instrument, or no note begins within those bars.
    """
    bar = 4.0 if tune.metre == "none" else float(4 * Fraction(tune.metre))  # quarters
    quarters = bar * max(1, round(seconds / (bar * QUARTER)))
    notes = tune.notes[tune.notes[:, 0] < quarters].clone()
    notes[:, 1] = notes[:, 1].minimum(quarters - notes[:, 0])
    sound = play(notes, instrument, SAMPLE_RATE, quarter=seconds / quarters)
    length = round(seconds * SAMPLE_RATE)
    rounds = F.pad(sound, (0, -len(sound) % length)).view(-1, length).sum(dim=0)
    return rounds * (0.9 / rounds.abs().max())
