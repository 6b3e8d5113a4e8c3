"""Enhancement: bicubic at the start, what its camera does, which noise it finds, and that what is lost stays lost."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lib.models.enhancement import (
    EnhancementConfig,
    VideoEnhancer,
    degrade,
    enhance_clip,
    enlarge,
    noise_level,
    shrink,
)

SMALL = EnhancementConfig(width=4, n_blocks=2)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def trained(seed=0):
    """A network whose details are not zero any more."""
    torch.manual_seed(seed)
    network = VideoEnhancer(SMALL)
    torch.nn.init.normal_(network.detail.weight, std=0.05)
    return network


@given(size=st.tuples(st.integers(1, 20), st.integers(1, 20)), level=st.floats(0, 0.3))
@settings(deadline=None, max_examples=8)
def test_untrained_it_is_bicubic_of_the_middle_frame_in_any_size(size, level):
    frames = noise(2, 3, 3, *size)
    made = VideoEnhancer(SMALL)(frames, torch.full((2,), level))
    assert made.shape == (2, 3, 2 * size[0], 2 * size[1])
    torch.testing.assert_close(made, enlarge(frames[:, 1]))


def test_bicubic_keeps_straight_lines_and_shrinking_undoes_it_there():
    ramp = (0.1 * torch.arange(12.0) - 0.5).expand(1, 1, 8, 12)
    inner = enlarge(ramp)[..., 4:-4]
    torch.testing.assert_close(inner.diff(dim=3), torch.full_like(inner.diff(dim=3), 0.05), atol=0.02, rtol=0)
    torch.testing.assert_close(shrink(enlarge(ramp))[..., 2:-2], ramp[..., 2:-2])


def test_every_frame_and_the_noise_level_count_and_all_weights_learn():
    network, frames, level = trained(), noise(1, 3, 3, 8, 8).requires_grad_(), torch.tensor([0.1], requires_grad=True)
    network(frames, level).square().sum().backward()
    assert all(frames.grad[0, i].abs().sum() > 0 for i in range(3))
    assert level.grad.item() != 0
    assert all(p.grad.isfinite().all() and p.grad.any() for p in network.parameters())


def test_examples_of_a_batch_do_not_see_each_other():
    network, frames, levels = trained(), noise(2, 3, 3, 6, 7), torch.tensor([0.0, 0.2])
    alone = torch.cat([network(frames[i : i + 1], levels[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(network(frames, levels), alone, atol=1e-5, rtol=0)


def test_in_a_clip_each_frame_has_its_neighbours_and_time_stands_still_at_the_ends():
    network, clip = trained(), noise(4, 3, 6, 8).clamp(-1, 1)
    made = enhance_clip(network, clip, 0.1)
    assert made.shape == (4, 3, 12, 16)
    assert made.abs().max() <= 1
    for i in range(4):
        around = clip[[max(i - 1, 0), i, min(i + 1, 3)]][None]
        torch.testing.assert_close(made[i : i + 1], network(around, torch.tensor([0.1])).clamp(-1, 1))
    still = enhance_clip(network, clip[:1], 0.1)
    torch.testing.assert_close(still, network(clip[:1].expand(3, -1, -1, -1)[None], torch.tensor([0.1])).clamp(-1, 1))


def test_the_camera_takes_means_of_four_and_adds_noise_of_the_level():
    true = (0.2 * noise(1, 3, 64, 96)).clamp(-1, 1)
    blocks = true.unflatten(2, (32, 2)).unflatten(4, (48, 2)).mean(dim=(3, 5))
    generator = torch.Generator().manual_seed(0)
    torch.testing.assert_close(degrade(true, 0.0, generator=generator), blocks)
    added = degrade(true, 0.1, generator=generator, shrunk=False) - true
    assert added.std().item() == pytest.approx(0.1, rel=0.03)
    assert degrade(true, 5.0, generator=generator).abs().max() == 1


@given(level=st.floats(0.02, 0.2), seed=st.integers(0, 100))
@settings(deadline=None, max_examples=20)
def test_noise_on_a_smooth_picture_is_found(level, seed):
    y, x = torch.meshgrid(torch.arange(64) * 0.05, torch.arange(80) * 0.07, indexing="ij")
    smooth = 0.5 * torch.stack([x.sin(), (x + y).cos(), y.sin()])[None]
    found = noise_level(smooth + level * noise(1, 3, 64, 80, seed=seed))
    # A median of 3,840 values |z|: its relative standard deviation is 1.17 / √3840 = 0.019.
    assert found.item() == pytest.approx(level, rel=0.08)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (3, 5)])
def test_noise_of_the_smallest_frames(size):
    assert noise_level(torch.zeros(2, 3, *size)).tolist() == [0, 0]


def test_two_truths_that_look_alike_to_the_camera_get_the_same_answer():
    """What a mean of four hides, no network can restore: for one of the two it is wrong by half of what they differ."""
    board = torch.tensor([[0.3, -0.3], [-0.3, 0.3]]).repeat(8, 8).expand(1, 3, 16, 16)
    one = 0.1 * noise(1, 3, 16, 16)
    other = one + board
    torch.testing.assert_close(shrink(one), shrink(other))
    made = enhance_clip(trained(), shrink(one), 0.0)
    torch.testing.assert_close(enhance_clip(trained(), shrink(other), 0.0), made)
    worse = max((made - each).square().mean().sqrt() for each in (one, other))
    assert worse >= 0.3 - 1e-6


def test_shrinking_commutes_with_the_mean_over_films():
    films = noise(50, 3, 8, 8)
    torch.testing.assert_close(shrink(films.mean(dim=0, keepdim=True)), shrink(films).mean(dim=0, keepdim=True))


def test_the_shipped_size_is_small():
    n = sum(p.numel() for p in VideoEnhancer(EnhancementConfig()).parameters())
    assert n < 180_000  # 360 kB in float16


@pytest.mark.parametrize("change", [{"width": 0}, {"n_blocks": 0}, {"n_frames": 2}, {"n_channels": 0}])
def test_sizes_that_make_no_network_are_refused(change):
    with pytest.raises(ValueError, match="odd number of frames"):
        EnhancementConfig(**change)


@pytest.mark.parametrize(
    ("frames", "level"), [((1, 1, 3, 8, 8), 1), ((1, 3, 1, 8, 8), 1), ((3, 3, 8, 8), 3), ((2, 3, 3, 8, 8), 1)]
)
def test_frames_of_another_shape_are_refused(frames, level):
    with pytest.raises(ValueError, match=r"expected frames \(B, 3, 3, H, W\) and noise \(B,\)"):
        VideoEnhancer(SMALL)(torch.zeros(frames), torch.full((level,), 0.1))


def test_the_mean_of_the_posterior_varies_less_than_what_it_estimates():
    """Two correlated pixels, their mean seen: in closed form, and by a million draws."""
    rho = 0.6
    prior = torch.tensor([[1, rho], [rho, 1]], dtype=torch.float64)
    camera = torch.tensor([[0.5, 0.5]], dtype=torch.float64)
    gain = prior @ camera.mT / (camera @ prior @ camera.mT)
    posterior = prior - gain @ camera @ prior
    pixels = noise(1_000_000, 2).double() @ torch.linalg.cholesky(prior).mT
    estimate = pixels @ camera.mT @ gain.mT
    assert estimate.var(dim=0).mean().item() == pytest.approx((1 + rho) / 2, abs=0.01)
    assert (pixels - estimate).square().mean().item() == pytest.approx(posterior.trace().item() / 2, abs=0.01)
    assert math.isclose(posterior.trace().item() / 2, (1 - rho) / 2)
