"""What a chapter starts with: its profile, its seed, its device."""

from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch

from aigc_lib.teaching import figures

CHAPTERS = tuple(str(number) for number in range(1, 11))
PROFILES = ("smoke", "laptop", "gpu")
DEVICES = ("auto", "cpu", "cuda", "mps")

T = TypeVar("T")


@dataclass(frozen=True)
class Session:
    """The parameters of one run of a chapter, validated. Made by `begin`.

    Its text leaves the device out, so that the stored output of a chapter is the same on every machine.
    """

    chapter: str
    profile: str
    seed: int
    device: torch.device = field(repr=False)

    def budget(self, *, smoke: T, laptop: T, gpu: T) -> T:
        """The value for this profile: a number of steps or samples, never seconds."""
        return {"smoke": smoke, "laptop": laptop, "gpu": gpu}[self.profile]

    def generator(self, stream: int = 0) -> torch.Generator:
        """A fresh CPU generator for one experiment; equal (seed, stream) give equal numbers, others unrelated ones.

        Raises:
            ValueError: `stream` is not an integer ≥ 0.
        """
        _require_count(stream, "stream")
        state = np.random.SeedSequence([self.seed, stream]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0]))


def begin(chapter: str, *, profile: str, seed: int, device: str) -> Session:
    """Start a chapter: validate its parameters, set the plotting style, and seed torch's default generator.

    Everything random in a chapter takes `session.generator(stream)`; the default generator is seeded for the one thing
    that cannot, the initial weights of torch's layers.

    Args:
        chapter: "1" to "10".
        profile: "smoke", "laptop" or "gpu".
        seed: integer ≥ 0.
        device: "cpu", "cuda", "mps", or "auto" for the first of CUDA, MPS and CPU that is there.

    Raises:
        ValueError: a parameter is none of these, or the device is not on this machine.
    """
    _require_choice(chapter, "chapter", CHAPTERS)
    _require_choice(profile, "profile", PROFILES)
    _require_choice(device, "device", DEVICES)
    _require_count(seed, "seed")
    figures.use_style()
    torch.manual_seed(seed)
    return Session(chapter, profile, seed, _find_device(device))


def _find_device(name: str) -> torch.device:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    found = next(kind for kind, is_there in there.items() if is_there) if name == "auto" else name
    if not there[found]:
        raise ValueError(f'device "{found}" is not on this machine; use "auto" or "cpu"')
    return torch.device(found)


def _require_choice(value: str, name: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} has to be one of {', '.join(map(repr, choices))}, got {value!r}")


def _require_count(value: int, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} has to be an integer of at least 0, got {value!r}")
