"""Training StyleGAN on few pictures: non-saturating loss, lazy R1 and path length, style mixing, augmentation."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.swa_utils import AveragedModel

from aigc_lib import datasets
from aigc_lib.datasets.base import Images
from aigc_lib.datasets.rendered import STYLES
from aigc_lib.metrics.images import perceptual_path_length
from aigc_lib.models.gan import discriminator_loss, generator_loss, r1_penalty
from aigc_lib.models.stylegan import (
    StyleDiscriminator,
    StyleGANConfig,
    StyleGenerator,
    mix_styles,
    path_length_penalty,
)
from aigc_lib.training.augmentation import AdaptiveProbability, Distortion, random_distortion
from aigc_lib.training.averaging import averaging
from aigc_lib.training.previews import to_uint8
from aigc_lib.training.recipe import Budget, Context
from aigc_lib.training.recipes.gan import GANRecipe


@dataclass(frozen=True, kw_only=True)
class StyleGANTraining:
    """How the two players are trained.

    Args:
        learning_rate: of both Adam optimisers, β = (0, 0.99).
        decay: share of the steps, at the end, in which it falls to zero in a straight line.
        penalty_weight: γ of R1, (γ/2)·E‖∇a‖² on reals as the discriminator sees them.
        path_weight: of the path length penalty; the paper's rule gives 0.25 for 32 pixels (arXiv:1912.04958).
        penalty_every, path_every: they are taken every so many steps, as many times heavier (arXiv:1912.04958,
            section 3.1).
        mixing: probability that an image takes its fine layers' style from another draw; 0.9 in the paper. Short
            runs on emoji want little of both: with 0.5 and a path weight of 0.25 the Fréchet distance (144 samples,
            one run each) was 289 after 377 steps, without either 270.
        ramp: images after which the probability of augmentation can have gone from 0 to 1.
        ema_decay: of the averaged generator, a step.
    """

    learning_rate: float = 2.5e-3
    decay: float = 0.0
    penalty_weight: float = 0.1
    penalty_every: int = 16
    path_weight: float = 0.01
    path_every: int = 16
    mixing: float = 0.1
    ramp: int = 100_000
    ema_decay: float = 0.999


class StyleGANRecipe(GANRecipe):
    """As the GAN of chapter 3, judged by the same metrics; other networks, and another step."""

    config_class = StyleGANConfig
    training: ClassVar[StyleGANTraining] = StyleGANTraining()

    @staticmethod
    def build(config: StyleGANConfig) -> dict[str, nn.Module]:
        """The generator: it is what is shipped. The discriminator is there in training alone."""
        return {"generator": StyleGenerator(config)}

    def prepare(self, context: Context, total_steps: int) -> None:
        self.context, self.total_steps = context, total_steps
        pictures = self.pictures("train")
        self.images, self.labels = pictures.images, pictures.labels
        parts = self.build(self.config) | {"discriminator": StyleDiscriminator(self.config)}
        # Convolutions of few channels are a fifth faster with the channels last.
        parts = {name: part.to(context.device, memory_format=torch.channels_last) for name, part in parts.items()}
        self.optimisers = {
            name: Adam(part.parameters(), lr=self.how.learning_rate, betas=(0.0, 0.99)) for name, part in parts.items()
        }
        self.augmentation = AdaptiveProbability(ramp=self.how.ramp).to(context.device)
        self.parts = {**parts, "augmentation": self.augmentation}
        self.ema = AveragedModel(parts["generator"], multi_avg_fn=averaging(self.how.ema_decay))
        self.generate = context.compiled(parts["generator"].synthesis)
        self.judge = context.compiled(parts["discriminator"])

    def batch(self, indices: Tensor) -> tuple[Tensor, ...]:
        images = self.images[indices]
        return (images, self.labels[indices]) if self.config.n_classes else (images,)

    def step(self, real: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Both players; where there are classes, fakes are asked to be of those that the reals are of."""
        self._set_learning_rate()
        with self.context.accelerator.autocast():
            fake = self.generate(self.styles(labels), self.noise_maps()).float()
        return self.discriminator_step(real, fake.detach(), labels) | self.generator_step(fake, labels)

    def discriminator_step(self, real: Tensor, fake: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Teach D to tell reals from fakes, which arrive as mere pictures."""
        context, how = self.context, self.how
        real, fake = self._distorted(real), self._distorted(fake)
        penalty = torch.zeros((), device=real.device)
        if self._is_due("discriminator", how.penalty_every):
            # Second derivatives: in float32, and not through torch.compile, which has none.
            real.requires_grad_()
            real_logits, fake_logits = (self.parts["discriminator"](each, labels) for each in (real, fake))
            penalty = r1_penalty(real_logits, real)
        else:
            with context.accelerator.autocast():
                real_logits, fake_logits = (self.judge(each, labels).float() for each in (real, fake))
        loss = discriminator_loss(real_logits, fake_logits, "non-saturating")
        context.update(loss + penalty * how.penalty_every * how.penalty_weight / 2, self.optimisers["discriminator"])
        signs = context.accelerator.reduce(real_logits.detach().sign().mean(), reduction="mean")
        self.augmentation.update(signs, context.batch_size)
        return {"discriminator": loss.detach(), "augmented": self.augmentation.probability.clone()}

    def generator_step(self, fake: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Teach G that its fakes be taken for real. Gradients flow through D; its optimiser does not move."""
        context, how = self.context, self.how
        generator, discriminator = self.parts["generator"], self.parts["discriminator"]
        discriminator.requires_grad_(False)
        with context.accelerator.autocast():
            fake_logits = self.judge(self._distorted(fake), labels).float()
        loss, penalty = generator_loss(fake_logits, "non-saturating"), torch.zeros((), device=fake.device)
        if self._is_due("generator", how.path_every):
            w = generator.mapping(context.noise(self.config.latent_dim), labels)
            images = generator.synthesis(w[:, None].expand(-1, self.config.n_styles, -1), self.noise_maps())
            path = path_length_penalty(images, w, generator.mean_path_length, generator=context.generator)
            generator.mean_path_length.copy_(context.accelerator.reduce(path.mean_length, reduction="mean"))
            penalty = path.penalty
        context.update(loss + penalty * how.path_every * how.path_weight, self.optimisers["generator"])
        discriminator.requires_grad_(True)
        self.ema.update_parameters(generator)
        return {"generator": loss.detach()}

    def _steps_of(self, player: str) -> int:
        # Adam counts its own steps, and the count is in its state: a resumed run keeps the rhythm.
        states = self.optimisers[player].state.values()
        return int(next(iter(states))["step"]) if states else 0

    def _is_due(self, player: str, every: int) -> bool:
        return self._steps_of(player) % every == 0

    def _set_learning_rate(self) -> None:
        left = max(0.0, 1 - self._steps_of("discriminator") / max(self.total_steps, 1))
        share = min(1.0, left / self.how.decay) if self.how.decay else 1.0
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = share * self.how.learning_rate

    def styles(self, labels: Tensor | None = None) -> Tensor:
        """Styles (B, L, Z) of a batch of noise, some of them mixed."""
        context, n_styles = self.context, self.config.n_styles
        first, second = (
            self.parts["generator"].styles(context.noise(self.config.latent_dim), labels) for _ in range(2)
        )
        crossover = torch.randint(1, n_styles, (context.batch_size,), generator=context.generator)
        mixed = torch.rand(context.batch_size, generator=context.generator) < self.how.mixing
        crossover = torch.where(mixed, crossover, n_styles)
        return mix_styles(first, second, context.share(crossover).to(context.device))

    def noise_maps(self) -> list[Tensor]:
        """Noise for each layer of each image, (B, 1, H, W)."""
        return [self.context.noise(1, size, size) for size in self.parts["generator"].synthesis.noise_sizes]

    def _distorted(self, images: Tensor) -> Tensor:
        context, c = self.context, self.config
        probability = float(self.augmentation.probability)
        if probability == 0:
            return images
        drawn = random_distortion(
            context.batch_size, c.n_channels, c.resolution, probability, generator=context.generator
        )
        return Distortion(*map(context.share, drawn)).apply(images)

    @torch.no_grad()
    def preview(self) -> Tensor:
        """16 images from noise that never changes, uint8."""
        return to_uint8(self.ema.module.sample(16, generator=torch.Generator().manual_seed(0)))

    @classmethod
    def evaluate(cls, parts: dict[str, nn.Module], *, n: int, generator: torch.Generator) -> dict[str, float]:
        """As `GANRecipe.evaluate`, and the mean perceptual path length in W of n / 4 paths."""
        model = parts["generator"]
        quality = super().evaluate(parts, n=n, generator=generator)
        c, n, here = model.config, max(n // 4, 1), model.synthesis.constant.device
        z = torch.randn(2, n, c.latent_dim, generator=generator).to(here)
        labels = torch.randint(c.n_classes, (n,), generator=generator).to(here) if c.n_classes else None
        first, second = (model.styles(each, labels) for each in z)
        lengths = perceptual_path_length(
            model.synthesis, first, second, network=cls.feature_network, generator=generator
        )
        return quality | {"perceptual path length in W": lengths.mean().item()}

    def inference_parts(self) -> dict[str, nn.Module]:
        generator = self.ema.module
        generator.mapping.measure_mean(generator=torch.Generator().manual_seed(0))
        return {"generator": generator}


class EmojiStyleGAN(StyleGANRecipe):
    name = "stylegan-emoji"
    dataset = "emoji"
    feature_network = "efficientnet-lite0"
    training = StyleGANTraining(decay=0.25)
    budgets: ClassVar[dict[str, Budget]] = {
        "smoke": Budget(steps=6, batch_size=8, log_every=2, n_previews=2),
        "laptop": Budget(steps=40, batch_size=16, log_every=10, n_previews=8),
        "gpu": Budget(steps=100_000, batch_size=64, log_every=100, checkpoint_every=2_000, n_previews=8),
    }

    @classmethod
    def default_config(cls) -> StyleGANConfig:
        return StyleGANConfig(resolution=32, width=32, discriminator_width=32)

    @classmethod
    def data_options(cls) -> dict[str, Any]:
        return {"resolution": 32}


class AvatarsStyleGAN(EmojiStyleGAN):
    """Faces of large pixels: half the channels are enough."""

    name = "stylegan-avatars"
    dataset = "avatars"
    training = StyleGANTraining()

    @classmethod
    def default_config(cls) -> StyleGANConfig:
        return StyleGANConfig(resolution=32, width=16, discriminator_width=16)


class ChosenAvatarsStyleGAN(StyleGANRecipe):
    """Which kind of drawing it is to be can be asked for: class i is the i-th of `datasets.rendered.STYLES`."""

    name = "stylegan-avatars-64"
    dataset = "avatars"
    feature_network = "efficientnet-lite0"
    budgets: ClassVar[dict[str, Budget]] = {
        "smoke": Budget(steps=4, batch_size=4, log_every=2, n_previews=2),
        "laptop": Budget(steps=20, batch_size=16, log_every=5, n_previews=8),
        "gpu": Budget(steps=100_000, batch_size=64, log_every=100, checkpoint_every=2_000, n_previews=8),
    }

    @classmethod
    def default_config(cls) -> StyleGANConfig:
        return StyleGANConfig(resolution=64, width=32, discriminator_width=32, n_classes=len(STYLES))

    @classmethod
    def pictures(cls, split: str) -> Images:
        kinds = [datasets.load(cls.dataset, split, style=style, resolution=64) for style in STYLES]
        return Images(
            torch.cat([kind.images for kind in kinds]),
            labels=torch.arange(len(kinds)).repeat_interleave(torch.tensor([len(kind) for kind in kinds])),
            keys=[f"{style}-{i}" for style, kind in zip(STYLES, kinds, strict=True) for i in range(len(kind))],
            info=kinds[0].info,
            split=split,
        )
