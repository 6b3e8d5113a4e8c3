"""Training a GAN on small pictures: Algorithm 1 of Goodfellow et al. 2014 with the repairs that came after it."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from aigc_lib import datasets
from aigc_lib.datasets.base import Images
from aigc_lib.metrics import images as image_metrics
from aigc_lib.metrics.features import feature_network, features
from aigc_lib.models.classifier import predict
from aigc_lib.models.gan import (
    Discriminator,
    GANConfig,
    Generator,
    discriminator_loss,
    generator_loss,
    r1_penalty,
)
from aigc_lib.training.previews import save_image_grid, to_uint8
from aigc_lib.training.recipe import Budget, Context, Recipe


@dataclass(frozen=True, kw_only=True)
class GANTraining:
    """How the two players are trained.

    Args:
        loss: one of `models.gan.LOSS_KINDS`.
        learning_rate: of both Adam optimisers, β = (0, 0.99).
        penalty_weight: γ of R1 and R2, (γ/2)·E‖∇a‖² on reals and on fakes.
        penalty_every: the penalties are taken every so many steps, as many times heavier (StyleGAN2, section 3.1).
        max_shift: reals and fakes are shifted at random by up to so many pixels before they are judged, so that the
            discriminator cannot learn a small training set by heart (DiffAugment, arXiv:2006.10738).
        ema_decay: of the averaged generator, a step.
    """

    loss: str = "relativistic"
    learning_rate: float = 4e-4
    penalty_weight: float = 0.1
    penalty_every: int = 4
    max_shift: int = 1
    ema_decay: float = 0.999


def shift(images: Tensor, offsets: Tensor, reach: int) -> Tensor:
    """Move each image by whole pixels; what enters the frame is a copy of the border. Differentiable in the images.

    Args:
        images: (B, C, H, W).
        offsets: (B, 2) int64 in [−reach, reach]: right and down.
        reach: the largest offset; 0 returns the images themselves.
    """
    if reach == 0:
        return images
    b, _, h, w = images.shape
    padded = F.pad(images, [reach] * 4, mode="replicate").permute(0, 2, 3, 1)  # (B, H + 2 reach, W + 2 reach, C)
    here = {"device": images.device}
    columns = (reach - offsets[:, :1]).to(images.device) + torch.arange(w, **here)  # (B, W)
    rows = (reach - offsets[:, 1:]).to(images.device) + torch.arange(h, **here)  # (B, H)
    example = torch.arange(b, **here)[:, None, None]
    return padded[example, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


class GANRecipe(Recipe):
    """Two optimisers, one step each; the generator that is kept is an average over its training."""

    config_class = GANConfig
    main_part = "generator"
    feature_network: ClassVar[str]
    n_shown: ClassVar[int] = 36  # images of a preview
    training: ClassVar[GANTraining] = GANTraining()

    def __init__(self, config: GANConfig | None = None, training: GANTraining | None = None) -> None:
        super().__init__(config)
        self.how = training or self.training

    @staticmethod
    def build(config: GANConfig) -> dict[str, nn.Module]:
        return {"generator": Generator(config), "discriminator": Discriminator(config)}

    def prepare(self, context: Context, total_steps: int) -> None:
        self.context = context
        self.images = self.pictures("train").images
        self.parts = {name: part.to(context.device) for name, part in self.build(self.config).items()}
        self.optimisers = {
            name: Adam(part.parameters(), lr=self.how.learning_rate, betas=(0.0, 0.99))
            for name, part in self.parts.items()
        }
        self.ema = AveragedModel(self.parts["generator"], multi_avg_fn=get_ema_multi_avg_fn(self.how.ema_decay))
        self.generate, self.judge = (context.compiled(self.parts[name]) for name in ("generator", "discriminator"))

    @classmethod
    def data_options(cls) -> dict[str, int]:
        """What the data set is loaded with."""
        return {}

    @classmethod
    def pictures(cls, split: str) -> Images:
        """What is learned from ("train"), or what samples are compared with."""
        return datasets.load(cls.dataset, split, **cls.data_options())

    @property
    def n_examples(self) -> int:
        return len(self.images)

    def batch(self, indices: Tensor) -> tuple[Tensor]:
        return (self.images[indices],)

    def step(self, real: Tensor) -> dict[str, Tensor]:
        return self.discriminator_step(real) | self.generator_step(real)

    def discriminator_step(self, real: Tensor) -> dict[str, Tensor]:
        """Teach D to tell reals from fakes. The generator takes no part: its fakes arrive as mere pictures."""
        context, how = self.context, self.how
        with torch.no_grad(), context.accelerator.autocast():
            fake = self.generate(context.noise(self.config.latent_dim))
        real, fake = self._shifted(real), self._shifted(fake.float())
        if self._penalty_is_due():
            # Second derivatives: in float32, and not through torch.compile, which has none.
            real, fake = real.requires_grad_(), fake.requires_grad_()
            real_logits, fake_logits = self.parts["discriminator"](real), self.parts["discriminator"](fake)
            penalty = r1_penalty(real_logits, real) + r1_penalty(fake_logits, fake)
        else:
            with context.accelerator.autocast():
                real_logits, fake_logits = self.judge(real).float(), self.judge(fake).float()
            penalty = torch.zeros((), device=real.device)
        loss = discriminator_loss(real_logits, fake_logits, how.loss)
        context.update(loss + penalty * how.penalty_every * how.penalty_weight / 2, self.optimisers["discriminator"])
        told_apart = (real_logits.detach() > fake_logits.detach()).float().mean()
        return {"discriminator": loss.detach(), "told apart": told_apart}

    def generator_step(self, real: Tensor) -> dict[str, Tensor]:
        """Teach G to be taken for real, with fresh noise. Gradients flow through D; its optimiser does not move."""
        context, how = self.context, self.how
        self.parts["discriminator"].requires_grad_(False)
        with context.accelerator.autocast():
            fake = self.generate(context.noise(self.config.latent_dim))
            fake_logits = self.judge(self._shifted(fake.float())).float()
            real_logits = None
            if how.loss == "relativistic":
                with torch.no_grad():
                    real_logits = self.judge(self._shifted(real)).float()
        loss = generator_loss(fake_logits, how.loss, real_logits)
        context.update(loss, self.optimisers["generator"])
        self.parts["discriminator"].requires_grad_(True)
        self.ema.update_parameters(self.parts["generator"])
        return {"generator": loss.detach()}

    def _penalty_is_due(self) -> bool:
        # Adam counts its own steps, and the count is in its state: a resumed run keeps the rhythm.
        states = self.optimisers["discriminator"].state.values()
        done = int(next(iter(states))["step"]) if states else 0
        return self.how.penalty_weight > 0 and done % self.how.penalty_every == 0

    def _shifted(self, images: Tensor) -> Tensor:
        reach, context = self.how.max_shift, self.context
        offsets = torch.randint(-reach, reach + 1, (context.batch_size, 2), generator=context.generator)
        return shift(images, context.share(offsets), reach)

    @torch.no_grad()
    def preview(self) -> Tensor:
        """Images from noise that never changes, uint8."""
        generator = torch.Generator().manual_seed(0)
        return to_uint8(self.ema.module.sample(self.n_shown, generator=generator))

    def save_preview(self, preview: Tensor, stem: Path) -> None:
        save_image_grid(preview, stem.with_suffix(".png"))

    @classmethod
    def sample(cls, parts: dict[str, nn.Module], out: Path, *, n: int, generator: torch.Generator) -> Path:
        save_image_grid(to_uint8(parts["generator"].sample(n, generator=generator)), out)
        return out

    @classmethod
    def evaluate(cls, parts: dict[str, nn.Module], *, n: int, generator: torch.Generator) -> dict[str, float]:
        """Fréchet distance, precision and recall (k = 3) and memorisation, `n` samples against held-out images."""
        train, held_out = (cls.pictures(split).images for split in ("train", "test"))
        fake = parts["generator"].sample(n, generator=generator).cpu()
        seen, real, made = (features(cls.feature_network, images) for images in (train, held_out[:n], fake))
        quality = image_metrics.precision_recall(real, made)
        in_pixels = image_metrics.memorisation_test(fake, train, held_out)
        in_features = image_metrics.memorisation_test(made, seen, features(cls.feature_network, held_out))
        return {
            f"Fréchet distance on {cls.feature_network} features": image_metrics.frechet_distance_of(real, made),
            "precision": quality.precision,
            "recall": quality.recall,
            "memorised (pixels)": in_pixels.n_memorised,
            "memorised (features)": in_features.n_memorised,
            "copying z (features)": in_features.z,
        }


class DigitsGAN(GANRecipe):
    name = "gan-digits"
    dataset = "digits"
    feature_network = "digit-classifier"
    budgets: ClassVar[dict[str, Budget]] = {
        "smoke": Budget(steps=30, batch_size=32, log_every=5),
        "laptop": Budget(steps=120, batch_size=64, log_every=10),
        "gpu": Budget(steps=40_000, batch_size=256, log_every=100, checkpoint_every=2_000),
    }

    @classmethod
    def default_config(cls) -> GANConfig:
        return GANConfig(resolution=28, n_channels=1, latent_dim=64, width=32)

    @classmethod
    def evaluate(cls, parts: dict[str, nn.Module], *, n: int, generator: torch.Generator) -> dict[str, float]:
        """As `GANRecipe.evaluate`, and how many of the ten digits appear."""
        fake = parts["generator"].sample(n, generator=torch.Generator().manual_seed(generator.initial_seed())).cpu()
        labels = predict(feature_network(cls.feature_network), fake)
        return {"modes": image_metrics.modes_covered(labels, 10).covered} | super().evaluate(
            parts, n=n, generator=generator
        )


class EmojiGAN(GANRecipe):
    name = "gan-emoji"
    n_shown = 16
    dataset = "emoji"
    feature_network = "efficientnet-lite0"
    # Fewer pictures than digits and three channels: the discriminator is held back more.
    training = GANTraining(penalty_weight=1.0, max_shift=2)
    budgets: ClassVar[dict[str, Budget]] = {
        "smoke": Budget(steps=20, batch_size=32, log_every=5),
        "laptop": Budget(steps=150, batch_size=64, log_every=10),
        "gpu": Budget(steps=40_000, batch_size=256, log_every=100, checkpoint_every=2_000),
    }

    @classmethod
    def default_config(cls) -> GANConfig:
        return GANConfig(resolution=32, n_channels=3, latent_dim=64, width=32)

    @classmethod
    def data_options(cls) -> dict[str, int]:
        return {"resolution": 32}
