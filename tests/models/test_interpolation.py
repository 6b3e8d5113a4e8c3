"""Frames in between: the given frames at their times, the classical method at the start, and what training adds."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lib.models.interpolation import FrameSynthesis, InterpolationConfig, both_flows, predict_next
from aigc_lib.models.warping import interpolate

SMALL = InterpolationConfig(width=4)


def pattern(height, width, shift=0.0):
    """A smooth picture that has moved to the right by `shift` pixels."""
    y, x = torch.meshgrid(torch.arange(height) * 0.3, (torch.arange(width) - shift) * 0.25, indexing="ij")
    return torch.stack([x.sin(), (x + y).cos(), (x - y).sin()])[None] * 0.8


def still_flow(height, width, right=0.0):
    return torch.tensor([right, 0.0]).view(1, 2, 1, 1).expand(1, 2, height, width)


def shaken(seed=0):
    """A network whose corrections are not zero any more."""
    torch.manual_seed(seed)
    network = FrameSynthesis(SMALL)
    torch.nn.init.normal_(network.corrections.weight, std=0.1)
    return network


@given(t=st.floats(0.01, 0.99), right=st.floats(-4, 4), size=st.tuples(st.integers(5, 30), st.integers(5, 30)))
@settings(deadline=None, max_examples=20)
def test_untrained_it_is_warping_and_choosing_by_visibility(t, right, size):
    first, second = pattern(*size), pattern(*size, shift=right)
    flows = still_flow(*size, right), still_flow(*size, -right)
    made = FrameSynthesis(SMALL)(first, second, *flows, t)
    torch.testing.assert_close(made, interpolate(first, second, *flows, t), atol=1e-5, rtol=0)


@given(seed=st.integers(0, 100), right=st.floats(-9, 9))
@settings(deadline=None, max_examples=10)
def test_at_the_times_of_the_given_frames_it_gives_them_back_bit_for_bit(seed, right):
    first, second = pattern(11, 18), pattern(11, 18, shift=3)
    flows, network = (still_flow(11, 18, right), still_flow(11, 18, -right)), shaken(seed)
    assert torch.equal(network(first, second, *flows, 0.0), first)
    assert torch.equal(network(first, second, *flows, 1.0), second)
    assert not torch.equal(network(first, second, *flows, 0.5), interpolate(first, second, *flows, 0.5))


@pytest.mark.parametrize("size", [(8, 12), (9, 12), (8, 13), (11, 14), (1, 1)])
def test_odd_sizes_are_continued_and_cut_back(size):
    first, second = pattern(*size), pattern(*size, shift=2)
    made = shaken()(first, second, still_flow(*size), still_flow(*size), 0.5)
    assert made.shape == first.shape
    assert made.abs().max() <= 1
    # What lies to the right of the picture is a copy of its border: it changes nothing that it should not.
    if size == (8, 13):
        wide = [torch.cat([x, x[..., -1:].expand(*x.shape[:3], 3)], dim=3) for x in (first, second)]
        flow = still_flow(8, 16)
        torch.testing.assert_close(shaken()(*wide, flow, flow, 0.5)[..., :13], made, atol=1e-5, rtol=0)


def test_a_large_frame_is_corrected_as_a_small_one_of_the_same_film():
    small = [pattern(8, 256, shift) for shift in (0, 2)]
    large = [F.interpolate(frame, scale_factor=3, mode="bicubic") for frame in small]
    network = shaken()
    made = [
        network(*frames, still_flow(*size, right), still_flow(*size, -right), 0.5)
        for frames, size, right in ((small, (8, 256), 1.0), (large, (24, 768), 3.0))
    ]
    torch.testing.assert_close(F.avg_pool2d(made[1], 3), made[0], atol=0.05, rtol=0)
    assert (made[0] - interpolate(*small, still_flow(8, 256, 1.0), still_flow(8, 256, -1.0), 0.5)).abs().max() > 0.1


def test_examples_of_a_batch_do_not_see_each_other():
    first, second = torch.cat([pattern(8, 8), -pattern(8, 8)]), torch.cat([pattern(8, 8, 1), pattern(8, 8, 5)])
    flow = still_flow(8, 8, 1.0).expand(2, -1, -1, -1)
    together = shaken()(first, second, flow, -flow, 0.3)
    alone = [shaken()(first[i : i + 1], second[i : i + 1], flow[:1], -flow[:1], 0.3) for i in range(2)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=0)


def test_all_its_weights_learn():
    network = shaken()
    made = network(pattern(8, 8), pattern(8, 8, 2), still_flow(8, 8, 1.0), still_flow(8, 8, -1.0), 0.5)
    (made - pattern(8, 8, 1)).abs().mean().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in network.parameters())


def test_the_shipped_size_is_small():
    assert sum(p.numel() for p in FrameSynthesis(InterpolationConfig()).parameters()) < 200_000  # 0.4 MB in float16


@given(right=st.floats(-3, 3), ahead=st.sampled_from([0.25, 0.5, 1.0, 2.0]))
@settings(deadline=None, max_examples=10)
def test_what_moves_evenly_goes_on(right, ahead):
    now, then = pattern(16, 40), pattern(16, 40, shift=right * ahead)
    made = predict_next(now, still_flow(16, 40, -right), ahead)
    torch.testing.assert_close(made[..., 7:-7], then[..., 7:-7], atol=0.02, rtol=0)  # bilinear, away from the border


def test_without_motion_or_time_the_last_frame_stays_bit_for_bit():
    frame = pattern(7, 9)
    assert torch.equal(predict_next(frame, still_flow(7, 9)), frame)
    assert torch.equal(predict_next(frame, still_flow(7, 9, 3.0), ahead=0.0), frame)


def test_flow_is_estimated_both_ways_at_a_size_the_estimator_knows():
    seen = []

    def estimator(first, second):
        seen.append(tuple(first.shape))
        direction = (second - first).mean(dim=(1, 2, 3), keepdim=True).sign()
        return direction.expand(-1, 2, *first.shape[2:]).clone()  # one pixel each look

    first, second = torch.zeros(2, 3, 40, 512), torch.ones(2, 3, 40, 512)
    forward, backward = both_flows(estimator, first, second)
    assert seen == [(4, 3, 10, 128), (4, 3, 20, 256)]
    # A pixel at a quarter of the size is four, and one at half of it two more; warping changes no even picture.
    torch.testing.assert_close(forward, torch.full_like(forward, 6.0))
    torch.testing.assert_close(backward, -forward)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t": 1.5}, r"in \[0, 1\], got 1.5"),
        ({"t": -0.1}, r"in \[0, 1\]"),
        ({"first": torch.zeros(1, 1, 8, 8)}, r"expected frames \(B, 3, H, W\), got \(1, 1, 8, 8\)"),
        ({"second": torch.zeros(1, 3, 8, 9)}, "of one shape"),
        ({"backward": torch.zeros(1, 2, 4, 4)}, "of one shape"),
    ],
)
def test_what_does_not_go_together_is_refused(change, message):
    frames = {"first": torch.zeros(1, 3, 8, 8), "second": torch.zeros(1, 3, 8, 8)}
    arguments = frames | {"forward": still_flow(8, 8), "backward": still_flow(8, 8), "t": 0.5} | change
    with pytest.raises(ValueError, match=message):
        FrameSynthesis(SMALL)(**arguments)


@pytest.mark.parametrize("change", [{"width": 0}, {"n_channels": -1}])
def test_sizes_below_one_are_refused(change):
    with pytest.raises(ValueError, match="at least 1"):
        InterpolationConfig(**change)


@pytest.mark.parametrize(("pixels", "t"), [(2, 0.5), (4, 0.25), (8, 0.5), (8, 0.75)])
def test_what_one_frame_hides_is_taken_from_the_other_and_what_covers_it_covers_it(pixels, t):
    """A bright square moves over a dark ground that one of the frames hides on either side of it."""

    def frame(x):
        picture = torch.full((1, 3, 24, 48), -0.5)
        picture[..., 8:16, x : x + 8] = 0.9
        return picture

    def flow(x, right):
        field = torch.zeros(1, 2, 24, 48)
        field[:, 0, 8:16, x : x + 8] = right
        return field

    first, second, true = frame(12), frame(12 + pixels), frame(12 + int(pixels * t))
    made = interpolate(first, second, flow(12, float(pixels)), flow(12 + pixels, -float(pixels)), t)
    average = torch.lerp(first, second, t)
    assert (made - true).abs().max() < 0.2
    assert (average - true).abs().max() > 0.3
