"""Layers of StyleGAN: equalised learning rate, and convolutions that a style modulates."""

from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EqualLinear(nn.Module):
    """y = (W/√fan_in) x + b with W ~ N(0, 1): equalised learning rate (arXiv:1710.10196, section 4.1).

    Adam moves every entry of W by about the learning rate, whatever the size of the layer; what the layer applies so
    moves in proportion to its own scale.

    Args:
        n_in, n_out: features.
        bias: where the bias starts.
        rate: multiplies the learning rate of this layer alone. What it computes at the start does not depend on it.
    """

    def __init__(self, n_in: int, n_out: int, *, bias: float = 0.0, rate: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in) / rate)
        self.bias = nn.Parameter(torch.full((n_out,), bias / rate))
        self.rate, self.scale = rate, rate / sqrt(n_in)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias * self.rate)


class EqualConv2d(nn.Module):
    """Convolution that keeps the size, weights as in `EqualLinear`."""

    def __init__(self, n_in: int, n_out: int, kernel: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(n_out)) if bias else None
        self.scale, self.padding = 1 / sqrt(n_in * kernel**2), kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.padding)


def activate(x: Tensor) -> Tensor:
    """√2 · leaky ReLU: the mean square of N(0, 1) inputs stays near one (1.04)."""
    return F.leaky_relu(x, 0.2) * sqrt(2)


def doubled(x: Tensor) -> Tensor:
    """(B, C, H, W) → (B, C, 2H, 2W), bilinear."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def modulated_conv2d(
    x: Tensor, weight: Tensor, style: Tensor, *, demodulate: bool = True, grouped: bool = False
) -> Tensor:
    """Convolve each image with weights of its own, w'ᵢⱼₖ = sᵢ·wᵢⱼₖ, divided by √(Σᵢₖ w'ᵢⱼₖ²).

    For independent inputs of variance one, the sum is the variance of output j; the division makes it one again
    (arXiv:1912.04958, equations 1 to 3).

    Args:
        x: (B, C_in, H, W).
        weight: (C_out, C_in, k, k) with odd k.
        style: (B, C_in), s.
        demodulate: divide.
        grouped: build every image's weights and convolve in B groups, as the paper puts it. Otherwise scale inputs by
            s and outputs by the root: the same by linearity, and one convolution serves the batch. On a CPU that is
            faster nearly everywhere (12-fold for 16 maps of 4×4 with 96 channels); groups win by up to a tenth for a
            single small map, and in training on maps of 64×64 (`tests/benchmarks/bench_stylegan.py`).

    Returns:
        (B, C_out, H, W).

    Raises:
        ValueError: shapes do not fit.
    """
    if x.ndim != 4 or weight.ndim != 4 or style.shape != x.shape[:2] or weight.shape[1] != x.shape[1]:
        raise ValueError(
            "expected x (B, C_in, H, W), weight (C_out, C_in, k, k) and style (B, C_in), "
            f"got {tuple(x.shape)}, {tuple(weight.shape)} and {tuple(style.shape)}"
        )
    padding = weight.shape[-1] // 2
    if grouped:
        weights = weight * style[:, None, :, None, None]  # (B, C_out, C_in, k, k)
        if demodulate:
            weights = weights * torch.rsqrt(weights.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
        # (1, B·C_in, H, W) under (B·C_out, C_in, k, k)
        y = F.conv2d(x.flatten(0, 1)[None], weights.flatten(0, 1), padding=padding, groups=len(x))
        return y.view(len(x), -1, *y.shape[2:])
    y = F.conv2d(x * style[:, :, None, None], weight, padding=padding)
    if demodulate:
        variance = style.square() @ weight.square().sum(dim=(2, 3)).T  # (B, C_out)
        y = y * torch.rsqrt(variance + 1e-8)[:, :, None, None]
    return y


class StyledConv(nn.Module):
    """A modulated convolution, doubling where the map grows, noise, bias, activation."""

    def __init__(self, n_in: int, n_out: int, latent_dim: int) -> None:
        super().__init__()
        self.affine = EqualLinear(latent_dim, n_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn(n_out, n_in, 3, 3))
        self.bias, self.noise_strength = nn.Parameter(torch.zeros(n_out)), nn.Parameter(torch.zeros(()))
        self.scale = 1 / sqrt(n_in * 9)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None, *, double: bool) -> Tensor:
        x = modulated_conv2d(x, self.weight * self.scale, self.affine(style))
        x = doubled(x) if double else x
        x = x if noise is None else x + self.noise_strength * noise
        return activate(x + self.bias[:, None, None])


class ToImage(nn.Module):
    """A modulated 1×1 convolution to colours, not demodulated: here a style may set the contrast."""

    def __init__(self, n_in: int, n_channels: int, latent_dim: int) -> None:
        super().__init__()
        self.affine = EqualLinear(latent_dim, n_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn(n_channels, n_in, 1, 1))
        self.bias = nn.Parameter(torch.zeros(n_channels))
        self.scale = 1 / sqrt(n_in)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        y = modulated_conv2d(x, self.weight * self.scale, self.affine(style), demodulate=False)
        return y + self.bias[:, None, None]


class ResidualBlock(nn.Module):
    """Halve the map: (1×1 path + two 3×3 convolutions) / √2, so that the variance stays."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.first, self.second = EqualConv2d(n_in, n_in, 3), EqualConv2d(n_in, n_out, 3)
        self.skip = EqualConv2d(n_in, n_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = activate(self.second(F.avg_pool2d(activate(self.first(x)), 2)))
        return (self.skip(F.avg_pool2d(x, 2)) + y) / sqrt(2)  # (B, n_out, H/2, W/2)
