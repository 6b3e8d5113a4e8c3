"""A small digit classifier: the feature network behind the image metrics.

It is no generative model. Fréchet distance, precision and recall compare images in the feature space of some trained
network; the usual one (Inception v3) is trained on photographs and has to be downloaded. For digits this network is
better suited and trains in a minute: after ResNet's rule (He et al. 2016, arXiv:1512.03385) strided convolutions
without bias, each followed by batch normalisation, widen as the resolution falls.

Axis letters: B batch, C channels, H W image, K classes, D features.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class DigitClassifierConfig:
    """Sizes of a `DigitClassifier`; the defaults fit 28×28 grey digits."""

    n_channels: int = 1
    resolution: int = 28  # height and width in pixels, at least 8
    width: int = 32  # channels of the first convolution; the later ones have twice as many
    n_features: int = 128  # D, size of the penultimate layer
    n_classes: int = 10
    dropout: float = 0.3  # before each of the two linear layers

    def __post_init__(self):
        for name in ("n_channels", "width", "n_features"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.resolution < 8:
            raise ValueError(f"resolution must be at least 8 pixels (three halvings), got {self.resolution}")
        if self.n_classes < 2:
            raise ValueError(f"n_classes must be at least 2, got {self.n_classes}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")


def _convolution(n_in: int, n_out: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, kernel, stride, padding=kernel // 2, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()
    )


class DigitClassifier(nn.Module):
    """Images (B, C, H, W) in [-1, 1] to class logits (B, K); `features` gives the penultimate layer (B, D)."""

    def __init__(self, config: DigitClassifierConfig | None = None):
        super().__init__()
        self.config = config = config or DigitClassifierConfig()
        width, side = config.width, math.ceil(config.resolution / 8)
        self.convolutions = nn.Sequential(
            _convolution(config.n_channels, width, kernel=5, stride=2),  # (B, width, H/2, W/2)
            _convolution(width, 2 * width, kernel=3, stride=2),  # (B, 2 width, H/4, W/4)
            _convolution(2 * width, 2 * width, kernel=3, stride=1),
            _convolution(2 * width, 2 * width, kernel=3, stride=2),  # (B, 2 width, H/8, W/8), rounded up
        )
        self.penultimate = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(config.dropout),
            nn.Linear(2 * width * side * side, config.n_features, bias=False),
            nn.BatchNorm1d(config.n_features),
            nn.ReLU(),
        )
        self.dropout = nn.Dropout(config.dropout)
        self.classify = nn.Linear(config.n_features, config.n_classes)

    def features(self, images: Tensor) -> Tensor:
        """Penultimate activations (B, D), each at least 0.

        Raises:
            ValueError: `images` are not (B, n_channels, resolution, resolution).
        """
        expected = (self.config.n_channels, self.config.resolution, self.config.resolution)
        if images.dim() != 4 or images.shape[1:] != expected:
            raise ValueError(
                f"expected images of shape (B, {', '.join(map(str, expected))}), got {tuple(images.shape)}"
            )
        return self.penultimate(self.convolutions(images))

    def forward(self, images: Tensor) -> Tensor:
        """Class logits (B, K); raises as `features` does."""
        return self.classify(self.dropout(self.features(images)))


def classification_loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy in nats, a scalar. `images` (B, C, H, W), `labels` (B,) int64."""
    return F.cross_entropy(model(images), labels)


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, *, batch_size: int = 500) -> Tensor:
    """The most probable class of each image, (N,) int64. The model's mode (train or eval) is left as it was."""
    was_training = model.training
    model.eval()
    labels = torch.cat([model(batch).argmax(1) for batch in images.split(batch_size)])
    model.train(was_training)
    return labels


def augment(
    images: Tensor, uniform: Tensor, *, rotation: float = 15.0, shift: float = 2.0, scale: float = 0.1
) -> Tensor:
    """Turn, move and scale each image a little at random; what leaves the frame is lost, what enters it is -1.

    Args:
        images: (B, C, H, W) in [-1, 1], on a background of -1.
        uniform: (B, 4) numbers from U(0, 1), on any device: angle, size, and the moves right and down of each image.
        rotation: largest angle in degrees, either way.
        shift: largest displacement in pixels along each axis.
        scale: largest relative change of size.

    Returns:
        (B, C, H, W) in [-1, 1]. With rotation, shift and scale 0 these are the images themselves (to 1e-5).
    """
    if images.dim() != 4 or uniform.shape != (len(images), 4):
        raise ValueError(
            f"expected images (B, C, H, W) and uniform (B, 4), got {tuple(images.shape)}, {tuple(uniform.shape)}"
        )
    size, (height, width) = len(images), images.shape[2:]
    uniform = 2 * uniform - 1
    angle, stretch = math.radians(rotation) * uniform[:, 0], 1 + scale * uniform[:, 1]
    cos, sin = angle.cos() / stretch, angle.sin() / stretch
    # affine_grid wants the way back, from output to input, in units where the image spans [-1, 1] along each axis.
    move_x, move_y = 2 * shift / width * uniform[:, 2], 2 * shift / height * uniform[:, 3]
    rows = torch.stack([cos, -sin * height / width, move_x, sin * width / height, cos, move_y], dim=1)
    grid = F.affine_grid(rows.view(size, 2, 3).to(images), list(images.shape), align_corners=False)  # (B, H, W, 2)
    return F.grid_sample(images + 1, grid, align_corners=False) - 1  # +1: sampling pads with 0, the background is -1
