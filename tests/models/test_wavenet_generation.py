"""Naive, cached and compiled draw the same levels; caching changes no bit of a score; and it is fast."""

import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lib.models import wavenet_generation
from aigc_lib.models.wavenet import WaveNet, WaveNetConfig
from aigc_lib.models.wavenet_generation import _LAMBERT, _run, _tanh, draw

SMALL = {"n_levels": 16, "n_layers": 3, "residual_channels": 6, "gate_channels": 10, "skip_channels": 5}
MEL = {"n_mels": 4, "hop_length": 4, "mel_channels": 3}
WAYS = [(True, True), (False, True), (True, False), (False, False)]  # cached, compiled


def model(dtype: torch.dtype = torch.float64, **options) -> WaveNet:
    torch.manual_seed(0)
    network = WaveNet(WaveNetConfig(**SMALL | options)).to(dtype).eval()
    for name, parameter in network.named_parameters():  # large enough for scores that differ
        torch.nn.init.normal_(parameter, std=0.5) if "interpolate" not in name else None
    return network


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def conditions(network: WaveNet, n_samples: int) -> dict[str, torch.Tensor]:
    c, found = network.config, {}
    if c.n_mels:
        shape = 2, c.n_mels, n_samples // c.hop_length
        found["mel"] = torch.randn(shape, generator=generator()).to(network.embed.weight.dtype) - 4
    if c.n_classes:
        found["labels"] = torch.tensor([[n - 1 for n in c.n_classes], [0] * len(c.n_classes)])
    return found


@pytest.mark.parametrize(
    "options",
    [{}, {"n_stacks": 2}, {"kernel_size": 3, **MEL}, {"n_classes": (3, 2)}, {"n_classes": (2,), "n_stacks": 2, **MEL}],
)
def test_all_ways_draw_the_same_levels(options):
    network = model(**options)
    given = conditions(network, 48)
    drawn = [
        network.generate(48, **given, cached=cached, compiled=compiled, temperature=0.8, generator=generator())
        for cached, compiled in WAYS
    ]
    assert drawn[0].shape == (2 if given else 1, 48)
    assert drawn[0].unique().numel() > 4
    assert all(torch.equal(drawn[0], each) for each in drawn[1:])


@pytest.mark.parametrize("options", [{"n_stacks": 2}, {"kernel_size": 3, "n_classes": (2,), **MEL}])
def test_cached_scores_are_the_naive_ones_bit_for_bit_and_those_of_one_pass(options):
    network = model(**options)
    n, given = 64, conditions(network, 64)
    mel, labels = given.get("mel"), given.get("labels")
    batch = 2 if given else 1
    uniforms = torch.rand(n, batch, dtype=torch.float64, generator=generator())
    scores = [np.zeros((batch, n, 16)) for _ in range(2)]
    drawn = [
        wavenet_generation.compiled(network, mel, labels, uniforms, 1.0, keep=keep, scores=each)
        for keep, each in zip((True, False), scores, strict=True)
    ]
    assert n > 2 * network.receptive_field
    assert np.array_equal(*scores)
    assert torch.equal(*drawn)
    before = F.pad(drawn[0][:, :-1], (1, 0), value=network.silence)
    with torch.no_grad():
        at_once = network.score(before, None if mel is None else network.upsample(mel), labels)
    np.testing.assert_allclose(scores[0], at_once.transpose(1, 2).numpy(), atol=1e-12)


def test_single_precision_draws_what_its_own_scores_say():
    network = model(torch.float32, n_classes=(2,), **MEL)
    given = conditions(network, 96)
    drawn = network.generate(96, **given, generator=generator())
    uniforms = torch.rand(96, 2, dtype=torch.float64, generator=generator())
    scores = np.zeros((2, 96, 16), np.float32)
    wavenet_generation.compiled(network, given["mel"], given["labels"], uniforms, 1.0, scores=scores)
    before = F.pad(drawn[:, :-1], (1, 0), value=network.silence)
    with torch.no_grad():
        at_once = network.score(before, network.upsample(given["mel"]), given["labels"]).transpose(1, 2)
    np.testing.assert_allclose(scores, at_once.numpy(), atol=2e-5)


def test_a_long_sound_is_drawn_in_stretches_that_change_nothing(monkeypatch):
    network = model(**MEL)
    mel = conditions(network, 400)["mel"]
    whole = network.generate(400, mel, generator=generator())
    monkeypatch.setattr(wavenet_generation, "CHUNK", 30)  # 32 samples: 8 frames, the last stretch shorter
    assert torch.equal(network.generate(400, mel, generator=generator()), whole)


