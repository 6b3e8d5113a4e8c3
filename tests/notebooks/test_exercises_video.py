"""The exercises on video: right answers pass, the mistakes that learners make do not. And every system is there."""

import math
from pathlib import Path

import pytest
import torch

import aigc_lib.models
from aigc_lib.models.flownet import FlowNet, FlowNetConfig
from aigc_lib.models.stylegan import StyleGANConfig, StyleGenerator
from aigc_lib.models.warping import warp
from aigc_lib.teaching.exercises import all_exercises

ROOT = Path(__file__).parents[2]
SYSTEMS = ("gan", "vae", "rnn", "transformer", "wavenet", "waveglow", "flownet", "stylegan")


def is_right(exercise_id, answer):
    return all_exercises()[exercise_id].is_right(answer)


def missing(stay, n_modes, n_frames):
    gone = 1 - stay
    unsure = -(stay * math.log(stay) if stay else 0) - (gone * math.log(gone / (n_modes - 1)) if gone else 0)
    return (n_frames - 1) * (math.log(n_modes) - unsure)


def shares(errors):
    lengths = errors.norm(dim=1)
    return lengths.max() / lengths.sum(), 1 / len(errors)


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("2.5-missing-nats", missing),
        ("2.5-whiteness", lambda rho: (2 - 2 * rho) / (2 - 2 * rho**2)),
        ("5.2.4-futures", lambda flows: flows.var(dim=0, correction=0).sum()),
        ("5.2.4-ahead", lambda before, last, k: k * last + k * (k + 1) / 2 * (last - before)),
        ("5.3.4-chained", lambda first, second: first + warp(second, first)),
        ("5.3.4-shares", shares),
    ],
)
def test_right_answers_pass(exercise_id, answer):
    assert is_right(exercise_id, answer)


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("2.5-missing-nats", lambda stay, n, f: missing(stay, n, f) * f / (f - 1)),  # the first frame misses nothing
        ("2.5-missing-nats", lambda stay, n, f: missing(stay, n, f) / math.log(2)),  # bits
        ("2.5-whiteness", lambda rho: 1 - rho),  # not divided by the change over two steps
        ("2.5-whiteness", lambda rho: 0.5),  # that of a random walk
        ("5.2.4-futures", lambda flows: flows.square().sum(dim=1).mean()),  # of zero flow
        ("5.2.4-futures", lambda flows: flows.var(dim=0, correction=0).mean()),  # of a component
        ("5.2.4-ahead", lambda before, last, k: k * last),  # no gravity
        ("5.2.4-ahead", lambda before, last, k: k * last + k**2 / 2 * (last - before)),  # counted from the middle
        ("5.3.4-chained", lambda first, second: first + second),
        ("5.3.4-chained", lambda first, second: second + warp(first, second)),  # the wrong way round
        ("5.3.4-shares", lambda errors: (shares(errors)[0] ** 2, 1 / len(errors))),
        ("5.3.4-shares", lambda errors: (shares(errors)[0],) * 2),  # as if the end-point error grew, too
    ],
)
def test_typical_mistakes_do_not(exercise_id, answer):
    assert not is_right(exercise_id, answer)


@pytest.mark.parametrize("name", SYSTEMS)
def test_each_of_the_eight_systems_has_an_implementation_with_tests_of_its_own(name):
    assert (Path(aigc_lib.models.__file__).parent / f"{name}.py").is_file()
    assert "def test_" in (ROOT / "tests" / "models" / f"test_{name}.py").read_text(encoding="utf-8")


def test_flownet_gives_a_flow_and_stylegan_pictures_and_neither_has_an_axis_of_time():
    draw = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, 2, 3, 32, 32, generator=draw) * 2 - 1
    flownet = FlowNet(FlowNetConfig(width=4)).eval()
    stylegan = StyleGenerator(StyleGANConfig(resolution=8, width=4, max_width=8, latent_dim=8)).eval()
    z, order = torch.randn(4, 8, generator=draw), [2, 0, 3, 1]
    with torch.no_grad():
        assert flownet(first, second).shape == (2, 2, 32, 32)
        assert torch.equal(flownet(first, second), flownet(first, second))  # nothing is drawn
        assert stylegan(z).shape == (4, 3, 8, 8)
        assert torch.allclose(stylegan(z[order]), stylegan(z)[order], atol=1e-5)  # frames know nothing of one another
    assert not any(hasattr(flownet, name) for name in ("sample", "generate", "log_likelihood", "elbo"))
