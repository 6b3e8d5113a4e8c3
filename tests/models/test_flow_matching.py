"""Flow matching: the velocity of Gaussians in closed form is the truth for the loss, the solvers and the likelihood."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lib.models.flow_matching import (
    FlowMatching,
    FlowMatchingConfig,
    flow_log_likelihood,
    integrate,
    matching_loss,
    passes,
    score_from_velocity,
    time_features,
)

SMALL = {"width": 4, "max_width": 8, "n_heads": 2}
MEAN, SPREAD = 0.7, 0.3  # of the data N(MEAN, SPREAD²) that noise is carried to


def variance(t):
    return (1 - t) ** 2 + (t * SPREAD) ** 2  # of x_t


def gaussian_velocity(x, time):
    """E[x₁ − x₀ | x_t = x] for x₁ ~ N(MEAN, SPREAD²): mean + covariance / variance · (x − t·mean)."""
    t = time.view(-1, *[1] * (x.ndim - 1))
    return MEAN + (t * SPREAD**2 - (1 - t)) / variance(t) * (x - t * MEAN)


def alive(**options) -> FlowMatching:
    """A network whose zero layers have been filled, as after training."""
    torch.manual_seed(0)
    model = FlowMatching(FlowMatchingConfig(**(SMALL | options))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.2)
    return model


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_the_least_loss_is_that_of_the_mean_velocity_of_gaussians(t):
    n = 40_000
    x = MEAN + SPREAD * torch.randn(n, 1, generator=generator(), dtype=torch.float64)
    noise = torch.randn(n, 1, generator=generator(1), dtype=torch.float64)
    time = torch.full((n,), t, dtype=torch.float64)

    def loss(line):
        return matching_loss(lambda y, _: line[0] * y + line[1], x, noise, time).mean()

    start = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(start), start)
    a, b = best = -torch.linalg.solve(torch.autograd.functional.hessian(loss, start), gradient)  # it is quadratic
    slope = (t * SPREAD**2 - (1 - t)) / variance(t)
    left = SPREAD**2 + 1 - slope**2 * variance(t)  # variance of x₁ − x₀ that x_t does not explain
    error = math.sqrt(left / variance(t) / n)
    assert a.item() == pytest.approx(slope, abs=4 * error)
    assert b.item() == pytest.approx(MEAN * (1 - slope * t), abs=4 * math.sqrt(left / n) + 4 * error)
    assert loss(best).item() == pytest.approx(left, abs=4 * left * math.sqrt(2 / n))


def test_the_exact_field_carries_noise_to_the_data_point_by_point():
    noise = torch.randn(500, 1, generator=generator(), dtype=torch.float64)
    carried = integrate(gaussian_velocity, noise, n_steps=200)
    torch.testing.assert_close(carried, MEAN + SPREAD * noise, atol=1e-4, rtol=0)  # x_t = t m + √var(t) x₀ solves it
    back = integrate(gaussian_velocity, carried, n_steps=200, start=1.0, end=0.0)
    torch.testing.assert_close(back, noise, atol=1e-3, rtol=0)


def orders(solver, velocity, noise, true, end):
    errors = [
        (integrate(velocity, noise, n_steps=n, solver=solver, end=end) - true).abs().max() for n in (64, 128, 256)
    ]
    return [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2)])
def test_the_error_falls_with_the_order_of_the_solver(solver, order):
    noise = torch.randn(50, 1, generator=generator(), dtype=torch.float64)
    field, end = lambda y, t: y * (3 * t).cos()[:, None], 0.8  # solved by x₀ exp(sin(3t) / 3)
    found = orders(solver, field, noise, noise * math.exp(math.sin(3 * end) / 3), end)
    assert found == pytest.approx([order, order], abs=0.1)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 3)])
def test_on_the_straight_path_between_gaussians_the_midpoint_rule_gains_an_order(solver, order):
    # dx/dt = a x with a = dV/dt / 2V; the third derivative of the quadratic V(t) is the h³ term.
    noise = torch.randn(50, 1, generator=generator(), dtype=torch.float64)
    true = 0.8 * MEAN + math.sqrt(variance(0.8)) * noise
    assert orders(solver, gaussian_velocity, noise, true, 0.8) == pytest.approx([order, order], abs=0.1)


def test_a_straight_field_needs_one_step_of_either_solver():
    x = torch.randn(5, 2, generator=generator())
    for solver in ("euler", "midpoint"):
        moved = integrate(lambda y, _: torch.full_like(y, 3.0), x, n_steps=1, solver=solver)
        torch.testing.assert_close(moved, x + 3)


@pytest.mark.parametrize("exact", [True, False])
def test_the_likelihood_of_the_exact_field_is_that_of_the_gaussian(exact):
    x = MEAN + SPREAD * torch.randn(7, 1, 2, 3, generator=generator(), dtype=torch.float64)
    found = flow_log_likelihood(gaussian_velocity, x, n_steps=200, generator=None if exact else generator(2))
    true = torch.distributions.Normal(MEAN, SPREAD).log_prob(x).flatten(1).sum(dim=1)
    # The field is the same in every direction, so one probe of ±1 gives the trace itself.
    torch.testing.assert_close(found, true, atol=2e-3, rtol=0)


def test_hutchinsons_estimate_is_unbiased_where_directions_differ():
    matrix = torch.randn(6, 6, generator=generator(), dtype=torch.float64) / 3
    field = lambda y, _: y @ matrix.T  # noqa: E731
    x = torch.randn(1, 6, generator=generator(1), dtype=torch.float64)
    exact = flow_log_likelihood(field, x, n_steps=200)
    # x₁ = exp(A) x₀, so log p(x) = log N(exp(−A) x; 0, I) − trace(A).
    base = torch.linalg.matrix_exp(-matrix) @ x[0]
    true = -base.square().sum() / 2 - 3 * math.log(2 * math.pi) - matrix.trace()
    assert exact.item() == pytest.approx(true.item(), abs=1e-4)
    n = 4000
    guesses = flow_log_likelihood(field, x.repeat(n, 1), n_steps=50, generator=generator(2))
    assert guesses.std() > 0.1
    assert guesses.mean().item() == pytest.approx(true.item(), abs=4 * guesses.std().item() / math.sqrt(n))


def test_the_score_is_the_gradient_of_the_log_density_on_the_way():
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    for t in (0.0, 0.4, 0.95):
        time = torch.full((9,), t, dtype=torch.float64)
        score = score_from_velocity(gaussian_velocity(x, time), x, time)
        torch.testing.assert_close(score, -(x - t * MEAN) / variance(t))


@given(height=st.integers(8, 21), width=st.integers(8, 21), batch=st.integers(1, 3), n_halvings=st.integers(1, 3))
@settings(deadline=None, max_examples=25)
def test_the_velocity_has_the_shape_of_the_image_odd_sizes_too(height, width, batch, n_halvings):
    model = alive(n_halvings=n_halvings, n_channels=2)
    x = torch.randn(batch, 2, height, width, generator=generator())
    assert model(x, torch.rand(batch, generator=generator())).shape == x.shape


def test_every_pixel_reaches_every_other_through_the_attention():
    x = torch.randn(1, 1, 32, 32, generator=generator(), requires_grad=True)
    (far,) = torch.autograd.grad(alive()(x, torch.tensor([0.5]))[0, 0, 0, 0], x)
    assert (far != 0).all()


def test_images_of_a_batch_do_not_meet():
    model, x = alive(n_classes=3), torch.randn(3, 1, 9, 12, generator=generator())
    time, condition = torch.tensor([0.1, 0.5, 1.0]), torch.tensor([2, 0, 3])
    together = model(x, time, condition)
    for i in range(3):
        alone = model(x[i : i + 1], time[i : i + 1], condition[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-4)


def test_time_and_class_reach_the_velocity():
    model, x = alive(n_classes=3), torch.randn(1, 1, 8, 8, generator=generator()).repeat(4, 1, 1, 1)
    by_time = model(x, torch.tensor([0.0, 0.3, 0.301, 1.0]))
    by_class = model(x, torch.full((4,), 0.5), torch.arange(4))
    for some in (by_time, by_class):
        assert torch.pdist(some.flatten(1)).min() > 1e-4


def test_time_features_tell_a_thousand_times_apart():
    found = time_features(torch.linspace(0, 1, 1001), 16)
    assert found.shape == (1001, 16)
    torch.testing.assert_close(found[0], torch.tensor([0.0] * 8 + [1.0] * 8))
    expected = torch.tensor([math.sin(500), math.cos(500)])
    torch.testing.assert_close(found[500, [0, 8]], expected, atol=1e-3, rtol=0)
    assert torch.pdist(found).min() > 0.1


def test_an_untrained_network_stands_still_and_its_loss_is_that_of_zero():
    model = FlowMatching(FlowMatchingConfig(**SMALL))
    x = torch.full((64, 1, 8, 8), 0.5)
    assert model(x, torch.rand(64, generator=generator())).abs().max() == 0
    loss = model.loss(x, generator=generator())  # E (0.5 − ε)² = 1.25, of 4,096 numbers
    assert loss.item() == pytest.approx(1.25, abs=4 * math.sqrt(3 / 4096))


def test_guidance_zero_is_no_class_one_is_the_class_and_two_is_as_far_again():
    model, x = alive(n_classes=3), torch.randn(2, 1, 8, 8, generator=generator())
    time, condition = torch.tensor([0.2, 0.7]), torch.tensor([0, 2])
    free, chosen = model(x, time), model(x, time, condition)
    assert torch.equal(model.guided(x, time, condition, 0.0), free)
    assert torch.equal(model.guided(x, time, None, 2.0), free)
    assert torch.equal(model.guided(x, time, condition, 1.0), chosen)
    torch.testing.assert_close(model.guided(x, time, condition, 2.0), 2 * chosen - free, atol=1e-5, rtol=1e-4)
    assert torch.equal(free, model(x, time, torch.full((2,), 3)))


def test_training_forgets_the_class_as_often_as_it_says():
    model = FlowMatching(FlowMatchingConfig(**SMALL, n_classes=3, dropout=0.25))
    kept = model.forgotten(torch.full((4,), 1), torch.tensor([0.0, 0.249, 0.25, 0.9]))
    assert kept.tolist() == [3, 3, 1, 1]
    seen = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))
    model.loss(torch.zeros(4000, 1, 4, 4), torch.full((4000,), 1), generator=generator())
    assert (seen[0] == 3).float().mean().item() == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 4000))
    assert FlowMatching(FlowMatchingConfig(**SMALL)).forgotten(None, torch.zeros(4)) is None


@pytest.mark.parametrize("solver", ["euler", "midpoint"])
@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.5])
def test_the_passes_that_are_counted_are_those_that_happen(solver, guidance):
    model, seen = alive(n_classes=3), []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    how = {"n_steps": 3, "solver": solver, "guidance": guidance}
    model.sample((2, 1, 8, 8), torch.tensor([0, 1]), **how, generator=generator())
    assert sum(seen) / 2 == passes(**how)


def test_samples_are_images_the_same_for_the_same_generator():
    model = alive(n_classes=3)
    first, again, other = (
        model.sample((1, 1, 9, 8), torch.tensor([1]), n_steps=1, generator=generator(seed)) for seed in (0, 0, 1)
    )
    assert first.shape == (1, 1, 9, 8)
    assert first.abs().max() <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not first.requires_grad


def test_the_likelihood_of_the_network_is_that_of_its_map():
    """One image of 4×4 pixels: log |det ∂x₀/∂x₁| of the solver's own map, by autograd, as the truth."""
    model = alive(n_classes=2, n_halvings=1).double()
    with torch.no_grad():
        model.head.weight.mul_(0.1)
    x, condition = torch.randn(1, 1, 4, 4, generator=generator(), dtype=torch.float64), torch.tensor([1])
    found = model.log_likelihood(x, condition, n_steps=16)

    def way(y):  # in the steps of the likelihood, s with t = 1 − (1 − s)³
        field = lambda z, at: 3 * (1 - at) ** 2 * model(z, 1 - (1 - at) ** 3, condition)  # noqa: E731
        return integrate(field, y.view(1, 1, 4, 4), n_steps=16, start=1.0, end=0.0).flatten()

    jacobian = torch.autograd.functional.jacobian(way, x.flatten())
    true = torch.linalg.slogdet(jacobian).logabsdet - way(x.flatten()).square().sum() / 2 - 8 * math.log(2 * math.pi)
    assert found.item() == pytest.approx(true.item(), abs=1e-3)
    assert not found.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


