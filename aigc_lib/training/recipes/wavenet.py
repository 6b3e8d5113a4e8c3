"""Training WaveNets: what every one has in common, and the one that speaks, given the mel spectrogram."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.swa_utils import AveragedModel

from aigc_lib.models.wavenet import WaveNet, WaveNetConfig, mu_law_decode, mu_law_encode
from aigc_lib.training.averaging import averaging
from aigc_lib.training.recipe import Budget, Context, Recipe
from aigc_lib.training.recipes.speech_vocoder import JUDGED, MEL, SpeechVocoder


class WaveNetLearning(Recipe):
    """Minimises bits a sample, −log₂ p(x_t | x_1 … x_{t−1}, h) on average; guessing among 256 levels costs 8.

    The learning rate does not fall, so that a run can be continued for as long as there is time; the weights that are
    kept are an average over the last steps instead.
    """

    config_class = WaveNetConfig
    main_part = "model"
    condition: ClassVar[str]  # the argument of the model that h goes to: "mel" or "labels"
    learning_rate: ClassVar[float] = 2e-3

    @staticmethod
    def build(config: WaveNetConfig) -> dict[str, nn.Module]:
        return {"model": WaveNet(config)}

    def begin(self) -> None:
        """The optimiser and the average, once the parts are there."""
        model = self.parts["model"]
        self.optimisers = {"model": Adam(model.parameters(), lr=self.learning_rate)}
        self.ema = AveragedModel(model, multi_avg_fn=averaging(0.998))
        self.log_likelihood = self.context.compiled(model.log_likelihood)

    def step(self, audio: Tensor, condition: Tensor) -> dict[str, Tensor]:
        levels = mu_law_encode(audio, self.config.n_levels)
        with self.context.accelerator.autocast():
            nats = -self.log_likelihood(levels, **{self.condition: condition}).mean() / levels.shape[1]
        self.context.update(nats, self.optimisers["model"], max_norm=1.0)
        self.ema.update_parameters(self.parts["model"])
        return {"bits a sample": nats.detach() / math.log(2)}

    @classmethod
    @torch.no_grad()
    def bits(cls, model: WaveNet, sounds: list[tuple[Tensor, Tensor]]) -> float:
        """Bits a sample of sounds (1, T) with their conditions."""
        place, nats = model.embed.weight.device, 0.0
        for audio, condition in sounds:
            levels = mu_law_encode(audio.to(place), model.config.n_levels)
            nats -= model.log_likelihood(levels, **{cls.condition: condition.to(place)}).item()
        return nats / sum(audio.numel() for audio, _ in sounds) / math.log(2)


class SpeechWaveNet(WaveNetLearning, SpeechVocoder):
    """Stretches of half a second, each with its mel; judged as the vocoders that need no loop are."""

    name = "wavenet-speech"
    condition = "mel"
    budgets: ClassVar[dict[str, Budget]] = {
        "smoke": Budget(steps=4, batch_size=1, log_every=1, n_previews=1),
        "laptop": Budget(steps=10, batch_size=4, log_every=1, checkpoint_every=50, n_previews=6),
        "gpu": Budget(steps=60_000, batch_size=32, log_every=100, checkpoint_every=1_000, n_previews=8),
    }

    @classmethod
    def default_config(cls) -> WaveNetConfig:
        return WaveNetConfig(n_mels=MEL.n_mels, hop_length=MEL.hop_length)

    def prepare(self, context: Context, total_steps: int) -> None:
        super().prepare(context, total_steps)
        self.begin()

    @staticmethod
    def speak(network: WaveNet, mel: Tensor, *, generator: torch.Generator) -> Tensor:
        levels = network.generate(mel.shape[2] * MEL.hop_length, mel, generator=generator)
        return mu_law_decode(levels, network.config.n_levels)

    @classmethod
    def evaluate(cls, parts: dict[str, nn.Module], *, n: int, generator: torch.Generator) -> dict[str, float]:
        """Bits a sample of whole test sentences, and what `SpeechVocoder` measures."""
        sounds = [(audio, mel) for audio, mel, _ in cls.sentences("test")[: min(n, JUDGED)]]
        bits = cls.bits(parts["model"], sounds)
        return {"bits a sample": bits} | super().evaluate(parts, n=n, generator=generator)
