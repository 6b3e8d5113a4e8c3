"""Training the digit classifier whose features the image metrics use."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from aigc_lib import datasets
from aigc_lib.models.classifier import DigitClassifier, DigitClassifierConfig, augment, classification_loss, predict
from aigc_lib.training.recipe import Budget, Context, Recipe


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
        self.data = datasets.load(self.dataset)
        self.parts = {name: part.to(context.device) for name, part in self.build(self.config).items()}
        self.network = self.parts["classifier"]
        optimiser = AdamW(self.network.parameters(), lr=3e-3, weight_decay=0.05)
        self.optimisers = {"classifier": optimiser}
        self.schedulers = {"classifier": OneCycleLR(optimiser, 3e-3, total_steps=total_steps, pct_start=0.15)}

    @property
    def n_examples(self) -> int:
        return len(self.data)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.data.images[indices], self.data.labels[indices]

    def step(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        self.network.train()
        uniform = torch.rand(self.context.batch_size, 4, generator=self.context.generator)
        images = augment(images, self.context.share(uniform))
        with self.context.accelerator.autocast():
            loss = classification_loss(self.network, images, labels)
        self.context.update(loss, self.optimisers["classifier"])
        self.schedulers["classifier"].step()
        return {"cross-entropy": loss.detach()}

    @classmethod
    def evaluate(cls, parts: dict[str, nn.Module], *, n: int, generator: torch.Generator) -> dict[str, float]:
        """Accuracy on the first `n` test digits."""
        test = datasets.load(cls.dataset, "test")
        network = parts["classifier"]
        images = test.images[:n].to(next(network.parameters()).device)
        right = predict(network, images).cpu() == test.labels[:n]
        return {"accuracy": right.float().mean().item()}
