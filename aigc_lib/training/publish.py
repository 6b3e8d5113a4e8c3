"""From a finished run to a shipped checkpoint: the networks, and beside them a record of how they came to be."""

import dataclasses
import json
import platform
from pathlib import Path
from typing import Any

import torch

import aigc_lib
from aigc_lib import datasets
from aigc_lib.paths import data_dir
from aigc_lib.training import checkpoints
from aigc_lib.training.engine import TrainingResult

MAX_BYTES = 6_000_000
EVALUATION = {"n": 1000, "seed": 0}


def _in_half(values: torch.Tensor) -> torch.Tensor:
    """Weights in float16: half the bytes, a relative error below 0.0005. They are float32 again once loaded."""
    half = values.half() if values.is_floating_point() else values
    if half.is_floating_point() and not torch.isfinite(half).all():
        raise ValueError(f"a weight of {values.abs().max().item():.3g} cannot be stored in float16 (at most 65,504)")
    return half


def publish(result: TrainingResult, *, command: str) -> Path:
    """Write `data/checkpoints/<name>.safetensors` and its record, evaluated here and now.

    Args:
        result: of `train`.
        command: the command line that gives this result again.

    Raises:
        ValueError: the file would be larger than 6 MB, or a weight is not finite or larger than float16 holds.
        CheckpointError: it cannot be written.
    """
    recipe = result.recipe
    parts = {name: part.cpu().eval() for name, part in recipe.inference_parts().items()}
    state: dict[str, Any] = {
        "config": dataclasses.asdict(recipe.config),
        "parts": {name: {key: _in_half(t) for key, t in part.state_dict().items()} for name, part in parts.items()},
    }
    for name, part in parts.items():
        part.load_state_dict(state["parts"][name])  # what is evaluated below is what was written
    if result.previews and recipe.ships_previews:
        steps, previews = zip(*result.previews, strict=True)
        state["trajectory"] = {"steps": list(steps), "previews": checkpoints.packed(torch.stack(previews))}
    path = data_dir() / "checkpoints" / f"{recipe.name}.safetensors"
    checkpoints.write(path, state)
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path.name} has {path.stat().st_size / 1e6:.1f} MB; a shipped checkpoint has at most 6 MB")
    generator = torch.Generator().manual_seed(EVALUATION["seed"])
    metrics = recipe.evaluate(parts, n=EVALUATION["n"], generator=generator)
    record = {
        "recipe": recipe.name,
        "command": command,
        "steps": result.step,
        "seed": result.seed,
        "device": f"{recipe.context.device.type}, {platform.machine()}, {torch.get_num_threads()} threads",
        "minutes": round(result.seconds / 60, 1),
        "n_parameters": {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()},
        "data": {"name": recipe.dataset, "digest": datasets.load(recipe.dataset).info.digest},
        "versions": {"aigc_lib": aigc_lib.__version__, "torch": torch.__version__},
        "sha256": checkpoints.digest_of_file(path),
        "evaluation": EVALUATION,
        "metrics": {name: float(f"{value:.4g}") for name, value in metrics.items()},
    }
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    checkpoints.write_whole(path.with_suffix(".json"), text.encode())
    return path
