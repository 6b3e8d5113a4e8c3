"""Warping: zero flow changes nothing, true flow finds the colours again, and hidden points are found out."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lib import datasets
from aigc_lib.models.warping import (
    brought_to,
    forward_backward_error,
    interpolate,
    motion_until,
    occlusion,
    warp,
)

sides = st.integers(1, 40)


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def constant(right: float, down: float, h: int, w: int, batch: int = 1) -> torch.Tensor:
    return torch.tensor([float(right), float(down)]).view(1, 2, 1, 1).expand(batch, 2, h, w)


def smooth(h: int, w: int, seed: int = 0) -> torch.Tensor:
    """A picture without corners, (1, 3, h, w)."""
    return F.interpolate(noise(1, 3, 4, 4, seed=seed), (h, w), mode="bicubic", align_corners=True)


@settings(max_examples=60, deadline=None)
@given(h=sides, w=sides, seed=st.integers(0, 99))
def test_zero_flow_is_the_identity_bit_for_bit(h, w, seed):
    image = 10 * noise(2, 3, h, w, seed=seed)
    assert torch.equal(warp(image, torch.zeros(2, 2, h, w)), image)


@pytest.mark.parametrize("size", [(97, 741), (500, 33), (720, 7), (5, 1283)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_zero_flow_is_the_identity_at_any_size_and_precision(size, dtype):
    image = noise(1, 1, *size).to(dtype)
    assert torch.equal(warp(image, torch.zeros(1, 2, *size, dtype=dtype)), image)


@pytest.mark.parametrize("frame", [torch.float64, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("motion", [torch.float32, torch.bfloat16])
def test_frames_and_flow_may_differ_in_precision(frame, motion):
    first, second = noise(2, 1, 3, 8, 9, dtype=torch.float64).to(frame)
    still = torch.zeros(1, 2, 8, 9, dtype=motion)
    assert torch.equal(warp(first, still), first)
    assert interpolate(first, second, still, still, 0.5).dtype == frame
    assert torch.equal(interpolate(first, second, still, still, 0.0), first)


@settings(max_examples=30, deadline=None)
@given(right=st.integers(-5, 5), down=st.integers(-5, 5))
def test_whole_pixels_move_bit_for_bit_and_the_border_continues(right, down):
    image = noise(1, 2, 7, 9)
    warped = warp(image, constant(right, down, 7, 9))
    for y in range(7):
        for x in range(9):
            there = min(max(y + down, 0), 6), min(max(x + right, 0), 8)
            assert torch.equal(warped[0, :, y, x], image[0, :, *there])


@settings(max_examples=30, deadline=None)
@given(h=st.integers(2, 20), w=st.integers(2, 20), seed=st.integers(0, 99))
def test_between_pixels_it_is_bilinear_as_torch_has_it(h, w, seed):
    image, flow = noise(2, 3, h, w, dtype=torch.float64), 5 * noise(2, 2, h, w, seed=seed, dtype=torch.float64)
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    grid = torch.stack([2 * (x + flow[:, 0]) / (w - 1) - 1, 2 * (y + flow[:, 1]) / (h - 1) - 1], dim=-1)
    expected = F.grid_sample(image, grid, padding_mode="border", align_corners=True)
    torch.testing.assert_close(warp(image, flow), expected, atol=1e-10, rtol=0)


def test_it_is_differentiable_in_image_and_flow():
    image = noise(1, 2, 4, 5, dtype=torch.float64).requires_grad_()
    # Between pixels and inside: where flow meets a pixel or the border, the slope has two sides.
    flow = 0.1 + 0.8 * torch.rand(1, 2, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.autograd.gradcheck(warp, (image, flow.requires_grad_()))


def test_the_slope_in_flow_is_that_of_the_picture():
    ramp = torch.arange(8.0).expand(1, 1, 6, 8)
    flow = torch.zeros(1, 2, 6, 8).requires_grad_()
    warp(ramp, flow).sum().backward()
    assert (flow.grad[:, 0, :, 1:-1] == 1).all()  # at rest, too
    assert (flow.grad[:, 1] == 0).all()


def test_true_flow_finds_the_first_frame_in_the_second():
    pairs = datasets.load("moving-objects", "test", n=6)
    found, stayed, hidden = 0.0, 0.0, 0.0
    for pair in pairs:
        difference = (warp(pair.second[None], pair.flow[None]) - pair.first[None]).abs().mean(dim=1)[0]
        found += difference[pair.valid].mean().item()
        hidden += difference[pair.occluded].mean().item()
        stayed += (pair.second - pair.first).abs().mean(dim=0)[pair.valid].mean().item()
    assert found / 6 < 0.04
    assert stayed > 5 * found
    assert hidden > 4 * found


@pytest.mark.parametrize(
    ("image", "flow", "message"),
    [
        ((2, 3, 8, 8), (1, 2, 8, 8), r"one batch and size, got \(2, 3, 8, 8\) and \(1, 2, 8, 8\)"),
        ((1, 3, 8, 8), (1, 2, 8, 9), "one batch and size"),
        ((1, 3, 8, 8), (1, 3, 8, 8), r"flow must be float \(B, 2, H, W\)"),
        ((3, 8, 8), (1, 2, 8, 8), "one batch and size"),
    ],
)
def test_what_does_not_fit_is_named(image, flow, message):
    with pytest.raises(ValueError, match=message):
        warp(torch.zeros(image), torch.zeros(flow))


def test_bytes_are_no_picture_to_interpolate():
    with pytest.raises(ValueError, match="image must be float"):
        warp(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1, 2, 8, 8))


# --- there and back --------------------------------------------------------------------------------------------------


def test_a_shift_there_and_back_ends_where_it_began():
    forward = constant(3, -2, 12, 16)
    assert (forward_backward_error(forward, -forward) == 0).all()
    assert (forward_backward_error(forward, forward) == torch.tensor([6.0, -4]).norm()).all()


def test_what_leaves_the_frame_is_hidden_and_nothing_else_of_a_shift():
    hidden = occlusion(constant(3, -2, 12, 16), constant(-3, 2, 12, 16))[0]
    expected = torch.zeros(12, 16, dtype=torch.bool)
    expected[:2], expected[:, -3:] = True, True
    assert torch.equal(hidden, expected)


def square_on_ground(t: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A 6 × 6 square that moves 4 pixels to the right over a ground at rest: frame at time t, and where it is."""
    ground, square = smooth(20, 32, seed=1), 2 + smooth(6, 6, seed=2)
    left = 6 + round(4 * t)
    frame, mask = ground.clone(), torch.zeros(20, 32, dtype=torch.bool)
    frame[:, :, 7:13, left : left + 6] = square
    mask[7:13, left : left + 6] = True
    return frame, mask


