"""Sound effects as pictures that a network for pictures can paint, and back: log-mel spectrograms of one window.

A picture is 64 mel bands high, row 0 the lowest, and 64 frames of 16 ms wide;
−1 is silence (60 dB below amplitude one), 1 as loud as it gets. What is asked for is a label: a kind of ambience, or
a kind of effect together with one of four durations, each √2 times the one before.
"""

import dataclasses
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aigc_lib import datasets
from aigc_lib.datasets.base import Images
from aigc_lib.datasets.effects import AMBIENCES, EFFECTS, LONGEST, SAMPLE_RATE, SHORTEST, WINDOW
from aigc_lib.models.mel import MelConfig, griffin_lim, log_mel

MEL = MelConfig(sample_rate=SAMPLE_RATE, n_mels=64, floor=1e-3)
FRAMES = WINDOW // MEL.hop_length
LOUDEST = 2.0  # natural logarithm of a mel amplitude; a ten-thousandth of all values lies above
BINS = 4  # of durations
N_LABELS = BINS * len(EFFECTS) + len(AMBIENCES)
TRUNCATION = 0.7  # of styles towards the mean of their label: kinds are clearer and durations nearer for less variety
MAX_STRETCH = 1.3  # in time, to get from the duration that was painted to the one that was asked for
_QUIET = math.log(MEL.floor)
_HEARD = -0.8  # a frame with nothing above it is silent: of real pictures, the last that is not is 4 ms late on average
_SILENT = dataclasses.replace(MEL, floor=1e-8)


def pictures_of(audio: Tensor) -> Tensor:
    """(B, T) in [-1, 1] → (B, 1, 64, 64) in [-1, 1]; T is 16,384."""
    levels = torch.cat([log_mel(some, MEL) for some in audio.split(64)])
    return ((levels - _QUIET) * (2 / (LOUDEST - _QUIET)) - 1).clamp(-1, 1)[:, None]


def images_of(split: str, label: Callable[[Tensor, Tensor], Tensor]) -> Images:
    """The data set "effects" as pictures; `label` makes their labels (N,) of kinds and seconds (N,)."""
    sounds = datasets.load("effects", split)
    keys = [f"{split}/{sounds.seed}/{i}" for i in range(len(sounds))]
    labels = label(sounds.labels, sounds.seconds)
    return Images(pictures_of(sounds.audio(slice(None))), labels=labels, keys=keys, info=sounds.info, split=split)


def sounds_of(pictures: Tensor, *, generator: torch.Generator, n_iterations: int = 16) -> Tensor:
    """(B, 1, 64, F) → (B, 256 F) by Griffin and Lim, phases drawn from `generator`."""
    levels = (pictures[:, 0] + 1) * ((LOUDEST - _QUIET) / 2) + _QUIET
    # What is at the floor was anything below it; 64 bands of that would be heard.
    levels = torch.where(levels < _QUIET + 0.05, math.log(_SILENT.floor), levels)
    audio = [griffin_lim(some, _SILENT, n_iterations=n_iterations, generator=generator) for some in levels.split(32)]
    return torch.cat(audio)


def louder(audio: Tensor) -> Tensor:
    """Scale each of (B, T) until its loudest sample is 0.9; silence stays silent."""
    return audio * (0.9 / audio.abs().amax(dim=1, keepdim=True).clamp(min=1e-4))


def label_of(kinds: Tensor, seconds: Tensor) -> Tensor:
    """What to ask the networks for: kinds (B,), positions in `datasets.effects.KINDS`, lasting `seconds` (B,)."""
    bins = (BINS * (seconds / SHORTEST).log() / math.log(LONGEST / SHORTEST)).long().clamp(0, BINS - 1)
    of_ambience = kinds + (BINS - 1) * len(EFFECTS)
    return torch.where(kinds < len(EFFECTS), BINS * kinds + bins, of_ambience)


def frames_heard(pictures: Tensor) -> Tensor:
    """(B,) how many frames of pictures (B, 1, 64, F) there are until nothing louder follows."""
    heard = pictures[:, 0].amax(dim=1) > _HEARD  # (B, F)
    return (heard * torch.arange(1, heard.shape[1] + 1, device=heard.device)).amax(dim=1)


def seconds_heard(audio: Tensor) -> Tensor:
    """(B,) until the last 8 ms of (B, T) that are less than 40 dB softer than the loudest 8 ms."""
    powers = audio.unfold(1, 128, 128).square().mean(dim=2)  # (B, T / 128)
    heard = powers > 1e-4 * powers.amax(dim=1, keepdim=True)
    return (heard * torch.arange(1, heard.shape[1] + 1)).amax(dim=1) * (128 / SAMPLE_RATE)


def fitted(pictures: Tensor, seconds: Tensor) -> Tensor:
    """Stretch each picture in time so that it is heard for `seconds` (B,), by a factor of at most 1.3, then silence."""
    frames = seconds.to(pictures) * (SAMPLE_RATE / MEL.hop_length)  # (B,)
    stretch = (frames / frames_heard(pictures).clamp(min=1)).clamp(1 / MAX_STRETCH, MAX_STRETCH)
    n = pictures.shape[3]
    here = torch.arange(n, device=pictures.device)  # frame i of the result is taken at (i + ½)/stretch − ½
    x = ((here + 0.5) / stretch[:, None]) * (2 / n) - 1  # (B, F), in [-1, 1] as grid_sample counts
    y = (torch.arange(pictures.shape[2], device=pictures.device) + 0.5) * (2 / pictures.shape[2]) - 1
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[None, :, None]), dim=-1)
    moved = F.grid_sample(pictures + 1, grid, align_corners=False) - 1  # beyond the edge lies silence
    return torch.where(here < frames[:, None].ceil(), moved.permute(1, 2, 0, 3), -1.0).permute(2, 0, 1, 3)


@torch.no_grad()
def styles_of(
    model: nn.Module, labels: Tensor, *, truncation: float = TRUNCATION, generator: torch.Generator
) -> Tensor:
    """Styles (B, Z) of random noise, pulled towards the mean style of their own label: 0 leaves nothing but that."""
    here = model.synthesis.constant.device
    z = torch.randn(len(labels), model.config.latent_dim, generator=generator, device=generator.device).to(here)
    many = torch.randn(256, model.config.latent_dim, generator=torch.Generator().manual_seed(0)).to(here)
    own, position = labels.to(here).unique(return_inverse=True)
    means = torch.stack([model.mapping(many, label.expand(len(many))).mean(dim=0) for label in own])
    return torch.lerp(means[position], model.mapping(z, labels.to(here)), truncation)


@torch.no_grad()
def paint(
    model: nn.Module, kinds: Tensor, seconds: Tensor, *, truncation: float = TRUNCATION, generator: torch.Generator
) -> Tensor:
    """Pictures (B, 1, 64, 64) of kinds (B,) by a `StyleGenerator` of `N_LABELS` classes, effects lasting `seconds`."""
    styles = styles_of(model, label_of(kinds, seconds), truncation=truncation, generator=generator)
    noise = model.synthesis.noise(len(kinds), generator=generator)
    painted = model.synthesis(styles[:, None].expand(-1, model.config.n_styles, -1), noise).cpu()
    effect = (kinds < len(EFFECTS)).view(-1, 1, 1, 1)
    return torch.where(effect, fitted(painted, seconds), painted)
