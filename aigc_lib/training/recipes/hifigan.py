"""Training HiFi-GAN on speech: spectra first, then a generator against eight discriminators."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from aigc_lib.models.hifigan import (
    Discriminator,
    HiFiGANConfig,
    HiFiGANGenerator,
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
    mel_loss,
)
from aigc_lib.training.recipe import Budget, Context
from aigc_lib.training.recipes.speech_vocoder import SpeechVocoder


@dataclass(frozen=True, kw_only=True)
class HiFiGANTraining:
    """How the players are trained.

    Args:
        learning_rate: of both AdamW, β = (0.8, 0.99) as in the paper.
        features_weight, mel_weight: λ of the two losses beside the adversarial one (section 2.4).
        warm_up: steps that the generator learns from spectra alone, as Parallel WaveGAN begins (arXiv:1910.11480): a
            discriminator has nothing to teach one that cannot hum yet, and a step with discriminators takes five times
            as long. It does not depend on how long the run will be, so that a longer one begins like a shorter one.
    """

    learning_rate: float = 5e-4
    features_weight: float = 2.0
    mel_weight: float = 45.0
    warm_up: int = 8000


class SpeechHiFiGAN(SpeechVocoder):
    name = "hifigan-speech"
    config_class = HiFiGANConfig
    main_part = "generator"
    training: ClassVar[HiFiGANTraining] = HiFiGANTraining()
    budgets: ClassVar[dict[str, Budget]] = {
        "smoke": Budget(steps=4, batch_size=2, log_every=1, n_previews=1),
        "laptop": Budget(steps=20, batch_size=4, log_every=2, checkpoint_every=200, n_previews=8),
        "gpu": Budget(steps=200_000, batch_size=16, log_every=100, checkpoint_every=2_000, n_previews=8),
    }

    def __init__(self, config: HiFiGANConfig | None = None, training: HiFiGANTraining | None = None) -> None:
        super().__init__(config)
        self.how = training or self.training

    @staticmethod
    def build(config: HiFiGANConfig) -> dict[str, nn.Module]:
        """The generator: it is what is shipped. The discriminators are there in training alone."""
        return {"generator": HiFiGANGenerator(config)}

    def prepare(self, context: Context, total_steps: int) -> None:
        super().prepare(context, total_steps)
        self.parts["discriminator"] = Discriminator(self.config).to(context.device)
        rate, betas = self.how.learning_rate, (0.8, 0.99)
        optimisers = {name: AdamW(part.parameters(), lr=rate, betas=betas) for name, part in self.parts.items()}
        self.start(optimisers)
        self.generate, self.judge = (context.compiled(self.parts[name]) for name in ("generator", "discriminator"))

    def step(self, real: Tensor, mel: Tensor) -> dict[str, Tensor]:
        with self.context.accelerator.autocast():
            fake = self.generate(mel)
        adversarial = self._steps_done() >= self.how.warm_up
        losses = self.discriminator_step(real, fake.detach()) if adversarial else {}
        return losses | self.generator_step(real, fake, adversarial=adversarial)

    def discriminator_step(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Teach the discriminators to tell reals from fakes, which arrive as mere sounds."""
        with self.context.accelerator.autocast():
            (real_scores, _), (fake_scores, _) = self.judge(real), self.judge(fake)
            loss = discriminator_loss(real_scores, fake_scores)
        self.context.update(loss, self.optimisers["discriminator"])
        self.schedulers["discriminator"].step()
        return {"discriminator": loss.detach()}

    def generator_step(self, real: Tensor, fake: Tensor, *, adversarial: bool) -> dict[str, Tensor]:
        """Teach the generator; gradients flow through the discriminators, whose optimiser does not move."""
        how, spectra = self.how, mel_loss(real, fake)
        loss, losses = how.mel_weight * spectra, {"mel": spectra.detach()}
        if adversarial:
            self.parts["discriminator"].requires_grad_(False)
            with self.context.accelerator.autocast():
                fake_scores, fake_features = self.judge(fake)
                with torch.no_grad():
                    _, real_features = self.judge(real)
                fooled = generator_loss(fake_scores)
                matching = feature_matching_loss(real_features, fake_features)
            loss = loss + fooled + how.features_weight * matching
            losses |= {"generator": fooled.detach(), "features": matching.detach()}
        self.context.update(loss, self.optimisers["generator"])
        self.schedulers["generator"].step()
        self.ema.update_parameters(self.parts["generator"])
        self.parts["discriminator"].requires_grad_(True)
        return losses

    def inference_parts(self) -> dict[str, nn.Module]:
        return {"generator": self.ema.module}

    def _steps_done(self) -> int:
        # Adam counts its own steps, and the count is in its state: a resumed run goes on where it was.
        states = self.optimisers["generator"].state.values()
        return int(next(iter(states))["step"]) if states else 0

    @staticmethod
    def speak(network: HiFiGANGenerator, mel: Tensor, *, generator: torch.Generator) -> Tensor:
        return network.generate(mel)
