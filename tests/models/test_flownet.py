"""FlowNet: the correlation is what a loop gives, flows keep their units, and a few steps of training find a motion."""

import copy
import math
from itertools import accumulate

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

from aigc_lib.models.flownet import (
    LEVEL_WEIGHTS,
    FlowNet,
    FlowNetConfig,
    correlation,
    end_point_error,
    estimate_flow,
    multiscale_loss,
    resize_flow,
    warp,
)

SMALL = {"width": 6, "radius": 3}


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_loop(first: torch.Tensor, second: torch.Tensor, radius: int, stride: int) -> torch.Tensor:
    """Equation 1 of the paper, one displacement after another."""
    h, w = first.shape[2:]
    framed = F.pad(second, [radius] * 4)
    steps = range(0, 2 * radius + 1, stride)
    return torch.stack([(first * framed[:, :, dy : dy + h, dx : dx + w]).sum(dim=1) for dy in steps for dx in steps], 1)


# --- the correlation -------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 20), st.integers(1, 20)),
    radius=st.integers(0, 5),
    stride=st.integers(1, 3),
)
def test_the_correlation_is_that_of_a_loop_over_displacements(shape, radius, stride):
    first, second = noise(2, *shape, dtype=torch.float64)
    ours = correlation(first, second, radius=radius * stride, stride=stride)
    torch.testing.assert_close(ours, by_loop(first, second, radius * stride, stride), atol=1e-10, rtol=0)


def test_radius_20_in_steps_of_2_gives_the_441_channels_of_the_paper():
    maps = noise(1, 4, 6, 6)
    assert correlation(maps, maps, radius=20, stride=2).shape == (1, 441, 6, 6)
    assert correlation(maps, maps, radius=10).shape == (1, 441, 6, 6)


@settings(max_examples=30, deadline=None)
@given(right=st.integers(-4, 4), down=st.integers(-4, 4))
def test_the_largest_likeness_is_at_the_shift_that_was_planted(right, down):
    whole = F.normalize(noise(1, 16, 24, 24), dim=1)
    first, second = whole[:, :, 6:18, 6:18], whole[:, :, 6 - down : 18 - down, 6 - right : 18 - right]
    best = correlation(first, second, radius=4)[0].argmax(dim=0)[4:-4, 4:-4]
    assert (best == (down + 4) * 9 + right + 4).all()


def test_the_correlation_has_the_gradient_of_the_loop():
    first, second = (each.requires_grad_() for each in noise(2, 1, 3, 9, 11, dtype=torch.float64))
    weight = noise(1, 25, 9, 11, seed=1, dtype=torch.float64)
    ours, expected = (
        torch.autograd.grad((how * weight).sum(), (first, second))
        for how in (correlation(first, second, radius=2), by_loop(first, second, 2, 1))
    )
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


def test_the_correlation_keeps_no_more_products_than_it_says():
    maps = noise(1, 4, 128, 128)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        result = correlation(maps, maps, radius=8)
    events = sorted(seen.events(), key=lambda event: event.time_range.start)
    peak = max(accumulate(event.self_cpu_memory_usage for event in events))
    assert peak < 2.5 * 4 * result.numel()  # in bytes; with all products at once it is three times the result


def test_maps_and_radii_that_do_not_fit_are_named():
    maps = torch.zeros(1, 2, 4, 4)
    with pytest.raises(ValueError, match="of one shape"):
        correlation(maps, maps[..., :3], radius=1)
    with pytest.raises(ValueError, match="multiple of stride, both not negative, got 3 and 2"):
        correlation(maps, maps, radius=3, stride=2)


# --- the network -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[False, True], ids=["FlowNetS", "FlowNetC"])
def network(request) -> FlowNet:
    torch.manual_seed(0)
    network = FlowNet(FlowNetConfig(correlation=request.param, **SMALL)).eval()
    with torch.no_grad():
        for head in network.predict:
            head.weight.mul_(300)  # they start at almost no motion
    return network


@pytest.mark.parametrize("size", [(64, 96), (33, 70), (1, 1)])
def test_flow_has_the_size_of_the_frames_whatever_it_is(network, size):
    first, second = noise(2, 2, 3, *size)
    flow = network(first, second)
    assert flow.shape == (2, 2, *size)
    assert flow.isfinite().all()
    assert torch.equal(flow, network(first, second))


