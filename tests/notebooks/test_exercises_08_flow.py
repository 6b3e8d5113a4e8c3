"""The exercises of section 8.1 on flow matching accept right answers and refuse the usual wrong ones."""

import pytest
import torch

from aigc_lib.models.flow_matching import integrate
from aigc_lib.teaching import exercises


def is_right(exercise_id, answer):
    return exercises.all_exercises()[exercise_id].is_right(answer)


def velocity(m, s):
    """Exact, for data N(m, s²)."""

    def at(x, time):
        t = time[:, None]
        return m + (t * s**2 - (1 - t)) / ((1 - t) ** 2 + (t * s) ** 2) * (x - t * m)

    return at


def carried(noise, m, s, solver):
    x = torch.tensor([[noise]], dtype=torch.float64)
    return integrate(velocity(m, s), x, n_steps=1, solver=solver).item()


def test_one_euler_step_carries_everything_to_the_mean():
    assert is_right("8.1-one-euler-step", lambda noise, m, s: m)
    assert is_right("8.1-one-euler-step", lambda noise, m, s: carried(noise, m, s, "euler"))


@pytest.mark.parametrize(
    "answer",
    [
        lambda noise, m, s: m + s * noise,  # the exact solution
        lambda noise, m, s: m - noise,  # the velocity, not the place
        lambda noise, m, s: noise + m,  # x₀ is forgotten in x₁ − x₀
        lambda noise, m, s: 0.0,
    ],
)
def test_wrong_euler_steps_fail(answer):
    assert not is_right("8.1-one-euler-step", answer)


def test_one_midpoint_step_shrinks_small_spreads():
    assert is_right("8.1-one-midpoint-step", lambda s: 2 * s**2 / (1 + s**2))
    assert is_right("8.1-one-midpoint-step", lambda s: carried(1.0, 0.7, s, "midpoint") - 0.7)


@pytest.mark.parametrize("answer", [lambda s: s, lambda s: 0.0, lambda s: s**2, lambda s: 1 + (s**2 - 1) / 2])
def test_wrong_spreads_fail(answer):
    assert not is_right("8.1-one-midpoint-step", answer)
