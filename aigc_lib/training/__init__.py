"""Training, sampling and evaluation by name: what the command line does, as three functions."""

from pathlib import Path
from typing import Any

import torch

from aigc_lib.training.engine import PROFILES, TrainingDiverged, TrainingResult, run
from aigc_lib.training.recipes import full_name, names, resolve

__all__ = ["PROFILES", "TrainingDiverged", "TrainingResult", "evaluate", "full_name", "names", "sample", "train"]


def train(recipe: str, *, profile: str = "laptop", config: Any = None, **options: Any) -> TrainingResult:
    """Train a recipe by name.

    Args:
        recipe: one of `names()`, or a system's bare name ("gan").
        profile: "smoke", "laptop" or "gpu".
        config: the model's configuration, if not the recipe's own.
        options: device, seed, steps, out, resume, progress, precision, compile: see `engine.run`, also for errors.
    """
    return run(resolve(recipe)(config), profile=profile, **options)


def sample(name: str, *, n: int = 64, out: Path, seed: int = 0, device: str = "auto") -> Path:
    """Generate `n` things with the shipped checkpoint of a recipe into the file `out`; return its path.

    Raises:
        ValueError: unknown recipe or device, n < 1, a kind of file that the system does not write.
        FileNotFoundError, CheckpointError: no checkpoint, or a damaged one.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    return resolve(name).sample(_parts(name, device), out, n=n, generator=torch.Generator().manual_seed(seed))


def evaluate(name: str, *, n: int = 1000, seed: int = 0, device: str = "auto") -> dict[str, float]:
    """The metrics of a shipped checkpoint, on at most `n` held-out examples. Raises as `sample`."""
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    return resolve(name).evaluate(_parts(name, device), n=n, generator=torch.Generator().manual_seed(seed))


def _parts(name: str, device: str) -> dict[str, torch.nn.Module]:
    from aigc_lib.training.checkpoints import load_parts
    from aigc_lib.training.devices import resolve_device

    place = resolve_device(device)
    return {part: network.to(place) for part, network in load_parts(full_name(name)).items()}