def test_the_generator_decides():
    network = model()
    first, again, other = (network.generate(100, generator=generator(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@given(
    logits=st.lists(st.floats(-20, 20), min_size=2, max_size=9),
    uniform=st.floats(0, 1, exclude_max=True),
    temperature=st.floats(0.1, 3),
)
@settings(deadline=None)
def test_a_level_is_drawn_where_the_cumulative_probability_passes_the_number(logits, uniform, temperature):
    cumulative = np.cumsum(np.exp((np.array(logits) - max(logits)) / temperature))
    cumulative /= cumulative[-1]
    level = draw(torch.tensor([logits], dtype=torch.float64), torch.tensor([uniform]), temperature).item()
    assert uniform < cumulative[level] + 1e-9
    assert level == 0 or uniform >= cumulative[level - 1] - 1e-9


def test_levels_come_as_often_as_their_probabilities_say():
    network = model(n_classes=(2,))
    labels = torch.zeros(4000, 1, dtype=torch.int64)
    start = torch.full((1, 1), network.silence)
    for temperature in (1.0, 0.5):
        drawn = network.generate(1, labels=labels, temperature=temperature, generator=generator())[:, 0]
        expected = (network(start, labels=labels[:1])[0, :, 0] / temperature).softmax(dim=0)
        seen = drawn.bincount(minlength=16) / 4000
        assert ((seen - expected).abs() <= 4 * (expected * (1 - expected) / 4000).sqrt() + 1e-9).all()


@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 5e-7), (np.float64, 1e-15)])
def test_the_branchless_tanh_is_tanh(dtype, bound):
    x = np.concatenate([np.linspace(-30, 30, 4001), np.geomspace(1e-30, 1, 1000)]).astype(dtype)
    constants = np.array([*_LAMBERT, 1 / 32, 20, 0.5], dtype)
    found = np.array([_tanh.py_func(each, constants) for each in x])
    exact = np.tanh(x.astype(np.float64))
    assert found.dtype == dtype
    assert np.abs(found - exact).max() <= bound
    assert (np.abs(found / np.where(exact == 0, 1, exact) - 1)[exact != 0]).max() <= 4 * bound


def test_compiled_generation_wants_single_or_double_precision():
    with pytest.raises(ValueError, match=r"float32 or float64, the weights are torch.bfloat16; use model.float\(\)"):
        model(torch.bfloat16).generate(4, generator=generator())


def seconds_a_sample(network: WaveNet, n_samples: int, **way: bool) -> float:
    """CPU time, the best of four: others on the machine only ever make it longer."""
    found = []
    for _ in range(4):
        start = time.process_time()
        network.generate(n_samples, **way, generator=generator())
        found.append((time.process_time() - start) / n_samples)
    return min(found)


def test_machine_code_draws_many_times_as_fast_as_torch():
    # Measured: 29 times, and 25,000 samples a second of one core (tests/benchmarks/bench_wavenet.py).
    torch.manual_seed(0)
    network = WaveNet(WaveNetConfig())  # 10 layers, 64 residual, 64 skip and 128 gate channels, 256 levels
    seconds_a_sample(network, 10)  # compiles
    assert seconds_a_sample(network, 100, compiled=False) > 8 * seconds_a_sample(network, 2_000)


def test_an_integer_temperature_is_compiled_once():
    network = WaveNet(WaveNetConfig(n_levels=8, n_layers=2))
    network.generate(4, temperature=1.0, generator=generator())
    signatures = len(_run.signatures)
    network.generate(4, temperature=1, generator=generator())
    assert len(_run.signatures) == signatures


def test_the_cost_of_a_sample_does_not_grow_with_the_length_and_is_linear_in_the_layers():
    sizes = {"n_layers": 5, "residual_channels": 32, "gate_channels": 64, "skip_channels": 32}
    networks = {n: WaveNet(WaveNetConfig(**sizes, n_stacks=n)) for n in (2, 4, 8)}
    seconds_a_sample(networks[2], 10)
    short, long = (seconds_a_sample(networks[2], n) for n in (500, 4_000))
    assert long < 1.3 * short
    times = {n: seconds_a_sample(network, 1_000) for n, network in networks.items()}
    assert times[8] - times[4] == pytest.approx(2 * (times[4] - times[2]), rel=0.5)