def test_it_learns_in_bfloat16_and_answers_in_float32():
    model = alive(n_classes=3)
    x, condition = torch.randn(4, 1, 12, 10, generator=generator()), torch.tensor([0, 1, 2, 0])
    whole = model(x, torch.full((4,), 0.4), condition)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(x, torch.full((4,), 0.4), condition)
        loss = model.loss(x, condition, generator=generator())
    assert half.dtype == loss.dtype == torch.float32
    torch.testing.assert_close(half, whole, atol=0.05 * whole.abs().max().item(), rtol=0.1)
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"width": 3}, "width must be even"),
        ({"n_halvings": 0}, "n_halvings must be at least 1"),
        ({"n_heads": 3}, "n_heads must divide the 8 channels"),
        ({"resolution": 3}, "at least 2\\^n_halvings = 4, got 3"),
        ({"dropout": 1.0}, "dropout in"),
    ],
)
def test_configurations_that_cannot_be_are_refused(wrong, text):
    with pytest.raises(ValueError, match=text):
        FlowMatchingConfig(**(SMALL | wrong))


@pytest.mark.parametrize(
    ("x", "time", "condition", "text"),
    [
        (torch.zeros(2, 3, 8, 8), torch.zeros(2), None, r"x must be \(B ≥ 1, 1, H ≥ 4, W ≥ 4\), got \(2, 3, 8, 8\)"),
        (torch.zeros(2, 1, 3, 8), torch.zeros(2), None, "x must be"),
        (torch.zeros(0, 1, 8, 8), torch.zeros(0), None, "x must be"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.int64), torch.zeros(2), None, "must be float"),
        (torch.zeros(2, 1, 8, 8), torch.zeros(1), None, "must be float, time"),
        (torch.zeros(2, 1, 8, 8), torch.tensor([0.0, 1.5]), None, r"time must be in \[0, 1\]"),
        (torch.zeros(2, 1, 8, 8), torch.tensor([0.0, math.nan]), None, r"time must be in \[0, 1\]"),
        (torch.zeros(2, 1, 8, 8), torch.zeros(2), torch.tensor([0, 4]), "from 0 to 2, or 3 for no class"),
        (torch.zeros(2, 1, 8, 8), torch.zeros(2), torch.tensor([0.0, 1.0]), "condition must be int64"),
        (torch.zeros(2, 1, 8, 8), torch.zeros(2), torch.tensor([0]), "condition must be int64"),
    ],
)
def test_bad_input_is_refused(x, time, condition, text):
    with pytest.raises(ValueError, match=text):
        alive(n_classes=3)(x, time, condition)


def test_bad_orders_are_refused():
    model = alive()
    with pytest.raises(ValueError, match="no classes"):
        model(torch.zeros(1, 1, 8, 8), torch.zeros(1), torch.tensor([0]))
    with pytest.raises(ValueError, match=r"n_steps ≥ 1 and a solver out of euler, midpoint"):
        model.sample((1, 1, 8, 8), n_steps=0, generator=generator())
    with pytest.raises(ValueError, match="'heun'"):
        model.sample((1, 1, 8, 8), n_steps=1, solver="heun", generator=generator())
    with pytest.raises(ValueError, match=r"shape must be \(B, 1, H, W\), got \(8, 8\)"):
        model.sample((8, 8), n_steps=1, generator=generator())
