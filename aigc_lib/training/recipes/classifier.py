"""Training the classifiers whose features the metrics use: of digits, and of sound effects."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from aigc_lib import datasets
from aigc_lib.datasets.base import Images
from aigc_lib.datasets.effects import KINDS
from aigc_lib.models.classifier import DigitClassifier, DigitClassifierConfig, augment, classification_loss, predict
from aigc_lib.training.recipe import Budget, Context, Recipe
from aigc_lib.training.recipes.effect_pictures import MEL, images_of


class DigitsClassifier(Recipe):
    """Cross-entropy on augmented digits, AdamW, one learning-rate cycle."""

    name = "classifier-digits"
    dataset = "digits"
    config_class = DigitClassifierConfig
    main_part = "classifier"
    budgets: ClassVar[dict[str, Budget]] = {
        "smoke": Budget(steps=20, batch_size=128, log_every=5),
        "laptop": Budget(steps=1080, batch_size=128),
        "gpu": Budget(steps=1080, batch_size=128),
    }

    @staticmethod
    def build(config: DigitClassifierConfig) -> dict[str, nn.Module]:
        return {"classifier": DigitClassifier(config)}

    def prepare(self, context: Context, total_steps: int) -> None:
        self.context = context
        self.data = self.pictures("train")
        self.parts = {name: part.to(context.device) for name, part in self.build(self.config).items()}
        self.network = self.parts["classifier"]
        optimiser = AdamW(self.network.parameters(), lr=3e-3, weight_decay=0.05)
        self.optimisers = {"classifier": optimiser}
        self.schedulers = {"classifier": OneCycleLR(optimiser, 3e-3, total_steps=total_steps, pct_start=0.15)}

    @classmethod
    def pictures(cls, split: str) -> Images:
        """What is to be told apart."""
        return datasets.load(cls.dataset, split)

    @property
    def n_examples(self) -> int:
        return len(self.data)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.data.images[indices], self.data.labels[indices]

    def step(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        self.network.train()
        images = self.varied(images)
        with self.context.accelerator.autocast():
            loss = classification_loss(self.network, images, labels)
        self.context.update(loss, self.optimisers["classifier"])
        self.schedulers["classifier"].step()
        return {"cross-entropy": loss.detach()}

    def varied(self, images: Tensor) -> Tensor:
        """As training sees them: turned, moved and scaled a little."""
        uniform = torch.rand(self.context.batch_size, 4, generator=self.context.generator)
        return augment(images, self.context.share(uniform))

    @classmethod
    def evaluate(cls, parts: dict[str, nn.Module], *, n: int, generator: torch.Generator) -> dict[str, float]:
        """Accuracy on the first `n` test pictures."""
        test = cls.pictures("test")
        network = parts["classifier"]
        images = test.images[:n].to(next(network.parameters()).device)
        right = predict(network, images).cpu() == test.labels[:n]
        return {"accuracy": right.float().mean().item()}


class EffectsClassifier(DigitsClassifier):
    """Which kind of sound a log-mel spectrogram shows, however loud it is."""

    name = "classifier-effects"
    dataset = "effects"
    budgets: ClassVar[dict[str, Budget]] = {
        "smoke": Budget(steps=10, batch_size=32, log_every=5),
        "laptop": Budget(steps=600, batch_size=64),
        "gpu": Budget(steps=600, batch_size=64),
    }

    @classmethod
    def default_config(cls) -> DigitClassifierConfig:
        return DigitClassifierConfig(resolution=MEL.n_mels, width=12, n_features=64, n_classes=len(KINDS))

    @classmethod
    def pictures(cls, split: str) -> Images:
        return images_of(split, lambda kinds, seconds: kinds)

    def varied(self, images: Tensor) -> Tensor:
        """Louder or softer by up to 9 dB, and a little noise; what is silent stays silent."""
        n, generator = self.context.batch_size, self.context.generator
        louder = self.context.share(torch.rand(n, 1, 1, 1, generator=generator) * 0.46 - 0.23).to(images)
        noise = 0.05 * self.context.noise(*images.shape[1:])
        return torch.where(images > -1, images + louder + noise, images).clamp(-1, 1)
