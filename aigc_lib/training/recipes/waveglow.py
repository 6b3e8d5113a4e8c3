"""Training WaveGlow on speech: bits per sample of dequantised sound, one optimiser, nothing else."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Adam

from aigc_lib.models.waveglow import WaveGlow, WaveGlowConfig, bits_per_sample, dequantise
from aigc_lib.training.recipe import Budget, Context
from aigc_lib.training.recipes.speech_vocoder import JUDGED, SpeechVocoder

TEMPERATURE = 0.6  # of speaking, for a prior of variance 1, as in the authors' program (the paper's prior has ½)


class SpeechWaveGlow(SpeechVocoder):
    name = "waveglow-speech"
    config_class = WaveGlowConfig
    main_part = "waveglow"
    learning_rate: ClassVar[float] = 1e-3
    budgets: ClassVar[dict[str, Budget]] = {
        "smoke": Budget(steps=4, batch_size=2, log_every=1, n_previews=1),
        "laptop": Budget(steps=20, batch_size=4, log_every=2, checkpoint_every=200, n_previews=8),
        "gpu": Budget(steps=200_000, batch_size=24, log_every=100, checkpoint_every=2_000, n_previews=8),
    }

    @staticmethod
    def build(config: WaveGlowConfig) -> dict[str, nn.Module]:
        return {"waveglow": WaveGlow(config)}

    def prepare(self, context: Context, total_steps: int) -> None:
        super().prepare(context, total_steps)
        weights = self.parts["waveglow"].parameters()
        self.start({"waveglow": Adam(weights, lr=self.learning_rate, betas=(0.9, 0.99))})
        self.log_likelihood = context.compiled(self.parts["waveglow"].log_likelihood)

    def step(self, audio: Tensor, mel: Tensor) -> dict[str, Tensor]:
        context, n_samples = self.context, audio.shape[1]
        uniform = torch.rand(context.batch_size, n_samples, generator=context.generator)
        x = dequantise(audio, context.share(uniform).to(audio))
        with context.accelerator.autocast():
            bits = bits_per_sample(self.log_likelihood(x, mel).mean(), n_samples)
        context.update(bits * math.log(2), self.optimisers["waveglow"], max_norm=1.0)
        self.schedulers["waveglow"].step()
        self.ema.update_parameters(self.parts["waveglow"])
        return {"bits a sample": bits.detach()}

    @staticmethod
    def speak(network: WaveGlow, mel: Tensor, *, generator: torch.Generator) -> Tensor:
        return network.generate(mel, temperature=TEMPERATURE, generator=generator).clamp(-1, 1)

    @classmethod
    @torch.no_grad()
    def evaluate(cls, parts: dict[str, nn.Module], *, n: int, generator: torch.Generator) -> dict[str, float]:
        """Bits per sample of whole test sentences, dequantised once, and what `SpeechVocoder` measures."""
        nats, count = 0.0, 0
        for audio, mel, _ in cls.sentences("test")[: min(n, JUDGED)]:
            x = dequantise(audio, torch.rand(audio.shape, generator=generator))
            place = parts["waveglow"].upsample.weight.device
            nats += parts["waveglow"].log_likelihood(x.to(place), mel.to(place)).item()
            count += audio.numel()
        bits = bits_per_sample(torch.tensor(nats), count).item()
        return {"bits a sample": bits} | super().evaluate(parts, n=n, generator=generator)
