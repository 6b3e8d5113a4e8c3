"""The two ears of a sphere: times, levels, and what cannot be told apart."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import bilinear, lfilter

from aigc_lib.applications.binaural import CORNER, HEAD, SPEED, angles, binaural, delay, response, shadow
from aigc_lib.applications.panorama import direction

RATE = 48_000
NOISE = torch.randn(RATE // 4, generator=torch.Generator().manual_seed(0))


def at(degrees, elevation=0.0):
    return direction(math.radians(degrees), math.radians(elevation))


def lag(ears):
    """Seconds by which the left ear hears later, by cross-correlation, to a sixteenth of a sample."""
    size = 2 * ears.shape[1]
    left, right = torch.fft.rfft(ears.double(), size)
    likeness = torch.fft.irfft(left * right.conj(), 16 * size)
    best = likeness.argmax().item()
    return (best if best < 8 * size else best - 16 * size) / (16 * RATE)


@pytest.mark.parametrize("degrees", [0, 10, 30, 45, 60, 90])
def test_the_time_between_the_ears_is_woodworths(degrees):
    theta = math.radians(degrees)
    near, far = delay(angles(at(degrees)))[[1, 0]]
    assert (far - near).item() == pytest.approx(HEAD / SPEED * (theta + math.sin(theta)), abs=1e-12)
    measured = lag(binaural(NOISE, at(degrees), RATE))
    assert measured == pytest.approx(HEAD / SPEED * (theta + math.sin(theta)), abs=1e-5)


def test_low_tones_come_later_still_because_of_the_shadow_filter():
    """The slope of its phase at 0 hertz is (α − 1) / (2π f₀), so the ears differ by (α near − α far) / (2π f₀) more."""
    far, near = angles(at(60))
    phases = response(torch.stack([far, near]), torch.tensor([20.0])).angle()[:, 0]
    measured = (phases[1] - phases[0]) / (2 * math.pi * 20)
    expected = delay(far) - delay(near) + (shadow(near) - shadow(far)) / (2 * math.pi * CORNER)
    assert measured.item() == pytest.approx(expected.item(), abs=1e-6)


def test_the_near_ear_is_louder_the_more_the_higher_the_tone():
    levels = response(angles(at(90)), torch.tensor([0.0, 200, 500, 1000, 3000, 8000])).abs()
    difference = 20 * (levels[1] / levels[0]).log10()
    assert difference[0].abs() < 1e-6
    assert (difference.diff() > 0).all()
    assert difference[-1] > 12
    left = response(angles(at(-90)), torch.tensor([3000.0])).abs()
    assert left[0] > left[1]


@given(degrees=st.floats(-180, 180), elevation=st.floats(-90, 90))
@settings(deadline=None, max_examples=50)
def test_ears_swap_when_the_source_is_mirrored_and_front_is_back(degrees, elevation):
    here = angles(at(degrees, elevation))
    torch.testing.assert_close(angles(at(-degrees, elevation)), here.flip(0))
    torch.testing.assert_close(angles(at(180 - degrees, elevation)), here)  # behind
    torch.testing.assert_close(angles(at(degrees, -elevation)), here)  # below
    assert (delay(here) + HEAD / SPEED >= -1e-12).all()
    assert (shadow(here) >= 0.1 - 1e-9).all()


def test_the_shadow_is_deepest_at_150_degrees():
    degrees = torch.linspace(0, 180, 181, dtype=torch.float64)
    depths = shadow(torch.deg2rad(degrees))
    assert degrees[depths.argmin()] == 150
    assert depths[[0, 150]].tolist() == pytest.approx([2.0, 0.1])


def test_the_filter_is_the_analogue_one_of_the_paper():
    """Scipy's bilinear transform of (1 + α s/w) / (1 + s/w) at 192 kHz agrees below a twentieth of the rate."""
    angle, rate = torch.tensor(2.0, dtype=torch.float64), 192_000
    w = 2 * math.pi * CORNER
    b, a = bilinear([shadow(angle).item() / w, 1], [1 / w, 1], rate)
    impulse = torch.zeros(4096, dtype=torch.float64)
    impulse[0] = 1
    discrete = torch.fft.rfft(torch.from_numpy(lfilter(b, a, impulse.numpy())))
    frequencies = torch.fft.rfftfreq(4096, 1 / rate, dtype=torch.float64)
    low = frequencies < rate / 20
    torch.testing.assert_close(discrete.abs()[low], response(angle, frequencies).abs()[low], atol=0.01, rtol=0)


def test_a_sound_that_stays_where_it_is_sounds_the_same_said_either_way():
    still = binaural(NOISE, at(50), RATE)
    assert still.shape == (2, len(NOISE) + 96)
    torch.testing.assert_close(binaural(NOISE, at(50)[:, None].repeat(1, 7), RATE), still, atol=1e-5, rtol=0)


def test_a_sound_that_goes_round_is_first_in_the_right_ear_then_in_the_left():
    circle = torch.stack([at(degrees) for degrees in torch.linspace(0, 360, 61).tolist()], dim=1)
    powers = binaural(NOISE, circle, RATE)[:, : len(NOISE)].unflatten(1, (4, -1)).square().mean(dim=2)
    assert (powers[1, :2] > 1.5 * powers[0, :2]).all()
    assert (powers[0, 2:] > 1.5 * powers[1, 2:]).all()


@pytest.mark.parametrize(
    ("audio", "place", "message"),
    [
        (torch.zeros(2, 9), at(0), "expected sound"),
        (torch.zeros(0), at(0), "expected sound"),
        (torch.zeros(9), torch.zeros(2), "expected sound"),
        (torch.zeros(9), 2 * at(0), "length one"),
    ],
)
def test_other_shapes_are_refused(audio, place, message):
    with pytest.raises(ValueError, match=message):
        binaural(audio, place, RATE)
