"""All vocoders on the same held-out sentences: one table, with the recordings and Griffin–Lim beside them."""

import json
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from aigc_lib.metrics.audio import real_time_factor, speech_quality
from aigc_lib.models.mel import griffin_lim
from aigc_lib.paths import data_dir
from aigc_lib.training.checkpoints import load_parts
from aigc_lib.training.devices import resolve_device
from aigc_lib.training.recipes import resolve
from aigc_lib.training.recipes.parallel_vocoder import JUDGED, MEL, ParallelVocoder

VOCODERS = ("wavenet-speech", "waveglow-speech", "hifigan-speech")


def compare(*, n: int = JUDGED, seed: int = 0, device: str = "auto") -> list[dict[str, str]]:
    """One row a system: the recordings, Griffin–Lim, every vocoder that has a checkpoint; "–" where nothing applies.

    Means over the same test sentences, which no vocoder was trained on, spoken from the mels of the recordings; the
    words that the recogniser mishears in the recordings are its own errors. Bits a sample come from the checkpoints'
    records: WaveNet's are of 256 μ-law levels, WaveGlow's of 65,536 even ones, so they cannot be compared with each
    other. The real-time factor is measured here, on one sentence; passes are evaluations that wait for one another.

    Args:
        n: sentences, at most 16.
        seed: of whatever the vocoders draw.

    Raises:
        ValueError: n < 1, unknown device.
        CheckpointError: a damaged checkpoint.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    place = resolve_device(device)
    truth, mels, texts = zip(*ParallelVocoder.sentences("test")[: min(n, JUDGED)], strict=True)

    def row(name: str, speak: Callable[..., Tensor] | None, **facts: object) -> dict[str, str]:
        made = truth
        if speak is not None:
            generator = torch.Generator().manual_seed(seed)
            made = [speak(mel.to(place), generator=generator).cpu() for mel in mels]
            facts["real-time factor"] = real_time_factor(
                lambda: speak(mels[0].to(place), generator=generator), MEL.sample_rate
            )
        values = speech_quality(made, truth, texts, MEL) | facts
        return {"system": name} | {key: _text(value) for key, value in values.items()}

    rows = [
        row("recordings", None),
        row("Griffin–Lim", partial(griffin_lim, config=MEL, n_iterations=60), passes="60 an utterance"),
    ]
    for name in VOCODERS:
        record = data_dir() / "checkpoints" / f"{name}.json"
        if not record.exists():
            continue
        about, recipe = json.loads(record.read_text(encoding="utf-8")), resolve(name)
        network = load_parts(name)[recipe.main_part].to(place)
        facts = {
            "bits a sample": about["metrics"].get("bits a sample", "–"),
            "parameters": f"{about['n_parameters'][recipe.main_part]:,}",
            "passes": f"{MEL.sample_rate:,} a second" if name == "wavenet-speech" else "1 an utterance",
            "training": f"{about['minutes']:g} min, {about['device']}",
        }
        rows.append(row(name, partial(recipe.speak, network), **facts))
    columns = dict.fromkeys(column for each in rows for column in each)
    return [{column: each.get(column, "–") for column in columns} for each in rows]


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
