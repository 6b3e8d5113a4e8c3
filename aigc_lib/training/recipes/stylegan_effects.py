"""Training StyleGAN on spectrograms of sound effects: kind and duration can be asked for. Judged by what is heard."""

import math
from pathlib import Path
from typing import ClassVar

import soundfile
import torch
from torch import Tensor, nn

from aigc_lib import datasets
from aigc_lib.datasets.base import Images
from aigc_lib.datasets.effects import EFFECTS, KINDS, SAMPLE_RATE, SHORTEST
from aigc_lib.metrics.features import features
from aigc_lib.metrics.images import frechet_distance_of, precision_recall
from aigc_lib.models.classifier import predict
from aigc_lib.models.stylegan import StyleGANConfig
from aigc_lib.training.checkpoints import load
from aigc_lib.training.previews import to_uint8
from aigc_lib.training.recipe import Budget
from aigc_lib.training.recipes.effect_pictures import (
    MEL,
    N_LABELS,
    images_of,
    label_of,
    louder,
    paint,
    pictures_of,
    seconds_heard,
    sounds_of,
)
from aigc_lib.training.recipes.stylegan import StyleGANRecipe, StyleGANTraining

_JUDGED = 300  # sounds of each sort, 20 a kind; bringing back their phases takes the time


class EffectsStyleGAN(StyleGANRecipe):
    """Label = kind of ambience, or kind of effect × one of four durations; see `recipes.effect_pictures`."""

    name = "stylegan-effects"
    dataset = "effects"
    samples_suffix = ".wav"
    # Not distorted: a spectrogram mirrored, turned or zoomed is another sound, and more data costs nothing here.
    training = StyleGANTraining(decay=0.25, ramp=math.inf)
    budgets: ClassVar[dict[str, Budget]] = {
        "smoke": Budget(steps=4, batch_size=4, log_every=2, n_previews=2),
        "laptop": Budget(steps=20, batch_size=16, log_every=5, n_previews=4),
        "gpu": Budget(steps=100_000, batch_size=64, log_every=100, checkpoint_every=2_000, n_previews=4),
    }

    @classmethod
    def default_config(cls) -> StyleGANConfig:
        c = {"n_classes": N_LABELS, "width": 16, "discriminator_width": 10, "max_width": 80}
        return StyleGANConfig(resolution=MEL.n_mels, n_channels=1, **c)

    @classmethod
    def pictures(cls, split: str) -> Images:
        return images_of(split, label_of)

    @torch.no_grad()
    def preview(self) -> Tensor:
        """A picture of each kind, effects of 0.7 s, from noise that never changes; high frequencies at the top."""
        seconds = torch.full((len(KINDS),), 0.7)
        generator = torch.Generator().manual_seed(0)
        return to_uint8(paint(self.ema.module, torch.arange(len(KINDS)), seconds, generator=generator).flip(2))

    @classmethod
    def sample(cls, parts: dict[str, nn.Module], out: Path, *, n: int, generator: torch.Generator) -> Path:
        """`n` sounds one after another, kind after kind, effects of 0.25 to 1 s."""
        if out.suffix.lower() not in (".wav", ".flac", ".ogg"):
            raise ValueError(f"sound goes into a .wav, .flac or .ogg file, got {out.name!r}")
        kinds = torch.arange(n) % len(KINDS)
        seconds = SHORTEST * 4 ** torch.rand(n, generator=generator)
        audio = louder(sounds_of(paint(parts["generator"], kinds, seconds, generator=generator), generator=generator))
        out.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(out, audio.flatten().numpy(), SAMPLE_RATE)
        return out

    @classmethod
    def evaluate(cls, parts: dict[str, nn.Module], *, n: int, generator: torch.Generator) -> dict[str, float]:
        """What a classifier hears that learned from the training sounds, and the distances of its features.

        Of four sorts of sound, in the same kinds and durations: held-out ones; the same from their spectrograms
        alone, which is the most that a painter of spectrograms can reach; generated ones; and sounds whose spectrogram
        is the mean of a label's, which is the least. Also Fréchet distance of training from held-out sounds, precision
        and recall (k = 3); how far the sounds of a kind lie apart beside the real ones of the same durations, in
        features, which faults scatter as well, and in spectrograms; and, for effects, how the duration that is heard
        follows the one that was asked for.
        """
        held_out, train = (datasets.load(cls.dataset, split) for split in ("test", "train"))
        n = min(n, len(held_out), _JUDGED)
        kinds, seconds, real = held_out.labels[:n], held_out.seconds[:n], held_out.audio(slice(n))
        means = means_of(images_of("train", label_of))[label_of(kinds, seconds)]
        generated = paint(parts["generator"], kinds, seconds, generator=generator)
        sorts = {"generated": generated, "from their spectrograms": pictures_of(real), "mean spectrograms": means}
        sounds = {"held-out": real, "training": train.audio(slice(n))}
        sounds |= {sort: louder(sounds_of(pictures, generator=generator)) for sort, pictures in sorts.items()}
        return judged(sounds, kinds, seconds)


def means_of(images: Images) -> Tensor:
    """(K, 1, H, W): the mean picture of each label."""
    return torch.stack([images.images[images.labels == i].mean(dim=0) for i in range(int(images.labels.max()) + 1)])


def judged(sounds: dict[str, Tensor], kinds: Tensor, seconds: Tensor) -> dict[str, float]:
    """Numbers for `EffectsStyleGAN.evaluate`: sorts of sound (B, T), "held-out" and "generated" among them."""
    network = load("classifier-effects")
    pictures = {sort: pictures_of(audio) for sort, audio in sounds.items()}
    rows = {sort: features(network, some) for sort, some in pictures.items()}
    found = {
        f"accuracy, {sort}": (predict(network, some) == kinds).float().mean().item()
        for sort, some in pictures.items()
        if sort != "training"
    }
    real, made = rows["held-out"], rows["generated"]
    found |= {f"Fréchet distance, {sort}": frechet_distance_of(real, rows[sort]) for sort in rows if sort != "held-out"}
    quality = precision_recall(real, made)
    found |= {"precision": quality.precision, "recall": quality.recall}
    for what, some in (("features", rows), ("spectrograms", pictures)):
        real, made = some["held-out"], some["generated"]
        spreads = torch.stack([_spread(made[kinds == k]) / _spread(real[kinds == k]) for k in kinds.unique()])
        found |= {f"spread of {what}, mean of kinds": spreads.mean().item()}
        found |= {f"spread of {what}, least of kinds": spreads.min().item()}
    effect = kinds < len(EFFECTS)
    for sort in ("held-out", "generated"):
        asked, heard = seconds[effect], seconds_heard(sounds[sort][effect])
        found[f"duration, correlation, {sort}"] = torch.stack([asked, heard]).corrcoef()[0, 1].item()
        found[f"duration, mean error in s, {sort}"] = (heard - asked).abs().mean().item()
    return found


def _spread(rows: Tensor) -> Tensor:
    """Mean distance between two rows (n, …): nearly zero when all sounds of a kind are one."""
    return torch.pdist(rows.flatten(1)).mean()
