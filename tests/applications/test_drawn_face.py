"""The drawing does what the pose says: seen in its pixels."""

from itertools import pairwise

import pytest
import torch

from aigc_lib.applications.drawn_face import CLOTHES, LIP, Mouth, Pose, draw, random_look, svg
from aigc_lib.applications.lip_sync import mouth_opening

LOOK = random_look(torch.Generator().manual_seed(0))


def opening(**shape):
    return float(mouth_opening(draw(LOOK, Pose(mouth=Mouth(**shape)))[None], LOOK))


def rgb(colour):
    return torch.tensor([int(colour[i : i + 2], 16) / 127.5 - 1 for i in (1, 3, 5)]).view(3, 1, 1)


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (200, 320), (321, 181)])
def test_a_picture_has_the_size_that_is_asked_for(size):
    picture = draw(LOOK, Pose(), size)
    assert picture.shape == (3, *size)
    assert picture.dtype == torch.float32
    assert -1 <= picture.min() < 0 < picture.max() <= 1


@pytest.mark.parametrize("size", [(63, 320), (320, 1081), (320,), (320.0, 320)])
def test_other_sizes_are_refused(size):
    with pytest.raises(ValueError, match=r"size has to be \(height, width\) of 64 to 1080"):
        draw(LOOK, Pose(), size)


def test_the_same_pose_gives_the_same_pixels():
    assert torch.equal(draw(LOOK, Pose(smile=0.5)), draw(LOOK, Pose(smile=0.5)))


def test_a_seed_has_one_look_and_seeds_differ():
    looks = [random_look(torch.Generator().manual_seed(seed)) for seed in (1, 1, *range(2, 30))]
    assert looks[0] == looks[1]
    assert len(set(looks)) > 20
    assert {look.clothes for look in looks} == set(CLOTHES)


def test_a_mouth_opens_in_proportion():
    areas = [opening(opening=step / 5) for step in range(6)]
    assert areas[0] < 0.0005
    assert all(after > before + 0.0005 for before, after in pairwise(areas))


def test_lips_that_touch_show_nothing_of_the_inside_whatever_teeth_and_tongue_do():
    assert opening(teeth=1.0, tongue=1.0, width=0.9) < 0.0005


def test_teeth_on_the_lip_are_seen():
    assert opening(opening=0.2, teeth=1.0, tuck=1.0) > 0.0005


def test_a_wide_mouth_is_wider_than_a_round_one():
    def width(mouth):
        lips = (draw(LOOK, Pose(mouth=mouth)) - rgb(LIP)).abs().sum(dim=0) < 0.1
        columns = lips.any(dim=0).nonzero()
        return int(columns.max() - columns.min())

    assert width(Mouth(width=0.9)) > 1.5 * width(Mouth(width=0.0, rounding=1.0))


def test_shut_eyes_show_no_white():
    def white(blink):
        eyes = draw(LOOK, Pose(blink=blink))[:, 120:165, 100:220]
        return int((eyes > 0.95).all(dim=0).sum())

    assert white(0.0) > 100
    assert white(1.0) == 0


def test_the_head_moves_and_the_wall_does_not():
    still, moved = draw(LOOK, Pose()), draw(LOOK, Pose(shift=(6.0, 2.0), tilt=2.0, turn=0.5))
    assert torch.equal(still[:, :, :10], moved[:, :, :10])
    assert (still - moved)[:, 60:230, 90:230].abs().mean() > 0.02


def test_a_wide_picture_shows_the_same_face_and_more_wall():
    square, wide = draw(LOOK, Pose(), (100, 100)), draw(LOOK, Pose(), (100, 200))
    assert (square - wide[..., 50:150]).abs().mean() < 0.01


def test_the_drawing_is_one_svg():
    text = svg(LOOK, Pose())
    assert text.startswith("<svg")
    assert text.endswith("</svg>")
    assert "nan" not in text
