"""Sound effects on demand: a bell of half a second, a knock of one; and ambiences that go round without a seam.

StyleGAN paints the spectrogram, Griffin and Lim's iteration finds a sound that has it. An ambience is made of windows
whose styles walk along a closed path, laid over each other on a circle.
"""

import math
from pathlib import Path
from typing import NamedTuple

import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from aigc_lib.datasets.effects import AMBIENCES, EFFECTS, KINDS, LONGEST, SAMPLE_RATE, SHORTEST, WINDOW
from aigc_lib.models.mel import MelConfig, log_mel
from aigc_lib.models.stylegan_editing import closed_path
from aigc_lib.training.checkpoints import load
from aigc_lib.training.devices import resolve_device
from aigc_lib.training.recipes.effect_pictures import label_of, louder, paint, sounds_of, styles_of
from aigc_lib.trust.exports import exported

FORMATS = (".wav", ".flac", ".ogg")
LOOP = (2.0, 60.0)  # seconds that an ambience lasts until it begins again
_ITERATIONS = 60  # of Griffin and Lim
_FADE = 80  # samples, 5 ms, at the end of an effect


def sound_effect(
    kind: str,
    out: Path | str,
    *,
    seconds: float | None = None,
    network: nn.Module | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> Path:
    """Write one effect, or an ambience that can be played round and round; mono, 16 kHz, the loudest sample 0.9.

    Args:
        kind: one of `datasets.effects.EFFECTS` or of `AMBIENCES`.
        out: a path ending in .wav, .flac or .ogg.
        seconds: exactly how long: an effect 0.25 to 1 (None: 0.7), an ambience 2 to 60 (None: 8).
        network: a `StyleGenerator` in place of the trained "stylegan-effects".
        seed: another one is another sound.
        device: see `training.devices`.
        progress: show a progress bar for an ambience.

    Returns:
        `out`, as a path. Stopped before the end, nothing is written.

    Raises:
        ValueError: unknown kind or suffix, or seconds out of range.
        FileNotFoundError: no trained network.
        CheckpointError: `out` cannot be written.
    """
    out = Path(out)
    if kind not in KINDS:
        effects, ambiences = (", ".join(f"{en} {zh}" for en, zh in some.items()) for some in (EFFECTS, AMBIENCES))
        raise ValueError(f"unknown kind {kind!r}; effects: {effects}; ambiences: {ambiences}")
    if out.suffix.lower() not in FORMATS:
        raise ValueError(f"sound goes into a .wav, .flac or .ogg file, got {out.name!r}")
    shortest, longest = (SHORTEST, LONGEST) if kind in EFFECTS else LOOP
    seconds = (0.7 if kind in EFFECTS else 8.0) if seconds is None else seconds
    if not shortest <= seconds <= longest:
        what = "an effect" if kind in EFFECTS else "an ambience"
        raise ValueError(f"{what} such as {kind} lasts {shortest:g} to {longest:g} seconds, got {seconds:g}")
    generator = torch.Generator().manual_seed(seed)
    networks = [] if network else ["stylegan-effects"]
    network = network or load("stylegan-effects").to(resolve_device(device))
    if kind in EFFECTS:
        audio = effect(network, kind, seconds, generator=generator)
    else:
        audio = ambience(network, kind, seconds, generator=generator, progress=progress)
    with exported(out, networks=networks, parameters={"kind": kind, "seconds": seconds, "seed": seed}) as file:
        soundfile.write(file, audio.numpy(), SAMPLE_RATE, format=out.suffix[1:].upper())
    return out


@torch.no_grad()
def effect(network: nn.Module, kind: str, seconds: float, *, generator: torch.Generator) -> Tensor:
    """(seconds · 16,000,): one effect."""
    kinds, asked = torch.tensor([KINDS.index(kind)]), torch.tensor([seconds])
    picture = paint(network, kinds, asked, generator=generator)
    audio = sounds_of(picture, generator=generator, n_iterations=_ITERATIONS)[:, : round(seconds * SAMPLE_RATE)]
    audio[:, -_FADE:] *= torch.linspace(1, 0, _FADE)
    return louder(audio)[0]


@torch.no_grad()
def ambience(
    network: nn.Module, kind: str, seconds: float, *, generator: torch.Generator, progress: bool = False
) -> Tensor:
    """(seconds · 16,000,): an ambience whose end leads into its beginning.

    Windows of a second lie on a circle, at least half over each other; each has fine noise and phases of its own, and
    a style from a closed path with a new key every three seconds or so.
    """
    n = math.ceil(seconds * SAMPLE_RATE / (WINDOW // 2))
    label = label_of(torch.tensor([KINDS.index(kind)]), torch.tensor([LONGEST]))
    keys = styles_of(network, label.expand(max(2, round(seconds / 3))), generator=generator)
    styles = closed_path(keys, n)[:, None].expand(-1, network.config.n_styles, -1)
    windows = []
    for some in tqdm(styles.split(4), desc=kind, unit="2 s", disable=not progress):
        pictures = network.synthesis(some, network.synthesis.noise(len(some), generator=generator)).cpu()
        windows.append(sounds_of(pictures, generator=generator, n_iterations=_ITERATIONS))
    return louder(on_a_circle(torch.cat(windows), round(seconds * SAMPLE_RATE))[None])[0]


def on_a_circle(windows: Tensor, length: int) -> Tensor:
    """Lay sounds (n ≥ 2, W) over each other on a circle of `length` samples, (length,).

    Window i fades in over the circle's i-th part and out over the next one, as the sine and cosine of a quarter turn:
    the squares add up to one, so uncorrelated windows keep their power.

    Raises:
        ValueError: fewer than 2 windows, or they are too short: two parts of the circle must fit into one.
    """
    n, width = windows.shape
    if n < 2 or 2 * math.ceil(length / n) > width:
        raise ValueError(f"expected at least {max(2, math.ceil(2 * length / width))} windows, got {n}")
    starts = [i * length // n for i in range(n + 2)]  # beyond n, the same parts again
    circle = windows.new_zeros(length)
    for i, window in enumerate(windows):
        fades = [torch.sin(math.pi / 2 * (torch.arange(b - a) + 0.5) / (b - a)) for a, b in _parts(starts, i)]
        gains = torch.cat([fades[0], fades[1].flip(0)]).to(windows)
        circle[(starts[i] + torch.arange(len(gains))) % length] += gains * window[: len(gains)]
    return circle


def _parts(starts: list[int], i: int) -> list[tuple[int, int]]:
    """Where the part in which window i fades in, and the one in which it fades out, begin and end."""
    return [(starts[i], starts[i + 1]), (starts[i + 1], starts[i + 2])]


class Seam(NamedTuple):
    """What is heard where a loop begins again, beside the largest that is heard anywhere inside it."""

    jump: float  # from the last sample to the first
    largest_jump: float
    change: float  # mean change of the log-mel (natural logarithm), an eighth of a second before to one after
    largest_change: float


def seam_of(audio: Tensor) -> Seam:
    """Measure the seam of a loop (T,) of at least a second at 16 kHz, played round and round."""
    jumps = (audio - audio.roll(1)).abs()
    whole = len(audio) // 256 * 256
    # The last 256 samples or fewer are left out far from the seam, which lies in the middle of what is looked at.
    turned = audio.roll(len(audio) // 2)[:whole]
    levels = log_mel(turned[None], MelConfig(n_mels=64, floor=1e-3))[0]  # (M, F)
    means = F.avg_pool1d(levels[None], 8, stride=1)[0]  # of frames i to i + 7
    changes = (means[:, 8:] - means[:, :-8]).abs().mean(dim=0)  # entry i: across the beginning of frame i + 8
    seam = round(len(audio) // 2 / 256) - 8
    inside = torch.cat([changes[: seam - 8], changes[seam + 9 :]])
    here = changes[seam - 1 : seam + 2].max()
    return Seam(jumps[0].item(), jumps[1:].max().item(), here.item(), inside.max().item())
