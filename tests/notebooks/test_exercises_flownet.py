"""The exercises of FlowNet in chapters 3 and 4: right answers pass, the mistakes that learners make do not."""

import pytest
import torch

from aigc_lib.models.warping import follow, forward_backward_error, warp
from aigc_lib.teaching.exercises import all_exercises


def is_right(exercise_id, answer):
    return all_exercises()[exercise_id].is_right(answer)


def normal_flow(Ix, Iy, It):
    a = -It / (Ix**2 + Iy**2)
    return a * Ix, a * Iy


def cost(C, H, W, radius, stride):
    return C * H * W * (2 * radius // stride + 1) ** 2


def charbonnier(first, second, flow, epsilon, *, seen_only=True):
    x, y = follow(flow)[0]
    H, W = x.shape
    seen = (x >= 0) & (x <= W - 1) & (y >= 0) & (y <= H - 1)
    penalty = ((first - warp(second, flow)).square() + epsilon**2).sqrt()[0, 0]
    return (penalty[seen] if seen_only else penalty).mean().item()


def window(gradients, changes, least, *, sign=-1):
    tensor = gradients.T @ gradients
    if torch.linalg.eigvalsh(tensor)[0] < least:
        return None
    return torch.linalg.solve(tensor, sign * gradients.T @ changes).tolist()


def smoothest(dx, dy, dt):
    slope = torch.stack([dx, dy]).flatten(1)
    return torch.linalg.solve(slope @ slope.T, -slope @ dt.flatten()).tolist()


RIGHT = [
    ("3.4.1-resize", (-36, 3)),
    ("3.4.1-levels", 6),
    ("3.4.1-window", window),
    ("3.4.1-smooth", smoothest),
    ("4.7-normal-flow", normal_flow),
    ("4.7-cost", cost),
    ("4.7-median", (4, 1)),
    ("4.7-chain", lambda w12, w23: w12 + warp(w23, w12)),
    ("4.7-return", forward_backward_error),
    ("4.7-photometric", charbonnier),
]
WRONG = [
    ("3.4.1-resize", (-12, 1)),  # flow enlarged, values forgotten
    ("3.4.1-resize", (-36, 1)),
    ("3.4.1-levels", 5),  # halvings counted, not sizes
    ("3.4.1-window", lambda A, b, least: window(A, b, least, sign=1)),
    ("3.4.1-window", lambda A, b, least: window(A, b, -1.0)),  # an edge believed
    ("3.4.1-smooth", lambda dx, dy, dt: (0.0, 0.0)),
    ("3.4.1-smooth", lambda dx, dy, dt: (-(dt / dx).mean(), -(dt / dy).mean())),
    ("4.7-normal-flow", lambda Ix, Iy, It: (-It / Ix if Ix else 0.0, -It / Iy if Iy else 0.0)),
    ("4.7-normal-flow", lambda Ix, Iy, It: tuple(-each for each in normal_flow(Ix, Iy, It))),
    ("4.7-cost", lambda C, H, W, r, s: C * H * W * (2 * r + 1) ** 2),  # the stride forgotten
    ("4.7-cost", lambda C, H, W, r, s: H * W * (2 * r // s + 1) ** 2),
    ("4.7-median", (1, 4)),
    ("4.7-median", (4, 4)),
    ("4.7-chain", lambda w12, w23: w12 + w23),  # not read where the first leads
    ("4.7-chain", lambda w12, w23: w12 + warp(w23, -w12)),
    ("4.7-return", lambda forward, backward: (forward + backward).norm(dim=1)),
    ("4.7-photometric", lambda *given: charbonnier(*given, seen_only=False)),
    ("4.7-photometric", lambda first, second, flow, e: charbonnier(second, first, flow, e)),
]


def test_every_exercise_has_an_answer_here():
    assert {each for each in all_exercises() if each.startswith(("3.4.1-", "4.7-"))} == {each for each, _ in RIGHT}


@pytest.mark.parametrize(("exercise_id", "answer"), RIGHT)
def test_right_answers_pass(exercise_id, answer):
    assert is_right(exercise_id, answer)


@pytest.mark.parametrize(("exercise_id", "answer"), WRONG)
def test_typical_mistakes_do_not(exercise_id, answer):
    assert not is_right(exercise_id, answer)
