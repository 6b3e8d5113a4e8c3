"""Training VAEs on small pictures: the negative ELBO in nats per image, one optimiser."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import OneCycleLR

from aigc_lib import datasets
from aigc_lib.metrics import images as image_metrics
from aigc_lib.metrics.features import features
from aigc_lib.models.classifier import augment
from aigc_lib.models.vae import VAE, VAEConfig, iwae_bound
from aigc_lib.training.previews import save_image_grid, to_uint8
from aigc_lib.training.recipe import Budget, Context, Recipe
from aigc_lib.training.recipes.gan import shift

N_IMPORTANCE = 500, 100  # samples of the IWAE bound, and images: 50,000 decoded images take some seconds
ACTIVE = 0.01  # a latent is active if its posterior mean varies more than this (Burda et al. 2016, section 5.2)


@dataclass(frozen=True, kw_only=True)
class VAETraining:
    """How the two networks are trained.

    Args:
        learning_rate: the peak of one cycle of Adam.
        beta: weight of the KL term; 1 is the bound of the likelihood, less buys detail, more buys simple codes (β-VAE).
    """

    learning_rate: float = 2e-3
    beta: float = 1.0


class VAERecipe(Recipe):
    """Each step sees the images anew: varied, and drawn as what the likelihood is of (binary, or dequantised)."""

    config_class = VAEConfig
    main_part = "vae"
    feature_network: ClassVar[str]
    ships_previews = False
    data_options: ClassVar[dict[str, int]] = {}
    training: ClassVar[VAETraining] = VAETraining()

    def __init__(self, config: VAEConfig | None = None, training: VAETraining | None = None) -> None:
        super().__init__(config)
        self.how = training or self.training

    @staticmethod
    def build(config: VAEConfig) -> dict[str, nn.Module]:
        return {"vae": VAE(config)}

    def prepare(self, context: Context, total_steps: int) -> None:
        self.context = context
        self.data = datasets.load(self.dataset, **self.data_options)
        self.parts = {name: part.to(context.device) for name, part in self.build(self.config).items()}
        weights = dict(self.parts["vae"].named_parameters())
        groups = [[weights.pop("log_variance")]] if "log_variance" in weights else []
        # log s² has to cross several units while weights move by hundredths: ten times the speed.
        speeds = [self.how.learning_rate, *[10 * self.how.learning_rate for _ in groups]]
        optimiser = Adam([{"params": list(group)} for group in (weights.values(), *groups)])
        self.optimisers = {"vae": optimiser}
        self.schedulers = {"vae": OneCycleLR(optimiser, speeds, total_steps=max(total_steps, 2))}
        self.bound = context.compiled(self.parts["vae"])

    @property
    def n_examples(self) -> int:
        return len(self.data)

    def batch(self, indices: Tensor) -> tuple[Tensor, ...]:
        images = self.data.images[indices]
        return (images, self.data.labels[indices]) if self.config.n_classes else (images,)

    def step(self, images: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        context, how = self.context, self.how
        x = self.varied(images)
        uniform = torch.rand(context.batch_size, *images.shape[1:], generator=context.generator)
        x = self.parts["vae"].observe(x, context.share(uniform).to(context.device))
        with context.accelerator.autocast():
            reconstruction, kl = (term.mean() for term in self.bound(x, context.noise(self.config.latent_dim), labels))
        context.update(how.beta * kl - reconstruction, self.optimisers["vae"])
        self.schedulers["vae"].step()
        return {"distortion": -reconstruction.detach(), "rate": kl.detach()}

    @abstractmethod
    def varied(self, images: Tensor) -> Tensor:
        """The images as this step sees them: a few thousand, always the same, are soon known by heart."""

    @torch.no_grad()
    def preview(self) -> Tensor | None:
        """36 mean images from codes that never change, uint8."""
        return to_uint8(_draw(self.parts["vae"], 36, torch.Generator().manual_seed(0)))

    def save_preview(self, preview: Tensor, stem: Path) -> None:
        save_image_grid(preview, stem.with_suffix(".png"))

    @classmethod
    def sample(cls, parts: dict[str, nn.Module], out: Path, *, n: int, generator: torch.Generator) -> Path:
        save_image_grid(to_uint8(_draw(parts["vae"], n, generator)), out)
        return out

    @classmethod
    @torch.no_grad()
    def evaluate(cls, parts: dict[str, nn.Module], *, n: int, generator: torch.Generator) -> dict[str, float]:
        """On at most `n` held-out images: the bounds, in nats per image, and what the codes and the pictures are worth.

        The ELBO takes one z an image; the IWAE bound 500, on the first 100 images. Reconstructions are decoded from the
        posterior mean and compared with the images themselves, prior samples as in `GANRecipe.evaluate`.
        """
        model = parts["vae"]
        place = next(model.parameters()).device
        test = datasets.load(cls.dataset, "test", **cls.data_options)
        images = test.images[:n]
        labels = test.labels[:n].to(place) if model.config.n_classes else None
        x = model.observe(images, torch.rand(images.shape, generator=generator)).to(place)
        terms = model.elbo(x, generator=generator, labels=labels)
        n_samples, few = N_IMPORTANCE
        some = labels[:few] if labels is not None else None
        tighter = iwae_bound(model, x[:few], n_samples, generator=generator, labels=some).mean().item()
        means, _ = model.encode(x, labels)
        error = (model.images(model.decode(means, labels)).cpu() - images).square().mean().item()
        real, made = (features(cls.feature_network, each) for each in (images, _draw(model, n, generator).cpu()))
        bound = terms.bound.mean().item()
        measured = {
            "ELBO": bound,
            "rate": terms.kl.mean().item(),
            f"IWAE-{n_samples} of {min(few, len(x))} images": tighter,
            "active units": float((means.var(dim=0) > ACTIVE).sum()),
            "PSNR of reconstructions": 10 * math.log10(4 / error),
            f"Fréchet distance on {cls.feature_network} features": image_metrics.frechet_distance_of(real, made),
        }
        if model.config.likelihood == "gaussian":  # the density of dequantised pixels bounds their log-probability
            measured["bits per dimension"] = -bound / images[0].numel() / math.log(2) + math.log2(255 / 2)
        return measured


def _draw(model: VAE, n: int, generator: torch.Generator) -> Tensor:
    """`n` prior samples; the labels of a conditional model take turns."""
    n_classes, place = model.config.n_classes, next(model.parameters()).device
    labels = torch.arange(n, device=place) % n_classes if n_classes else None
    return model.sample(n, generator=generator, labels=labels)


class DigitsVAE(VAERecipe):
    name = "vae-digits"
    dataset = "digits"
    feature_network = "digit-classifier"
    budgets: ClassVar[dict[str, Budget]] = {
        "smoke": Budget(steps=30, batch_size=32, log_every=5),
        "laptop": Budget(steps=200, batch_size=64, log_every=10),
        "gpu": Budget(steps=40_000, batch_size=256, log_every=100, checkpoint_every=2_000),
    }

    def varied(self, images: Tensor) -> Tensor:
        """Each shifted by at most one pixel."""
        offsets = torch.randint(-1, 2, (self.context.batch_size, 2), generator=self.context.generator)
        return shift(images, self.context.share(offsets), 1)


class EmojiVAE(VAERecipe):
    name = "vae-emoji"
    dataset = "emoji"
    feature_network = "efficientnet-lite0"
    data_options: ClassVar[dict[str, int]] = {"resolution": 32}
    budgets: ClassVar[dict[str, Budget]] = {
        "smoke": Budget(steps=20, batch_size=32, log_every=5),
        "laptop": Budget(steps=150, batch_size=64, log_every=10),
        "gpu": Budget(steps=40_000, batch_size=256, log_every=100, checkpoint_every=2_000),
    }

    @classmethod
    def default_config(cls) -> VAEConfig:
        return VAEConfig(resolution=32, n_channels=3, latent_dim=64, hidden_dim=256, likelihood="gaussian")

    def varied(self, images: Tensor) -> Tensor:
        """Half of them mirrored, all turned, moved and scaled: 1,566 pictures are few. Their ground is white, 1."""
        n, generator = self.context.batch_size, self.context.generator
        mirrored = self.context.share(torch.rand(n, 1, 1, 1, generator=generator) < 0.5).to(images.device)
        uniform = self.context.share(torch.rand(n, 4, generator=generator))
        images = torch.where(mirrored, images.flip(3), images)
        return -augment(-images, uniform, rotation=20.0, shift=3.0, scale=0.2)