def test_the_pyramid_doubles_from_level_to_level(network):
    flows = network.pyramid(*noise(2, 1, 3, 64, 96))
    assert [tuple(flow.shape) for flow in flows] == [(1, 2, 64 // n, 96 // n) for n in (32, 16, 8, 4)]


def test_frames_of_an_odd_size_are_continued_and_their_flow_is_cut_back_exactly(network):
    first, second = noise(2, 1, 3, 50, 61)
    continued = (F.pad(frame, (0, 3, 0, 14), mode="replicate") for frame in (first, second))
    assert torch.equal(network(first, second), network(*continued)[:, :, :50, :61])


def test_in_mixed_precision_flow_is_added_up_in_float32(network):
    first, second = noise(2, 1, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        flows = network.pyramid(first, second)
    assert [flow.dtype for flow in flows[1:]] == [torch.float32] * 3
    assert copy.deepcopy(network).bfloat16()(first.bfloat16(), second.bfloat16()).dtype == torch.float32
    assert resize_flow(torch.full((1, 2, 2, 2), 24.125).bfloat16(), (2, 3)).dtype == torch.float32


def test_a_pair_does_not_depend_on_its_neighbours_in_the_batch(network):
    first, second = noise(2, 3, 3, 32, 32)
    alone = network(first[1:2], second[1:2])
    torch.testing.assert_close(network(first, second)[1:2], alone, atol=1e-4, rtol=1e-4)


def test_only_flownet_c_compares():
    parts = [{name for name, _ in FlowNet(FlowNetConfig(correlation=c)).named_children()} for c in (False, True)]
    assert parts[1] - parts[0] == {"compare", "redirect"}
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        FlowNetConfig(width=0)


def test_frames_that_do_not_fit_are_named(network):
    with pytest.raises(ValueError, match=r"expected two float frames \(B, 3, H, W\)"):
        network(torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 32))
    with pytest.raises(ValueError, match=r"got torch.uint8 \(1, 3, 32, 32\) and torch.uint8"):
        network(*torch.zeros(2, 1, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(ValueError, match="of one shape"):
        network(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 64))


def shifted_pairs(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Textures moved by up to 6 whole pixels, 32 × 32, and their flow."""
    generator = torch.Generator().manual_seed(seed)
    whole = F.interpolate(torch.randn(n, 3, 24, 24, generator=generator), 48, mode="bilinear")
    shift = torch.randint(-6, 7, (n, 2), generator=generator)
    second = torch.stack(
        [w[:, 8 - y : 40 - y, 8 - x : 40 - x] for w, (x, y) in zip(whole, shift.tolist(), strict=True)]
    )
    return whole[:, :, 8:40, 8:40], second, shift.float()[:, :, None, None].expand(n, 2, 32, 32)


def test_some_seconds_of_nothing_but_shifts_teach_flownet_c_to_measure_them():
    torch.manual_seed(0)
    network = FlowNet(FlowNetConfig(correlation=True, **SMALL))
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for step in range(200):
        first, second, flow = shifted_pairs(16, seed=step)
        optimiser.zero_grad()
        multiscale_loss(network.pyramid(first, second), flow).backward()
        optimiser.step()
    first, second, flow = shifted_pairs(32, seed=1000)
    with torch.no_grad():
        found, back = network(first, second), network(second, first)
        looked_twice = estimate_flow(network, first, second, scales=(1.0, 1.0))
    zero = end_point_error(torch.zeros_like(flow), flow)
    assert end_point_error(found, flow) < 0.45 * zero
    assert end_point_error(back, -flow) < 0.45 * zero  # the other way round the flow changes its sign
    assert end_point_error(looked_twice, flow) < 0.45 * zero


# --- sizes and losses ------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(right=st.floats(-9, 9), down=st.floats(-9, 9), h=st.integers(1, 30), w=st.integers(1, 30))
def test_resized_flow_points_at_the_same_place_of_the_picture(right, down, h, w):
    flow = torch.tensor([right, down]).view(1, 2, 1, 1).expand(1, 2, 8, 10)
    resized = resize_flow(flow, (h, w))
    assert resized.shape == (1, 2, h, w)
    expected = torch.tensor([right * w / 10, down * h / 8])
    torch.testing.assert_close(resized.mean(dim=(0, 2, 3)), expected, atol=1e-4, rtol=1e-4)


def test_the_end_point_error_is_a_mean_of_lengths():
    target = torch.zeros(1, 2, 1, 3)
    flow = torch.tensor([[[[3.0, 0, 6]], [[4.0, 0, 8]]]])
    assert end_point_error(flow, target) == 5
    assert end_point_error(flow, target, torch.tensor([[[True, True, False]]])) == 2.5
    assert end_point_error(flow, target, torch.zeros(1, 1, 3, dtype=torch.bool)) == 0


@pytest.mark.parametrize("unknown", [1e10, math.inf, math.nan])
def test_what_is_unknown_has_no_error_and_does_not_pull(unknown):
    target, valid = noise(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool)
    valid[:, 1:] = True
    flow = (target + 1).requires_grad_()
    end_point_error(flow, torch.where(valid[:, None], target, unknown), valid).backward()
    assert torch.equal(flow.grad[0].ne(0).any(dim=0), valid[0])
    assert flow.grad.isfinite().all()


def test_every_wrong_pixel_pulls_equally_hard_and_a_right_one_not_at_all():
    target = noise(1, 2, 4, 4)
    flow = (target + torch.logspace(-3, 3, 16).view(1, 1, 4, 4)).requires_grad_()
    flow.data[..., 0, 0] = target[..., 0, 0]
    end_point_error(flow, target).backward()
    pull = torch.linalg.vector_norm(flow.grad, dim=1)[0]
    assert pull[0, 0] == 0  # written out as a square root it is NaN
    torch.testing.assert_close(pull.flatten()[1:], torch.full((15,), 1 / 16))


def test_the_multiscale_loss_of_the_truth_is_zero_whatever_the_unknown_pixels_say():
    target = F.interpolate(noise(2, 2, 2, 3), scale_factor=32)  # the same within each coarsest pixel
    flows = [F.avg_pool2d(target, n) / n for n in (32, 16, 8, 4)]
    assert multiscale_loss(flows, target) < 1e-5
    valid = torch.ones(2, 64, 96, dtype=torch.bool)
    valid[:, ::2] = False
    for unknown in (1e4, math.inf, math.nan):
        spoiled = torch.where(valid[:, None], target, unknown)
        assert multiscale_loss(flows, spoiled, valid) < 1e-3
        assert not multiscale_loss(flows, spoiled) < 1


def test_the_multiscale_loss_counts_pixels_of_full_size_at_every_level():
    target = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1).expand(1, 2, 64, 64)
    flows = [torch.zeros(1, 2, 64 // n, 64 // n) for n in (64, 32, 16, 8, 4)]
    sums = [5 * weight * 4**i for i, weight in enumerate(LEVEL_WEIGHTS)]  # four times the pixels at each level
    assert multiscale_loss(flows, target).item() == pytest.approx(sum(sums))
    assert multiscale_loss(flows[-1:], target).item() == pytest.approx(5 * LEVEL_WEIGHTS[-1])


def test_losses_name_what_does_not_fit():
    flow = torch.zeros(1, 2, 4, 4)
    with pytest.raises(ValueError, match=r"two flows \(B, 2, H, W\)"):
        end_point_error(flow, flow[:, :1])
    with pytest.raises(ValueError, match=r"valid must be bool \(1, 4, 4\), got torch.bool \(1, 1, 4, 4\)"):
        end_point_error(flow, flow, torch.ones(1, 1, 4, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="expected 1 to 5 flows, got 0"):
        multiscale_loss([], flow)
    with pytest.raises(ValueError, match="a target of 50×61 is no multiple of a flow of 2×2"):
        multiscale_loss(
            FlowNet(FlowNetConfig(**SMALL)).pyramid(*torch.zeros(2, 1, 3, 50, 61)), torch.zeros(1, 2, 50, 61)
        )


# --- several looks ---------------------------------------------------------------------------------------------------


def test_each_look_sees_the_second_frame_brought_nearer_by_the_looks_before():
    first = F.interpolate(noise(1, 3, 8, 8), 64, mode="bicubic")
    second, seen = first.roll(8, dims=3), []

    def halfway(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """An estimator that always says 4 pixels to the right at full size."""
        seen.append((a.shape[3], (a - b)[..., 8:-16].abs().mean().item()))
        return torch.tensor([4.0 * a.shape[3] / 64, 0]).view(1, 2, 1, 1).expand(1, 2, *a.shape[2:])

    flow = estimate_flow(halfway, first, second, scales=(0.5, 1.0))
    torch.testing.assert_close(flow, torch.tensor([8.0, 0]).view(1, 2, 1, 1).expand(1, 2, 64, 64))
    assert [width for width, _ in seen] == [32, 64]
    assert seen[1][1] < 0.8 * seen[0][1]
    assert (warp(second, flow) - first)[..., :-8].abs().max() < 1e-6


def test_looks_at_no_scale_are_refused():
    frame = torch.zeros(1, 3, 8, 8)
    for scales in ((), (0.0,), (2.0,)):
        with pytest.raises(ValueError, match=r"each in \(0, 1\]"):
            estimate_flow(lambda a, b: a[:, :2], frame, frame, scales=scales)
