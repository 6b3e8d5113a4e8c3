"""Metrics of frames against independent implementations, and of motion against clips whose motion is known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from aigc_lib.metrics.video import flicker, motion, moving, psnr, ssim, whiteness
from aigc_lib.models.warping import warp


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def smooth(height, width, shift=0.0):
    """A pattern without end that has moved to the right by `shift` pixels."""
    y, x = torch.meshgrid(torch.arange(height) * 0.3, (torch.arange(width) - shift) * 0.25, indexing="ij")
    return torch.stack([x.sin(), (x + y).cos(), (x - y).sin()])[None] * 0.8


def to_the_right(pixels):
    """A flow function that knows the answer."""
    return lambda first, _: torch.tensor([pixels, 0.0]).view(1, 2, 1, 1).expand(len(first), 2, *first.shape[2:])


@given(seed=st.integers(0, 1000), channels=st.sampled_from([1, 3]), contrast=st.floats(0.01, 1))
@settings(deadline=None, max_examples=20)
def test_both_agree_with_scikit_image(seed, channels, contrast):
    true = noise(2, channels, 17, 23, seed=seed)
    made = (true + contrast * noise(2, channels, 17, 23, seed=seed + 1)).clamp(-1, 1)
    for i in range(2):
        pair = true[i].double().numpy(), made[i].double().numpy()
        assert psnr(made, true)[i] == pytest.approx(peak_signal_noise_ratio(*pair, data_range=2), abs=1e-6)
        window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "truncate": 3.5}
        expected = structural_similarity(*pair, data_range=2, channel_axis=0, **window)
        assert ssim(made, true)[i] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("error", "decibels"), [(0.2, 20), (0.02, 40)])
def test_a_tenth_of_the_error_is_worth_twenty_decibels(error, decibels):
    true = noise(1, 3, 16, 16) * 0.5
    assert psnr(true + error, true).item() == pytest.approx(decibels, abs=1e-4)


def test_equal_frames_are_perfect():
    frame = noise(2, 3, 16, 16)
    assert psnr(frame, frame).tolist() == [math.inf] * 2
    torch.testing.assert_close(ssim(frame, frame), torch.ones(2, dtype=torch.float64))


def test_only_the_chosen_pixels_count():
    true, made = noise(1, 3, 16, 16) * 0.5, noise(1, 3, 16, 16) * 0.5
    made[..., 8:] += 0.2
    right = torch.zeros(1, 16, 16, dtype=torch.bool)
    right[..., 8:] = True
    assert psnr(made, true, right).item() == pytest.approx(20, abs=1e-4)
    assert psnr(made, true, ~right).item() == math.inf
    assert psnr(made, true, right).item() == pytest.approx(psnr(made[..., 8:], true[..., 8:]).item())
    assert psnr(made, true, torch.zeros_like(right)).isnan()
    assert ssim(made, true, right) < ssim(made, true)
    everything = torch.ones_like(right)
    torch.testing.assert_close(ssim(made, true, everything), ssim(made, true))


def test_moving_is_what_changes_between_the_given_frames():
    first, second = torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
    second[0, 1, 2, 5] = 0.11  # one channel is enough
    second[0, :, 4, 4] = 0.09  # noise of coding is not
    where = moving(first, second)
    assert where.nonzero().tolist() == [[0, 2, 5]]
    assert torch.equal(where, moving(second, first))


@given(speed=st.floats(0.25, 3))
@settings(deadline=None, max_examples=10)
def test_even_motion_has_its_speed_no_acceleration_and_explains_the_change(speed):
    clip = torch.cat([smooth(24, 40, speed * t) for t in range(5)])
    seen = motion(clip, to_the_right(speed))
    torch.testing.assert_close(seen.magnitude, torch.full((4,), speed))
    assert seen.acceleration.max() < 1e-5
    assert seen.roughness == pytest.approx(0, abs=1e-5)
    # Beyond the frame's edge nobody can follow, and between pixels colours are interpolated.
    inner = motion(clip[..., 4:-4], to_the_right(speed)).unexplained
    assert (inner < 0.3).all()
    assert (motion(clip, to_the_right(0.0)).unexplained == 1).all()


def test_a_flow_without_memory_is_rough():
    generator = torch.Generator().manual_seed(0)

    def white(first, _):
        return torch.randn(1, 2, 1, 1, generator=generator).expand(1, 2, *first.shape[2:])

    # E‖a − b‖ = √2 E‖a‖ for independent Gaussian vectors.
    assert motion(noise(1, 3, 8, 8).expand(400, -1, -1, -1), white).roughness == pytest.approx(math.sqrt(2), abs=0.1)


def test_acceleration_follows_the_points():
    # A turning disc: every point's flow turns with it, so at a fixed place it does not change, along the path it does.
    angle, size = 0.1, 33
    axis = torch.arange(size) - (size - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    turn = torch.stack([x * math.cos(angle) - y * math.sin(angle) - x, x * math.sin(angle) + y * math.cos(angle) - y])[
        None
    ]
    frames = [noise(1, 3, size, size)]
    for _ in range(3):
        frames.append(warp(frames[-1], -turn))
    seen = motion(torch.cat(frames), lambda *_: turn)
    inside = torch.linalg.vector_norm(warp(turn, turn) - turn, dim=1)[0, 8:-8, 8:-8]
    exact = torch.linalg.vector_norm(turn, dim=1)[0, 8:-8, 8:-8] * 2 * math.sin(angle / 2)
    torch.testing.assert_close(inside, exact, atol=1e-4, rtol=0)
    assert (seen.acceleration > 0.5 * exact.mean()).all()


def test_nothing_moves_in_a_still():
    seen = motion(noise(1, 3, 8, 8).expand(4, -1, -1, -1), to_the_right(0.0))
    assert seen.magnitude.tolist() == [0, 0, 0]
    assert seen.unexplained.tolist() == [0, 0, 0]


def test_whiteness_tells_independent_frames_from_a_walk_and_from_even_change():
    white = noise(200, 1, 6, 6)
    assert whiteness(white) == pytest.approx(1, abs=0.03)
    steps = torch.randn(400, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    walk = steps.cumsum(dim=0)
    assert whiteness(walk / walk.abs().max()) == pytest.approx(1 / 2, abs=0.03)
    even = torch.linspace(-1, 1, 9).view(-1, 1, 1, 1) * noise(1, 3, 6, 6)
    assert whiteness(even) == pytest.approx(1 / 4, abs=1e-5)


def still(n_frames, height=16, width=16):
    return torch.zeros(n_frames - 1, 2, height, width)


@given(level=st.floats(0.01, 0.2))
@settings(deadline=None, max_examples=10)
def test_noise_flickers_by_its_closed_form_and_a_constant_error_does_not(level):
    true = (0.2 * noise(3, 3, 64, 64)).expand(3, -1, -1, -1)
    made = true + level * torch.randn(true.shape, generator=torch.Generator().manual_seed(1))
    made = made.clamp(-1, 1)
    expected = 2 * level / math.sqrt(math.pi) * 255 / 2
    assert flicker(made, true, still(3, 64, 64)).mean().item() == pytest.approx(expected, rel=0.02)
    assert flicker(true + 0.1, true, still(3, 64, 64)).max() < 1e-4
    assert psnr(true + 0.1, true).max() < 30  # although it is an error


def test_an_error_that_goes_along_with_its_thing_does_not_flicker():
    clip = torch.cat([smooth(24, 40, 2.0 * t) for t in range(4)])
    error = torch.cat([0.1 * smooth(24, 40, 2.0 * t).flip(1) for t in range(4)])
    along = torch.tensor([2.0, 0.0]).view(1, 2, 1, 1).expand(3, 2, 24, 40)
    inside = flicker((clip + error)[..., :-4], clip[..., :-4], along[..., :-4])
    assert inside.max() < 0.3 * flicker(clip + error, clip, still(4, 24, 40)).min()


FRAMES = torch.zeros(4, 3, 16, 16)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: psnr(FRAMES, FRAMES[:2]), "of one shape"),
        (lambda: psnr(FRAMES[0], FRAMES[0]), r"\(B, C, H, W\)"),
        (lambda: psnr(FRAMES + 2, FRAMES), r"in \[-1, 1\], got up to 2"),
        (lambda: psnr(FRAMES * math.nan, FRAMES), "nan"),
        (lambda: psnr(FRAMES[:0], FRAMES[:0]), "no value"),
        (lambda: psnr(FRAMES, FRAMES, FRAMES[:, 0]), "bool"),
        (lambda: ssim(FRAMES[..., :10], FRAMES[..., :10]), "11 × 11"),
        (lambda: motion(FRAMES[:2], to_the_right(0.0)), "at least 3 frames"),
        (lambda: whiteness(FRAMES), "at least 3 frames that change"),
        (lambda: whiteness(noise(2, 3, 4, 4)), "at least 3 frames that change, got 2"),
        (lambda: flicker(FRAMES[:1], FRAMES[:1], FRAMES[:0, :2]), "a single frame does not flicker"),
        (lambda: flicker(FRAMES, FRAMES, FRAMES[:, :2]), "one batch and size"),
        (lambda: moving(FRAMES.long(), FRAMES.long()), "float"),
    ],
)
def test_what_cannot_be_measured_says_why(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_numbers_do_not_depend_on_the_precision_of_the_frames():
    true, made = noise(1, 3, 16, 16) * 0.9, noise(1, 3, 16, 16, seed=1) * 0.9
    np.testing.assert_allclose(psnr(made, true), psnr(made.double(), true.double()), rtol=1e-9)
