"""Augmentation: what it does to pictures, how often, and how the controller follows overfitting."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lib.training.augmentation import MAX_PROBABILITY, AdaptiveProbability, Distortion, random_distortion


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def geometry(matrix: list[list[float]], n_channels: int = 3) -> Distortion:
    return Distortion(torch.tensor([matrix]), torch.eye(n_channels)[None], torch.zeros(1, 1, 1))


IMAGES = torch.rand(6, 3, 16, 16, generator=rng()) * 2 - 1


def test_probability_zero_leaves_pictures_as_they_are():
    drawn = random_distortion(6, 3, 16, 0.0, generator=rng())
    torch.testing.assert_close(drawn.apply(IMAGES), IMAGES, atol=1e-5, rtol=0)


def test_places_are_mirrors_turns_and_shifts_of_torch():
    image = IMAGES[:1]
    for matrix, expected in (
        ([[-1.0, 0, 0], [0, 1, 0]], image.flip(3)),
        ([[0.0, -1, 0], [1, 0, 0]], torch.rot90(image, 1, (2, 3))),
        ([[-1.0, 0, 0], [0, -1, 0]], torch.rot90(image, 2, (2, 3))),
    ):
        torch.testing.assert_close(geometry(matrix).apply(image), expected, atol=1e-5, rtol=0)
    left = geometry([[1, 0, 2 * 2 / 16], [0, 1, 0]]).apply(image)  # two pixels: the picture's right part is seen
    torch.testing.assert_close(left[..., :14], image[..., 2:], atol=1e-5, rtol=0)
    torch.testing.assert_close(left[..., 14:], image[..., 14:].flip(3), atol=1e-5, rtol=0)  # reflected


@given(probability=st.floats(0, 0.99), n_channels=st.sampled_from([1, 3]), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_colours_turn_about_the_grey_axis(probability, n_channels, seed):
    drawn = random_distortion(8, n_channels, 16, probability, generator=rng(seed))
    white = drawn.colours @ torch.ones(n_channels, 1)  # grey stays grey: contrast alone
    torch.testing.assert_close(white, white[:, :1].expand_as(white), atol=1e-5, rtol=1e-5)
    assert (torch.linalg.det(drawn.colours) > 0).all()  # every change can be undone
    assert (torch.linalg.det(drawn.places[:, :, :2]).abs() > 0.05).all()


def test_each_transform_takes_part_as_often_as_it_should():
    # Mirror and quarter turns do nothing half and a quarter of the time, shifts of up to ±4 pixels one time in nine.
    p, n = 0.2, 20_000
    drawn = random_distortion(n, 3, 32, p, generator=rng())
    identity = torch.tensor([[1.0, 0, 0], [0, 1, 0]])
    still = ((drawn.places - identity).abs().amax(dim=(1, 2)) < 1e-6).double().mean().item()
    expected = (1 - p / 2) * (1 - p * 3 / 4) * (1 - p) ** 2 * (1 - p * 8 / 9) ** 2
    assert still == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / n))
    same = ((drawn.colours - torch.eye(3)).abs().amax(dim=(1, 2)) < 1e-6).double().mean().item()
    assert same == pytest.approx((1 - p) ** 3, abs=4 * math.sqrt((1 - p) ** 3 * (1 - (1 - p) ** 3) / n))


@pytest.mark.parametrize("p", [0.0, 0.5, MAX_PROBABILITY])
def test_what_is_drawn_can_be_told_back(p):
    # A distribution over orientations or places is convolved with that of what is drawn: frequencies are multiplied by
    # its Fourier coefficients. Where one is zero, nothing is left of that frequency, and distortions could leak.
    n = 100_000
    places = random_distortion(n, 1, 32, p, generator=rng()).places.double()
    error = 5 / math.sqrt(n)
    mirrored = (torch.linalg.det(places[:, :, :2]) < 0).double().mean().item()
    assert 1 - 2 * mirrored == pytest.approx(1 - p, abs=error)
    quarters = torch.atan2(-places[:, 0, 1], places[:, 1, 1]) / (math.pi / 2)
    exact = (quarters - quarters.round()).abs() < 1e-5  # not turned by an angle beside
    shares = quarters[exact].round().long().remainder(4).bincount(minlength=4) / exact.sum()
    kept = torch.fft.fft(shares.double())[1:]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 - p), atol=error / math.sqrt(1 - p), rtol=0)
    for shift in places[:, :, 2].T * 16:  # pixels
        shares = shift.round().long().remainder(256).bincount(minlength=256) / n
        assert torch.fft.fft(shares.double()).real.min() > 0.99 - 1.23 * p > 0


def test_mixed_precision_does_not_round_where_pixels_come_from():
    drawn = random_distortion(6, 3, 16, 0.8, generator=rng())
    with torch.autocast("cpu", torch.bfloat16):
        inside, of_half = drawn.apply(IMAGES), drawn.apply(IMAGES.bfloat16())
    assert torch.equal(inside, drawn.apply(IMAGES))
    assert torch.equal(of_half, drawn.apply(IMAGES.bfloat16().float()))


def test_gradients_flow_through_and_a_part_of_the_batch_is_distorted_as_in_the_whole():
    drawn = random_distortion(2, 3, 8, 0.9, generator=rng(1))
    images = IMAGES[:2, :, :8, :8].double().requires_grad_()
    assert torch.autograd.gradcheck(drawn.apply, images)
    part = Distortion(*(each[1:] for each in drawn))
    torch.testing.assert_close(part.apply(images[1:]), drawn.apply(images)[1:])


@pytest.mark.parametrize("probability", [-0.1, 1.0])
def test_a_probability_that_leaks_is_refused(probability):
    with pytest.raises(ValueError, match=rf"must be in \[0, 1\), got {probability}"):
        random_distortion(2, 3, 8, probability, generator=rng())


def test_the_probability_follows_overfitting_between_its_bounds():
    controller = AdaptiveProbability(target=0.6, ramp=1000)
    for _ in range(20):
        controller.update(torch.tensor(0.5), 10)
    assert controller.probability == 0  # never above the target
    history = []
    for _ in range(200):
        controller.update(torch.tensor(0.9), 10)
        history.append(controller.probability.item())
    rises = torch.tensor(history[10:51]).diff()
    torch.testing.assert_close(rises, torch.full_like(rises, 0.01), atol=1e-6, rtol=0)  # 10 of 1000 images
    assert history[-1] == pytest.approx(MAX_PROBABILITY)
    resumed = AdaptiveProbability(target=0.6, ramp=1000)
    resumed.load_state_dict(controller.state_dict())
    for each in (controller, resumed):
        for _ in range(30):
            each.update(torch.tensor(-1.0), 10)
    assert resumed.probability == controller.probability < MAX_PROBABILITY - 0.2
