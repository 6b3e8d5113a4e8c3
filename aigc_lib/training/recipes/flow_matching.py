"""Training flow matching on digits, emoji and spectrograms: one network, one regression, no adversary and no bound."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import soundfile
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel

from aigc_lib import datasets
from aigc_lib.datasets.base import Images
from aigc_lib.datasets.effects import EFFECTS, KINDS, SAMPLE_RATE, SHORTEST
from aigc_lib.metrics import images as image_metrics
from aigc_lib.metrics.features import feature_network, features
from aigc_lib.models.classifier import predict
from aigc_lib.models.flow_matching import FlowMatching, FlowMatchingConfig, matching_loss
from aigc_lib.training.averaging import averaging
from aigc_lib.training.previews import save_image_grid, to_uint8
from aigc_lib.training.recipe import Budget, Context, Recipe
from aigc_lib.training.recipes.effect_pictures import MEL, N_LABELS, fitted, images_of, label_of, louder, sounds_of
from aigc_lib.training.recipes.gan import shift
from aigc_lib.training.recipes.stylegan_effects import judged

N_STEPS = 8  # of the midpoint rule where samples are judged: 16 passes an image
N_LIKELIHOODS = 50, 64  # held-out images whose likelihood is measured, and steps of the midpoint rule
_JUDGED = 300  # sounds, as many as StyleGAN's are judged by
_STEP = 2 / 255  # between neighbouring levels of an 8-bit image in [-1, 1]


@dataclass(frozen=True, kw_only=True)
class FlowMatchingTraining:
    """How the velocity is trained.

    Args:
        learning_rate: the peak of one cycle of AdamW.
        max_norm: longer gradients are shortened to it.
        ema_decay: of the averaged network, a step.
    """

    learning_rate: float = 2e-3
    max_norm: float = 1.0
    ema_decay: float = 0.999


class FlowMatchingRecipe(Recipe):
    """Each step draws new noise, new times and new lines for the images of a batch; an average of the weights stays."""

    config_class = FlowMatchingConfig
    main_part = "flow"
    feature_network: ClassVar[str]
    ships_previews = False
    training: ClassVar[FlowMatchingTraining] = FlowMatchingTraining()

    def __init__(self, config: FlowMatchingConfig | None = None, training: FlowMatchingTraining | None = None) -> None:
        super().__init__(config)
        self.how = training or self.training

    @staticmethod
    def build(config: FlowMatchingConfig) -> dict[str, nn.Module]:
        return {"flow": FlowMatching(config)}

    def prepare(self, context: Context, total_steps: int) -> None:
        self.context = context
        self.data = self.pictures("train")
        # Convolutions of few channels are up to a fifth faster with the channels last.
        flow = self.build(self.config)["flow"].to(context.device, memory_format=torch.channels_last)
        self.parts = {"flow": flow}
        optimiser = AdamW(flow.parameters(), lr=self.how.learning_rate)
        self.optimisers = {"flow": optimiser}
        self.schedulers = {"flow": OneCycleLR(optimiser, self.how.learning_rate, total_steps=max(total_steps, 2))}
        self.ema = AveragedModel(flow, multi_avg_fn=averaging(self.how.ema_decay))
        self.velocity = context.compiled(flow)

    @classmethod
    def pictures(cls, split: str) -> Images:
        """What is learned from ("train"), or what samples are compared with."""
        return datasets.load(cls.dataset, split)

    @property
    def n_examples(self) -> int:
        return len(self.data)

    def batch(self, indices: Tensor) -> tuple[Tensor, ...]:
        images = self.data.images[indices]
        return (images, self.data.labels[indices]) if self.config.n_classes else (images,)

    def step(self, images: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        context, flow = self.context, self.parts["flow"]
        x = self.varied(images)
        noise = context.noise(*x.shape[1:])
        draws = torch.rand(context.batch_size, 2, generator=context.generator)
        time, forget = context.share(draws).to(context.device).unbind(1)
        condition = flow.forgotten(labels, forget)
        with context.accelerator.autocast():
            loss = matching_loss(lambda y, t: self.velocity(y, t, condition), x, noise, time).mean()
        context.update(loss, self.optimisers["flow"], max_norm=self.how.max_norm)
        self.schedulers["flow"].step()
        self.ema.update_parameters(flow)
        return {"matching": loss.detach()}

    def varied(self, images: Tensor) -> Tensor:
        """The images as this step sees them: moved by at most one pixel, between the levels that they are stored in."""
        context = self.context
        offsets = torch.randint(-1, 2, (context.batch_size, 2), generator=context.generator)
        return self.dequantised(shift(images, context.share(offsets), 1))

    def dequantised(self, images: Tensor) -> Tensor:
        """With uniform noise one level wide, so that there is a density (arXiv:1511.01844, section 3.1)."""
        uniform = torch.rand(self.context.batch_size, *images.shape[1:], generator=self.context.generator)
        return images + (self.context.share(uniform).to(images) - 0.5) * _STEP

    @classmethod
    def sample(cls, parts: dict[str, nn.Module], out: Path, *, n: int, generator: torch.Generator) -> Path:
        images, _ = draw(parts["flow"], n, generator=generator)
        save_image_grid(to_uint8(images), out)
        return out

    @classmethod
    def evaluate(cls, parts: dict[str, nn.Module], *, n: int, generator: torch.Generator) -> dict[str, float]:
        """As `GANRecipe.evaluate`; and bits per dimension of dequantised held-out images, by Hutchinson's estimate."""
        train, held_out = (cls.pictures(split) for split in ("train", "test"))
        fake, asked = draw(parts["flow"], n, generator=generator)
        seen, real, made = (features(cls.feature_network, i) for i in (train.images, held_out.images[:n], fake))
        quality = image_metrics.precision_recall(real, made)
        in_pixels = image_metrics.memorisation_test(fake, train.images, held_out.images)
        in_features = image_metrics.memorisation_test(made, seen, features(cls.feature_network, held_out.images))
        measured = {
            f"Fréchet distance on {cls.feature_network} features": image_metrics.frechet_distance_of(real, made),
            "precision": quality.precision,
            "recall": quality.recall,
            "memorised (pixels)": in_pixels.n_memorised,
            "memorised (features)": in_features.n_memorised,
            "copying z (features)": in_features.z,
        }
        if asked is not None:
            found = predict(feature_network(cls.feature_network), fake)
            measured["accuracy of the asked class"] = (found == asked).float().mean().item()
        few, n_steps = N_LIKELIHOODS
        bits = bits_per_dimension(parts["flow"], _first(held_out, min(few, n)), n_steps=n_steps, generator=generator)
        return measured | {f"bits per dimension of {len(bits)} images": bits.mean().item()}


