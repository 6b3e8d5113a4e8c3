"""Flow points where it says: following it from the first frame finds the same colours in the second."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from aigc_lib.datasets import load
from aigc_lib.datasets.base import SPLITS
from aigc_lib.datasets.flow import Layer, _about, _move, compose


def photometric_error(item, flow, mask):
    """Mean absolute difference between the first frame and the second, looked up where flow leads, by SciPy."""
    height, width = mask.shape
    y, x = np.mgrid[:height, :width].astype(float)
    right, down = flow.double().numpy()
    found = [
        map_coordinates(channel, [y + down, x + right], order=1, mode="nearest") for channel in item.second.numpy()
    ]
    return np.abs(np.stack(found) - item.first.numpy()).mean(0)[mask.numpy()].mean()


@pytest.fixture(scope="module")
def pairs():
    return [load("moving-objects", "train", n=12)[i] for i in range(12)]


@pytest.fixture(scope="module")
def motorcycle():
    return load("motorcycle", "test")[0]


def test_made_flow_explains_the_second_frame(pairs):
    true, zero, reverse = (
        np.mean([photometric_error(pair, factor * pair.flow, pair.valid) for pair in pairs]) for factor in (1, 0, -1)
    )
    assert true < 0.03  # what is left is interpolation, along edges and in texture
    assert zero > 5 * true
    assert reverse > zero


def test_swapped_channels_do_not_explain_it(pairs):
    true, swapped = (
        np.mean([photometric_error(pair, flow(pair), pair.valid) for pair in pairs])
        for flow in (lambda pair: pair.flow, lambda pair: pair.flow.flip(0))
    )
    assert swapped > 4 * true


def test_what_is_occluded_cannot_be_found_again(pairs):
    visible = np.mean([photometric_error(pair, pair.flow, pair.valid) for pair in pairs])
    hidden = np.mean([photometric_error(pair, pair.flow, pair.occluded) for pair in pairs])
    assert hidden > 4 * visible
    for pair in pairs:
        assert torch.equal(pair.valid, ~pair.occluded)
        assert 0 < pair.occluded.float().mean() < 0.5


def test_a_pair_depends_on_seed_split_and_index_only(pairs):
    again = load("moving-objects", "train", n=5)[3]
    assert torch.equal(again.first, pairs[3].first)
    assert torch.equal(again.flow, pairs[3].flow)
    assert torch.equal(again.valid, pairs[3].valid)
    for other in (load("moving-objects", "train", n=5, seed=1)[3], load("moving-objects", "test", n=5)[3]):
        assert not torch.equal(other.flow, pairs[3].flow)


def test_splits_share_neither_photographs_nor_emoji():
    data = [load("moving-objects", split, n=1) for split in SPLITS]
    for kind in ("_backgrounds", "_objects"):
        pictures = [{np.asarray(texture).tobytes() for texture in getattr(part, kind)} for part in data]
        assert all(pictures)
        assert not pictures[0] & pictures[2]
        assert not pictures[0] & pictures[1]


def test_frames_are_filled_and_in_range(pairs):
    for pair in pairs:
        assert pair.first.shape == pair.second.shape == (3, 64, 64)
        assert pair.flow.shape == (2, 64, 64)
        assert pair.first.abs().max() <= 1.0001
        assert pair.flow.abs().max() < 64 / 3


def test_more_motion_more_objects_and_pieces_of_photographs_stay_true():
    pairs = load("moving-objects", "train", resolution=96, n=8, motion=1.5, n_objects=8, cutouts=1.0)
    true, zero = (np.mean([photometric_error(pair, k * pair.flow, pair.valid) for pair in pairs]) for k in (1, 0))
    assert true < 0.05
    assert zero > 4 * true
    still = load("moving-objects", "train", resolution=96, n=8, motion=0.0)[0]
    assert still.flow.abs().max() < 0.3 * pairs[0].flow.abs().max()  # turning and growing is left


def test_a_layer_is_clear_beyond_its_box():
    layer = square(10, 12, _about(14, 16, 0.3, 1.2, (3, -2)))
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)]).double()
    for moved in (False, True):
        low, high = layer.box(moved=moved)
        inside = ((points[:2] >= low[:, None, None]) & (points[:2] <= high[:, None, None])).all(dim=0)
        assert (layer.at(points, moved=moved)[3][~inside] == 0).all()
        assert inside.sum() < 300


def square(x, y, motion, *, width=8, value=1.0):
    """A square of one grey with its upper left corner at (x, y), seen through a frame of clear pixels."""
    texture = torch.zeros(4, width + 2, width + 2)
    texture[:, 1:-1, 1:-1] = torch.tensor([value, value, value, 1.0])[:, None, None]
    return Layer(texture=texture, to_texture=_move(1 - x, 1 - y), motion=motion)


def background(size=32):
    texture = torch.rand(4, size, size, generator=torch.Generator().manual_seed(0))
    texture[3] = 1
    return Layer(texture=texture, to_texture=_move(0, 0), motion=_move(0, 0))


def test_a_square_that_moves_right_and_down_hides_what_it_lands_on():
    item = compose([background(), square(4, 6, _move(5, 2))], 32, key="")
    on_square = torch.zeros(32, 32, dtype=torch.bool)
    on_square[6:14, 4:12] = True
    landed = torch.zeros(32, 32, dtype=torch.bool)
    landed[8:16, 9:17] = True
    assert torch.equal(item.flow[:, on_square], torch.tensor([[5.0], [2.0]]).expand(2, 64))
    assert (item.flow[:, ~on_square] == 0).all()
    assert torch.equal(item.occluded, landed & ~on_square)
    torch.testing.assert_close(item.second[:, landed], torch.ones(3, 64))
    torch.testing.assert_close(item.first[:, on_square], torch.ones(3, 64))


def test_a_square_that_leaves_the_frame_is_occluded_there():
    item = compose([background(), square(22, 10, _move(8, 0))], 32, key="")
    expected = torch.zeros(32, 32, dtype=torch.bool)
    expected[10:18, 24:30] = True  # columns 24 to 29 go beyond 31, or are background below the square's new place
    assert torch.equal(item.occluded[10:18, 24:30], expected[10:18, 24:30])


def test_a_lower_layer_that_moves_under_an_upper_one_is_hidden_by_it():
    layers = [background(), square(2, 10, _move(10, 0), value=0.2), square(12, 10, _move(0, 0), value=0.9)]
    item = compose(layers, 32, key="")
    assert item.occluded[10:18, 2:10].all()
    assert item.valid[10:18, 12:20].all()


def test_turning_is_from_right_to_down_about_the_given_point():
    quarter = _about(10, 10, np.pi / 2, 2.0, (0, 0))
    torch.testing.assert_close(quarter @ torch.tensor([13.0, 10, 1]).double(), torch.tensor([10.0, 16, 1]).double())


@pytest.mark.parametrize("size", [None, (250, 370), (128, 192)])
def test_the_motorcycle_moves_left_as_its_disparity_says(size):
    item = load("motorcycle", "test", size=size)[0]
    true, zero, wrong_sign = (photometric_error(item, factor * item.flow, item.valid) for factor in (1, 0, -1))
    assert true < 0.05
    assert zero > 6 * true
    assert wrong_sign > zero
    assert (item.flow[0][item.valid] < 0).all()
    assert (item.flow[1] == 0).all()


def test_the_known_part_and_the_mean_length_are_as_published(motorcycle):
    known = motorcycle.valid | motorcycle.occluded
    assert motorcycle.flow.shape == (2, 500, 741)
    assert known.float().mean() == pytest.approx(0.9265, abs=1e-3)
    length = torch.linalg.vector_norm(motorcycle.flow, dim=0)
    assert length[known].mean() == pytest.approx(34.3, abs=0.1)  # the end-point error of zero flow
    assert (length[~known] == 0).all()


def test_hidden_parts_of_the_motorcycle_are_those_that_cannot_be_found_again(motorcycle):
    hidden = photometric_error(motorcycle, motorcycle.flow, motorcycle.occluded)
    visible = photometric_error(motorcycle, motorcycle.flow, motorcycle.valid)
    assert hidden > 4 * visible
    assert not (motorcycle.valid & motorcycle.occluded).any()


def test_shrinking_scales_flow_with_the_width(motorcycle):
    half = load("motorcycle", "test", size=(250, 370))[0]
    ratio = half.flow[0][half.valid].mean() / motorcycle.flow[0][motorcycle.valid].mean()
    assert ratio == pytest.approx(370 / 741, abs=0.01)


@pytest.mark.parametrize(
    ("name", "split", "options", "message"),
    [
        ("motorcycle", "train", {}, "expected split 'test', got 'train'"),
        ("motorcycle", "test", {"size": (1000, 741)}, "only shrinks"),
        ("moving-objects", "train", {"resolution": 16}, "32 to 256, got 16"),
        ("moving-objects", "train", {"n": 0}, "at least 1, got 0"),
        ("moving-objects", "train", {"motion": 4.0}, "motion from 0 to 3"),
    ],
)
def test_wrong_options_are_named(name, split, options, message):
    with pytest.raises(ValueError, match=message):
        load(name, split, **options)
