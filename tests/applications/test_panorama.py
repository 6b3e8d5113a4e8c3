"""A panorama has no seam because nothing knows where it is cut; a billboard in it looks flat to a camera."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lib.applications import panorama
from aigc_lib.applications.panorama import LIGHTS, Billboard, directions, landscape, put, seam_of, view

HEIGHT = 128
RAYS = directions(HEIGHT)
azimuths = st.floats(-math.pi, math.pi)


@pytest.fixture(scope="module")
def lands():
    return {name: landscape(RAYS, light, seed=0) for name, light in LIGHTS.items()}


def test_directions_are_unit_vectors_and_ahead_is_the_middle():
    torch.testing.assert_close(RAYS.norm(dim=0), torch.ones(HEIGHT, 2 * HEIGHT, dtype=torch.float64))
    assert RAYS[2, HEIGHT // 2 - 1, HEIGHT - 1] > 0.999
    assert RAYS[1, 0].min() > 0.999  # the first row is up
    assert RAYS[0, HEIGHT // 2, 3 * HEIGHT // 2] > 0.999  # three quarters across lies the right


@pytest.mark.parametrize("columns", [1, 77, 128])
def test_turning_the_viewer_rolls_the_picture_exactly(lands, columns):
    """So the seam is a column like any other."""
    for name, light in LIGHTS.items():
        turned = landscape(RAYS.roll(columns, dims=2), light, seed=0)
        assert torch.equal(turned, lands[name].roll(columns, dims=2))


def test_neither_seam_nor_poles_are_seen(lands):
    for land in lands.values():
        seam = seam_of(land)
        assert seam.jump <= seam.largest_jump
        assert seam.bend <= seam.largest_bend
        assert seam.pole <= seam.largest_step


def test_a_picture_that_does_not_go_round_has_a_seam(lands):
    ramp = torch.linspace(0, 1, 2 * HEIGHT).expand(3, HEIGHT, -1)
    seam = seam_of(lands["day"] * 0.5 + 0.5 * ramp)
    assert seam.jump > 3 * seam.largest_jump
    kink = seam_of((ramp - 0.5).abs())  # the values meet, the slopes do not
    assert kink.jump <= 1.001 * kink.largest_jump
    stripes = seam_of((ramp * 40).sin())  # down to the very poles
    assert stripes.pole > 1.9
    assert stripes.largest_step == 0


def test_a_seed_is_a_landscape_and_another_one_another(lands):
    light = LIGHTS["dusk"]
    assert torch.equal(landscape(RAYS, light, seed=0), lands["dusk"])
    assert not torch.allclose(landscape(RAYS, light, seed=1), lands["dusk"], atol=0.1)
    assert all(land.min() >= 0 and land.max() <= 1 and land.std() > 0.05 for land in lands.values())


@given(azimuth=azimuths, elevation=st.floats(-1.3, 1.3))
@settings(deadline=None, max_examples=20)
def test_a_camera_sees_a_billboard_as_it_is(azimuth, elevation):
    """Wherever it hangs, over the seam and near a pole too: straight, square, upright, not mirrored."""
    rows = torch.linspace(0, 1, 64)[:, None].expand(64, 64)
    picture = torch.stack([rows, rows.T, 1 - rows, torch.ones(64, 64)])
    land = torch.zeros(3, HEIGHT, 2 * HEIGHT)
    put(land, RAYS, Billboard(picture=picture, azimuth=azimuth, elevation=elevation, width=1.0))
    seen = view(land, azimuth, elevation, 1.0, (64, 64))
    torch.testing.assert_close(seen[:, 6:-6, 6:-6], picture[:3, 6:-6, 6:-6], atol=0.03, rtol=0)


def test_what_is_clear_or_behind_is_not_painted():
    land = torch.full((3, HEIGHT, 2 * HEIGHT), 0.5)
    clear = torch.zeros(4, 8, 8)
    put(land, RAYS, Billboard(picture=clear, azimuth=0.0, elevation=0.0, width=2.0))
    assert (land == 0.5).all()
    put(land, RAYS, Billboard(picture=clear + 1, azimuth=0.0, elevation=0.0, width=2.0))
    painted = (land[0] != 0.5).nonzero()[:, 1]
    assert painted.min() >= HEIGHT / 2  # a square of 45° to either side: nothing behind the viewer
    assert painted.max() < 3 * HEIGHT / 2


def test_a_billboard_covers_the_angle_that_it_should():
    land = torch.zeros(3, HEIGHT, 2 * HEIGHT)
    put(land, RAYS, Billboard(picture=torch.ones(4, 4, 4), azimuth=0.0, elevation=0.0, width=2.0))
    middle = land[0, HEIGHT // 2]
    assert abs(middle.sum().item() - HEIGHT / 2) <= 2  # 90° of 180° that H pixels span


def test_a_shadow_lies_on_the_ground_where_it_was_put():
    land = torch.ones(3, HEIGHT, 2 * HEIGHT)
    panorama.put_shadow(land, RAYS, 0.0, 4.0, 0.5)
    assert (land[:, : HEIGHT // 2] == 1).all()
    row, column = divmod(land[0].argmin().item(), 2 * HEIGHT)
    assert abs(column - HEIGHT) <= 1
    step = math.pi / HEIGHT
    assert (row + 0.5) * step - math.pi / 2 == pytest.approx(math.atan2(panorama.EYE, 4.0), abs=step)


@pytest.mark.parametrize("height", [0, 62, 65, 2050])
def test_impossible_heights_are_refused(height):
    with pytest.raises(ValueError, match=f"even height of 64 to 2,048 pixels, got {height}"):
        directions(height)