def _first(pictures: Images, n: int) -> tuple[Tensor, Tensor | None]:
    return pictures.images[:n], pictures.labels[:n] if pictures.labels is not None else None


def draw(
    model: FlowMatching,
    n: int,
    *,
    n_steps: int = N_STEPS,
    solver: str = "midpoint",
    guidance: float = 1.0,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor | None]:
    """`n` samples on the CPU and the classes that were asked for, which take turns; None of a model without."""
    c = model.config
    classes = torch.arange(n) % c.n_classes if c.n_classes else None
    shape, made = (c.n_channels, c.resolution, c.resolution), []
    for at in range(0, n, 100):  # more at once fit the caches of a CPU less
        some = classes[at : at + 100] if classes is not None else None
        how = {"n_steps": n_steps, "solver": solver, "guidance": guidance, "generator": generator}
        made.append(model.sample((min(100, n - at), *shape), some, **how).cpu())
    return torch.cat(made), classes


def bits_per_dimension(
    model: FlowMatching, pictures: tuple[Tensor, Tensor | None], *, n_steps: int, generator: torch.Generator
) -> Tensor:
    """(B,) bits a channel of a pixel that the levels of 8-bit images (B, C, H, W) cost, at most: dequantised once."""
    images, labels = pictures
    place = model.stem.weight.device
    x = (images + (torch.rand(images.shape, generator=generator) - 0.5) * _STEP).to(place)
    condition = labels.to(place) if labels is not None else None
    nats = model.log_likelihood(x, condition, n_steps=n_steps, generator=generator).cpu()
    return -nats / images[0].numel() / math.log(2) + math.log2(1 / _STEP)


class DigitsFlow(FlowMatchingRecipe):
    name = "flow-matching-digits"
    dataset = "digits"
    feature_network = "digit-classifier"
    budgets: ClassVar[dict[str, Budget]] = {
        "smoke": Budget(steps=8, batch_size=16, log_every=2, n_previews=1),
        "laptop": Budget(steps=40, batch_size=64, log_every=4, n_previews=1),
        "gpu": Budget(steps=40_000, batch_size=256, log_every=100, checkpoint_every=2_000, n_previews=1),
    }

    @classmethod
    def default_config(cls) -> FlowMatchingConfig:
        return FlowMatchingConfig(resolution=28, width=16, max_width=60, n_classes=10)


