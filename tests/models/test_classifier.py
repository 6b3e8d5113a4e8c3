"""The digit classifier: shapes, sizes, what augmentation does, and that it learns."""

import math

import pytest
import torch

from aigc_lib.models.classifier import DigitClassifier, DigitClassifierConfig, augment, classification_loss, predict


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stroke(row: int = 14, column: int = 14, size: int = 28) -> torch.Tensor:
    """One image with a 5×5 bright square around (row, column) on the background -1."""
    image = torch.full((1, 1, size, size), -1.0)
    image[..., row - 2 : row + 3, column - 2 : column + 3] = 1.0
    return image


def centre(images: torch.Tensor) -> torch.Tensor:
    """Centre of brightness (B, 2) of each image: row, column in pixels."""
    weight = (images + 1).sum(1)
    total = weight.sum((1, 2))
    rows, columns = torch.arange(weight.shape[1]).float(), torch.arange(weight.shape[2]).float()
    return torch.stack([weight.sum(2) @ rows / total, weight.sum(1) @ columns / total], dim=1)


@pytest.mark.parametrize(("resolution", "n_channels", "n_classes"), [(28, 1, 10), (32, 3, 7), (45, 2, 2)])
def test_logits_and_features_have_the_stated_shapes(resolution, n_channels, n_classes):
    model = DigitClassifier(
        DigitClassifierConfig(resolution=resolution, n_channels=n_channels, n_classes=n_classes, n_features=40)
    )
    images = torch.zeros(3, n_channels, resolution, resolution)
    assert model(images).shape == (3, n_classes)
    assert model.features(images).shape == (3, 40)


def test_default_has_fewer_than_300_000_parameters():
    assert sum(p.numel() for p in DigitClassifier().parameters()) < 300_000


def test_logits_are_a_linear_map_of_the_features():
    model = DigitClassifier().eval()
    images = torch.rand(4, 1, 28, 28, generator=generator()) * 2 - 1
    torch.testing.assert_close(model(images), model.classify(model.features(images)))


@pytest.mark.parametrize("shape", [(1, 28, 28), (2, 3, 28, 28), (2, 1, 32, 32)])
def test_images_of_the_wrong_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected images of shape \(B, 1, 28, 28\), got"):
        DigitClassifier()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("field", "value"), [("n_channels", 0), ("resolution", 7), ("n_classes", 1), ("dropout", 1.0), ("width", 0)]
)
def test_sizes_that_make_no_network_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        DigitClassifierConfig(**{field: value})


def test_predict_takes_the_largest_logit_in_evaluation_mode_and_restores_the_mode():
    model = DigitClassifier().train()
    images = torch.rand(7, 1, 28, 28, generator=generator()) * 2 - 1
    labels = predict(model, images, batch_size=3)
    assert model.training
    torch.testing.assert_close(labels, model.eval()(images).argmax(1))


def test_untrained_loss_is_near_the_entropy_of_a_uniform_guess():
    torch.manual_seed(0)
    images = torch.rand(64, 1, 28, 28, generator=generator()) * 2 - 1
    loss = classification_loss(DigitClassifier().eval(), images, torch.arange(64) % 10)
    assert loss.item() == pytest.approx(math.log(10), abs=0.1)


def varied(images, random, **how):
    return augment(images, torch.rand(len(images), 4, generator=random), **how)


def test_augment_by_nothing_is_the_identity():
    images = torch.rand(5, 1, 28, 28, generator=generator()) * 2 - 1
    still = varied(images, generator(), rotation=0, shift=0, scale=0)
    torch.testing.assert_close(still, images, atol=1e-5, rtol=0)


def test_augment_shifts_by_at_most_the_stated_pixels_and_uses_the_whole_range():
    images = stroke().expand(400, -1, -1, -1)
    moves = centre(varied(images, generator(), rotation=0, shift=3.0, scale=0)) - 14
    assert moves.abs().max() <= 3.0 + 1e-3
    assert moves.amax(0).min() > 2.7
    assert moves.amin(0).max() < -2.7


def test_augment_turns_by_at_most_the_stated_angle_about_the_centre():
    images = stroke(row=6).expand(400, -1, -1, -1)  # 7.5 pixels above the centre of rotation (13.5, 13.5)
    offsets = centre(varied(images, generator(), rotation=30.0, shift=0, scale=0)) - 13.5
    angles = torch.rad2deg(torch.atan2(offsets[:, 1], -offsets[:, 0]) - math.atan2(0.5, 7.5))
    torch.testing.assert_close(offsets.norm(dim=1), torch.full((400,), math.hypot(7.5, 0.5)), atol=0.1, rtol=0)
    assert 27 < angles.max() < 31
    assert -31 < angles.min() < -27


def test_augment_scales_areas_by_the_square_of_the_stretch():
    images = stroke().expand(400, -1, -1, -1)
    areas = (varied(images, generator(), rotation=0, shift=0, scale=0.2) + 1).sum((1, 2, 3)) / 2
    assert areas.max() == pytest.approx(25 * 1.2**2, rel=0.05)
    assert areas.min() == pytest.approx(25 * 0.8**2, rel=0.05)


def test_augment_works_on_images_that_are_not_square():
    images = torch.full((200, 1, 20, 40), -1.0)
    images[:, :, 8:12, 28:32] = 1.0  # 10 pixels right of the centre (9.5, 19.5)
    turned = varied(images, generator(), rotation=20.0, shift=0, scale=0)
    distances = (centre(turned) - torch.tensor([9.5, 19.5])).norm(dim=1)
    torch.testing.assert_close(distances, torch.full((200,), 10.0), atol=0.15, rtol=0)


def test_augment_stays_in_range_and_repeats_with_its_generator():
    images = torch.rand(20, 1, 28, 28, generator=generator()) * 2 - 1
    first, second = (varied(images, generator(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, varied(images, generator(4)))
    assert first.min() >= -1
    assert first.max() <= 1


def test_augment_refuses_a_single_image_and_too_few_random_numbers():
    with pytest.raises(ValueError, match=r"uniform \(B, 4\), got \(1, 28, 28\), \(1, 4\)"):
        augment(torch.zeros(1, 28, 28), torch.zeros(1, 4))
    with pytest.raises(ValueError, match=r"uniform \(B, 4\), got \(2, 1, 28, 28\), \(1, 4\)"):
        augment(torch.zeros(2, 1, 28, 28), torch.zeros(1, 4))


def test_a_few_steps_teach_it_to_tell_left_from_right():
    torch.manual_seed(0)
    model = DigitClassifier(DigitClassifierConfig(width=8, n_classes=2))
    images = torch.cat([stroke(column=8).expand(32, -1, -1, -1), stroke(column=19).expand(32, -1, -1, -1)])
    labels = torch.arange(2).repeat_interleave(32)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    random = generator()
    for _ in range(30):
        optimiser.zero_grad()
        classification_loss(model, varied(images, random), labels).backward()
        optimiser.step()
    fresh = varied(images, generator(9))
    assert (predict(model, fresh) == labels).double().mean() > 0.97