def test_ground_that_a_square_covers_or_uncovers_is_found_out():
    (_, before), (_, after) = square_on_ground(0), square_on_ground(1)
    forward = torch.where(before, constant(4, 0, 20, 32), 0.0)
    backward = torch.where(after, constant(-4, 0, 20, 32), 0.0)
    assert torch.equal(occlusion(forward, backward)[0], after & ~before)  # of the first frame: to be covered
    assert torch.equal(occlusion(backward, forward)[0], before & ~after)  # of the second: uncovered


# --- frames in between -----------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(t=st.sampled_from([0, 0.25, 0.5, 1]), right=st.integers(-4, 4), down=st.integers(-4, 4))
def test_motion_until_a_time_of_an_even_shift_is_its_share(t, right, down):
    flow = constant(right, down, 9, 11)
    torch.testing.assert_close(motion_until(flow, t), -t * flow)


def test_motion_until_a_time_solves_its_equation():
    grow = 0.2 * torch.stack(torch.meshgrid(torch.arange(-8.0, 9), torch.arange(-8.0, 9), indexing="ij")[::-1])[None]
    back = motion_until(grow, 0.5)
    # q + t · flow(q) = p at q = p + back: everything grows by a fifth, so at half time p is 1.1 times q.
    torch.testing.assert_close(back, -0.5 * grow / 1.1, atol=2e-3, rtol=0)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99))
def test_at_its_ends_the_interpolation_is_the_frames_bit_for_bit(seed):
    first, second = noise(2, 2, 3, 9, 13, seed=seed)
    forward, backward = 4 * noise(2, 2, 2, 9, 13, seed=seed + 1)
    assert torch.equal(interpolate(first, second, forward, backward, 0), first)
    assert torch.equal(interpolate(first, second, forward, backward, 1), second)


@pytest.mark.parametrize("t", [0.25, 0.5, 0.75])
def test_a_square_is_where_it_belongs_at_every_time_and_the_ground_shows_behind_it(t):
    (first, before), (second, after) = square_on_ground(0), square_on_ground(1)
    expected, _ = square_on_ground(t)
    forward = torch.where(before, constant(4, 0, 20, 32), 0.0)
    backward = torch.where(after, constant(-4, 0, 20, 32), 0.0)
    made = interpolate(first, second, forward, backward, t)
    averaged = (1 - t) * first + t * second
    assert (made - expected).square().mean() < 0.1 * (averaged - expected).square().mean()


def test_a_frame_that_cannot_show_a_point_is_not_trusted_there():
    (first, before), (second, after) = square_on_ground(0), square_on_ground(1)
    forward = torch.where(before, constant(4, 0, 20, 32), 0.0)
    backward = torch.where(after, constant(-4, 0, 20, 32), 0.0)
    moved_first, moved_second, *trust = brought_to(first, second, forward, backward, 0.5)
    in_first, in_second = (each[0, 0] for each in trust)
    expected, square = square_on_ground(0.5)
    uncovered = slice(7, 13), slice(6, 8)  # the square has left it at half time, and the first frame cannot show it
    to_be_covered = slice(7, 13), slice(14, 16)
    assert (in_second > in_first)[uncovered].all()
    assert (in_first > in_second)[to_be_covered].all()
    assert torch.equal(moved_second[0][:, *uncovered], expected[0][:, *uncovered])
    assert torch.equal(moved_first[0][:, *to_be_covered], expected[0][:, *to_be_covered])
    assert (in_first[:, :4] == 1).all()  # resting ground, seen twice
    assert torch.maximum(in_first, in_second)[square].eq(1).all()


def test_times_and_shapes_that_do_not_fit_are_named():
    frame, flow = torch.zeros(1, 3, 8, 8), torch.zeros(1, 2, 8, 8)
    with pytest.raises(ValueError, match=r"in \[0, 1\], got 1.5"):
        interpolate(frame, frame, flow, flow, 1.5)
    with pytest.raises(ValueError, match="two frames of one shape"):
        interpolate(frame, frame[..., :4], flow, flow, 0.5)