class EmojiFlow(FlowMatchingRecipe):
    """Without classes: emoji have names, no kinds."""

    name = "flow-matching-emoji"
    dataset = "emoji"
    feature_network = "efficientnet-lite0"
    budgets: ClassVar[dict[str, Budget]] = {
        "smoke": Budget(steps=4, batch_size=16, log_every=2, n_previews=1),
        "laptop": Budget(steps=20, batch_size=64, log_every=4, n_previews=1),
        "gpu": Budget(steps=40_000, batch_size=256, log_every=100, checkpoint_every=2_000, n_previews=1),
    }

    @classmethod
    def default_config(cls) -> FlowMatchingConfig:
        return FlowMatchingConfig(resolution=32, n_channels=3, width=20, max_width=80)

    @classmethod
    def pictures(cls, split: str) -> Images:
        return datasets.load(cls.dataset, split, resolution=32)

    def varied(self, images: Tensor) -> Tensor:
        """As digits, and half of them mirrored: 1,566 pictures are few."""
        mirrored = torch.rand(self.context.batch_size, 1, 1, 1, generator=self.context.generator) < 0.5
        mirrored = self.context.share(mirrored).to(images.device)
        return super().varied(torch.where(mirrored, images.flip(3), images))


class EffectsFlow(FlowMatchingRecipe):
    """The pictures, labels and judges of `stylegan-effects`. No likelihood: silence, one value, has no density."""

    name = "flow-matching-effects"
    dataset = "effects"
    samples_suffix = ".wav"
    budgets: ClassVar[dict[str, Budget]] = {
        "smoke": Budget(steps=3, batch_size=4, log_every=1, n_previews=1),
        "laptop": Budget(steps=16, batch_size=32, log_every=4, n_previews=1),
        "gpu": Budget(steps=40_000, batch_size=128, log_every=100, checkpoint_every=2_000, n_previews=1),
    }

    @classmethod
    def default_config(cls) -> FlowMatchingConfig:
        return FlowMatchingConfig(resolution=MEL.n_mels, width=12, max_width=52, n_halvings=3, n_classes=N_LABELS)

    @classmethod
    def pictures(cls, split: str) -> Images:
        return images_of(split, label_of)

    def varied(self, images: Tensor) -> Tensor:
        """As they are: a spectrogram that is moved or mirrored is another sound."""
        return images

    @classmethod
    def sample(cls, parts: dict[str, nn.Module], out: Path, *, n: int, generator: torch.Generator) -> Path:
        """`n` sounds one after another, kind after kind, effects of 0.25 to 1 s."""
        if out.suffix.lower() not in (".wav", ".flac", ".ogg"):
            raise ValueError(f"sound goes into a .wav, .flac or .ogg file, got {out.name!r}")
        kinds = torch.arange(n) % len(KINDS)
        seconds = SHORTEST * 4 ** torch.rand(n, generator=generator)
        pictures = paint(parts["flow"], kinds, seconds, generator=generator)
        audio = louder(sounds_of(pictures, generator=generator))
        out.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(out, audio.flatten().numpy(), SAMPLE_RATE)
        return out

    @classmethod
    def evaluate(cls, parts: dict[str, nn.Module], *, n: int, generator: torch.Generator) -> dict[str, float]:
        """Held-out and generated sounds of the same kinds and durations, as `EffectsStyleGAN.evaluate` judges them."""
        held_out = datasets.load(cls.dataset, "test")
        n = min(n, len(held_out), _JUDGED)
        kinds, seconds, real = held_out.labels[:n], held_out.seconds[:n], held_out.audio(slice(n))
        pictures = paint(parts["flow"], kinds, seconds, generator=generator)
        made = louder(sounds_of(pictures, generator=generator))
        return judged({"held-out": real, "generated": made}, kinds, seconds)


def paint(
    model: FlowMatching,
    kinds: Tensor,
    seconds: Tensor,
    *,
    n_steps: int = N_STEPS,
    guidance: float = 1.0,
    generator: torch.Generator,
) -> Tensor:
    """Pictures (B, 1, 64, 64) of kinds (B,), effects lasting `seconds`, as `effect_pictures.paint` has them."""
    c, labels = model.config, label_of(kinds, seconds)
    shape, how = (c.n_channels, c.resolution, c.resolution), {"n_steps": n_steps, "guidance": guidance}
    painted = [model.sample((len(some), *shape), some, **how, generator=generator).cpu() for some in labels.split(50)]
    effect = (kinds < len(EFFECTS)).view(-1, 1, 1, 1)
    return torch.where(effect, fitted(torch.cat(painted), seconds), torch.cat(painted))
