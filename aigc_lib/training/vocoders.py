"""All vocoders on the same held-out sentences: one table, with the recordings and Griffin–Lim beside them."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from aigc_lib.metrics.audio import real_time_factor, speech_quality
from aigc_lib.models.mel import griffin_lim
from aigc_lib.training.checkpoints import load_parts, record_of
from aigc_lib.training.devices import resolve_device
from aigc_lib.training.recipes import resolve
from aigc_lib.training.recipes.speech_vocoder import JUDGED, MEL, SpeechVocoder

VOCODERS = ("wavenet-speech", "waveglow-speech", "hifigan-speech")


def compare(*, n: int = JUDGED, seed: int = 0, device: str = "auto") -> list[dict[str, str]]:
    """One row a system: the recordings, Griffin–Lim, every vocoder; "–" where nothing applies.

    Means over the same test sentences, which no vocoder was trained on, spoken from the mels of the recordings; the
    words that the recogniser mishears in the recordings are its own errors. Bits a sample come from the checkpoints'
    records: WaveNet's are of 256 μ-law levels, WaveGlow's of 65,536 even ones, so they cannot be compared with each
    other. The real-time factor is measured here, on one sentence, with as many threads as torch has; passes are
    evaluations that wait for one another, for each second of sound. WaveNet's loop runs on the CPU in any case.

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
    truth, mels, texts = zip(*SpeechVocoder.sentences("test")[: min(n, JUDGED)], strict=True)

    a_pass = MEL.sample_rate * len(truth) / sum(audio.shape[1] for audio in truth)  # an utterance, for each second

    def row(
        name: str, speak: Callable[..., Tensor] | None = None, passes: float = 0, **facts: object
    ) -> dict[str, str]:
        made = truth
        if speak is not None:
            generator = torch.Generator().manual_seed(seed)
            made = [speak(mel.to(place), generator=generator).cpu() for mel in mels]
            facts["real-time factor"] = real_time_factor(
                lambda: speak(mels[0].to(place), generator=generator), MEL.sample_rate
            )
            facts["passes a second"] = passes
        values = speech_quality(made, truth, texts, MEL) | facts
        return {"system": name} | {key: _text(value) for key, value in values.items()}

    rows = [
        row("recordings"),
        row("Griffin–Lim", partial(griffin_lim, config=MEL, n_iterations=60), 60 * a_pass),
    ]
    for name in VOCODERS:
        try:
            about, recipe = record_of(name), resolve(name)
        except FileNotFoundError:
            rows.append({"system": name, "training": f"none yet: aigc train {name} --ship"})
            continue
        network = load_parts(name)[recipe.main_part].to(place)
        facts = {
            "bits a sample": about["metrics"].get("bits a sample", "–"),
            "parameters": f"{about['n_parameters'][recipe.main_part]:,}",
            "training": f"{about['minutes']:g} min, {about['device']}",
        }
        passes = MEL.sample_rate if name == "wavenet-speech" else a_pass
        rows.append(row(name, partial(recipe.speak, network), passes, **facts))
    columns = dict.fromkeys(column for each in rows for column in each)
    return [{column: each.get(column, "–") for column in columns} for each in rows]


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
