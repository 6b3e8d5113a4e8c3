"""The μ-law is G.711's, the network is causal with exactly its receptive field, and its likelihood is one of sounds."""

import math
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from aigc_lib.models.wavenet import (
    Layer,
    Upsampling,
    WaveNet,
    WaveNetConfig,
    compress,
    expand,
    mu_law_decode,
    mu_law_encode,
)

SMALL = {"n_levels": 8, "n_layers": 3, "residual_channels": 6, "gate_channels": 10, "skip_channels": 5}
MEL = {"n_mels": 4, "hop_length": 4, "mel_channels": 3}


def model(**options) -> WaveNet:
    torch.manual_seed(0)
    network = WaveNet(WaveNetConfig(**SMALL | options)).double().eval()
    for layer in network.layers:
        for table in layer.labels:
            nn.init.normal_(table.weight)
    return network


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def broken(network: WaveNet) -> WaveNet:
    nn.init.constant_(network.head[1].bias, torch.nan)
    return network


def random_levels(batch: int = 2, length: int = 24, n_levels: int = 8) -> torch.Tensor:
    return torch.randint(n_levels, (batch, length), generator=generator())


def random_mel(batch: int = 2, n_frames: int = 6) -> torch.Tensor:
    return torch.randn(batch, 4, n_frames, dtype=torch.float64, generator=generator()) - 4


# --- μ-law


@given(x=st.floats(-1, 1), n_levels=st.integers(2, 65_536))
@settings(deadline=None)
def test_expanding_undoes_compressing(x, n_levels):
    x = torch.tensor(x, dtype=torch.float64)
    assert expand(compress(x, n_levels), n_levels).item() == pytest.approx(x.item(), abs=1e-12)


def test_compressing_is_the_logarithm_of_g711():
    x = np.linspace(-1, 1, 201)
    expected = np.sign(x) * np.log(1 + 255 * np.abs(x)) / np.log(256)
    np.testing.assert_allclose(compress(torch.from_numpy(x)).numpy(), expected, atol=1e-14)


@given(n_levels=st.integers(2, 1024))
@settings(deadline=None)
def test_every_level_stands_for_a_sound_that_has_this_level(n_levels):
    levels = torch.arange(n_levels)
    sound = mu_law_decode(levels, n_levels)
    assert torch.equal(mu_law_encode(sound, n_levels), levels)
    assert (sound.diff() > 0).all()
    assert sound[[0, -1]].tolist() == [-1, 1]
    torch.testing.assert_close(sound, -sound.flip(0))


@given(x=st.floats(-1, 1))
@settings(deadline=None)
def test_the_level_taken_is_the_nearest_on_the_compressed_scale(x):
    x = torch.tensor([x], dtype=torch.float64)
    decoded = mu_law_decode(mu_law_encode(x)).double()
    assert (compress(decoded) - compress(x)).abs().item() <= 1 / 255 + 1e-6


@pytest.mark.parametrize("decibels", [0, -10, -20, -40, -60])
def test_soft_sounds_keep_their_signal_to_noise_ratio(decibels):
    x = 10 ** (decibels / 20) * torch.sin(2 * torch.pi * 440.123 * torch.arange(200_000, dtype=torch.float64) / 16_000)

    def ratio(noise: torch.Tensor) -> float:
        return 10 * math.log10(x.square().mean() / noise.square().mean())

    # Within a step of width 2/255 on the compressed scale the error is uniform; f' = μ / ((1 + μ|x|) ln(1 + μ)).
    found, step = ratio(mu_law_decode(mu_law_encode(x)) - x), 2 / 255
    assert found == pytest.approx(ratio(step / 12**0.5 * math.log(256) / 255 * (1 + 255 * x.abs())), abs=1)
    uniform = ratio(((x / step).floor() + 0.5) * step - x)
    assert (found > uniform) == (decibels <= -20)


# --- structure


def slopes(network: WaveNet, length: int, column: int) -> torch.Tensor:
    """How much the logits of a column depend on each input, (length,)."""
    levels = random_levels(1, length)
    embedded = network.embed(levels).detach().requires_grad_()
    handle = network.embed.register_forward_hook(lambda *_: embedded)
    weights = torch.randn(network.config.n_levels, dtype=torch.float64, generator=generator())
    (slope,) = torch.autograd.grad((weights @ network(levels)[0])[column], embedded)
    handle.remove()
    return slope[0].abs().sum(dim=1)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"n_layers": 4}, 16),
        ({"n_layers": 3, "n_stacks": 2}, 15),
        ({"n_layers": 2, "kernel_size": 3}, 7),
        ({"n_layers": 1, "n_stacks": 3, "kernel_size": 4}, 10),
    ],
)
def test_a_score_depends_on_the_receptive_field_and_on_nothing_else(options, expected):
    network = model(**options)
    assert network.receptive_field == expected
    reached = slopes(network, 40, 30) > 0
    assert reached.nonzero().flatten().tolist() == list(range(31 - expected, 31))


def test_the_receptive_fields_of_the_paper():
    assert WaveNetConfig(n_layers=10).receptive_field == 1024
    assert WaveNetConfig(n_layers=10, n_stacks=3).receptive_field == 3070


def test_nothing_recurs():
    assert not any(isinstance(module, (nn.RNNBase, nn.RNNCellBase)) for module in model().modules())


def test_a_layer_is_its_formula_written_out_with_loops():
    network = model(n_classes=(3,), **MEL)
    layer: Layer = network.layers[1]  # dilation 2
    x = torch.randn(1, 6, 9, dtype=torch.float64, generator=generator())
    y = torch.randn(1, 3, 9, dtype=torch.float64, generator=generator())
    goes_on, skips = (each.detach().numpy() for each in layer(x, y, torch.tensor([[2]])))
    w, b, v, e = (
        p.detach().numpy() for p in (layer.dilated.weight, layer.dilated.bias, layer.mel.weight, layer.labels[0].weight)
    )
    out, bias = layer.mix.weight[:, :, 0].detach().numpy(), layer.mix.bias.detach().numpy()
    for t in range(9):
        before = x[0, :, t - 2].numpy() if t >= 2 else np.zeros(6)
        a = w[:, :, 0] @ before + w[:, :, 1] @ x[0, :, t].numpy() + b + v[:, :, 0] @ y[0, :, t].numpy() + e[2]
        z = np.tanh(a[:5]) / (1 + np.exp(-a[5:]))
        both = out @ z + bias
        np.testing.assert_allclose(skips[0, :, t], both[:5], atol=1e-12)
        np.testing.assert_allclose(goes_on[0, :, t], x[0, :, t].numpy() + both[5:], atol=1e-12)


def test_the_gradient_of_the_gated_unit_is_right():
    layer = model().layers[0]
    x = torch.randn(1, 6, 5, dtype=torch.float64, generator=generator()).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer(x, None, None), x)


def test_the_last_layer_only_skips_so_that_every_weight_is_trained():
    network = model(n_classes=(2,), **MEL)
    network.log_likelihood(random_levels(), random_mel(), torch.tensor([[0], [1]])).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


# --- likelihood


def test_the_probabilities_of_all_sounds_sum_to_one():
    network = model(n_levels=3)
    sounds = torch.tensor(list(product(range(3), repeat=4)))
    assert network.log_likelihood(sounds).exp().sum().item() == pytest.approx(1, abs=1e-9)


def test_one_pass_gives_what_a_pass_for_each_sample_gives():
    network, levels, mel = model(**MEL), random_levels(), random_mel()
    y = network.upsample(mel)
    total = 0
    before = F.pad(levels, (1, 0), value=network.silence)
    for t in range(24):
        logits = network.score(before[:, : t + 1], y[:, :, : t + 1], None)[:, :, -1]
        total = total - F.cross_entropy(logits, levels[:, t], reduction="none")
    torch.testing.assert_close(network.log_likelihood(levels, mel), total, atol=1e-10, rtol=0)
    # `forward` scores samples 1, 2, … of the same sound, here without what stood before its first one.
    nats = F.cross_entropy(network(levels, mel)[:, :, :-1], levels[:, 1:], reduction="none")
    alone = network.score(levels[:, :-1], y[:, :, 1:], None)
    torch.testing.assert_close(nats, F.cross_entropy(alone, levels[:, 1:], reduction="none"), atol=1e-12, rtol=0)


def test_guessing_costs_log_q():
    network = model()
    for parameter in network.head[3].parameters():
        nn.init.zeros_(parameter)
    bits = -network.log_likelihood(random_levels()) / 24 / math.log(2)
    torch.testing.assert_close(bits, torch.full((2,), 3.0, dtype=torch.float64))


def test_under_autocast_the_likelihood_is_close_to_that_of_float32():
    network, levels = model().float(), random_levels()
    with torch.autocast("cpu", torch.bfloat16):
        rough = network.log_likelihood(levels)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, network.log_likelihood(levels), rtol=0.01, atol=0)


# --- conditions


def test_upsampling_starts_as_straight_lines_between_the_middles_of_the_frames():
    upsampling = Upsampling(4, 3, 6).double()
    mel = random_mel(1, 5)
    frames = upsampling.context(mel / 6 + 1).detach().numpy()
    columns = upsampling(mel).detach().numpy()
    assert columns.shape == (1, 3, 30)
    for channel in range(3):
        expected = np.interp(np.arange(30) + 0.5, np.arange(5) * 6 + 3, frames[0, channel])
        np.testing.assert_allclose(columns[0, channel], expected, atol=1e-7)


def test_the_mel_acts_where_it_stands():
    network, mel = model(n_layers=1, **MEL), random_mel(1, 8).requires_grad_()
    logits = network(random_levels(1, 32), mel)
    weights = torch.randn(8, dtype=torch.float64, generator=generator())
    (slope,) = torch.autograd.grad((weights @ logits[0])[17], mel)  # scores sample 18, in frame 4
    assert (slope[0].abs().sum(dim=0) > 0).nonzero().flatten().tolist() == [3, 4, 5, 6]


def test_conditions_without_weight_leave_the_unconditional_network():
    network = model(n_classes=(3, 2), **MEL)
    plain = model()
    plain.load_state_dict(network.state_dict(), strict=False)
    labels = torch.tensor([[2, 1], [0, 0]])
    assert not torch.allclose(network(random_levels(), random_mel(), labels), plain(random_levels()))
    for layer in network.layers:
        for p in (layer.mel.weight, *(table.weight for table in layer.labels)):
            nn.init.zeros_(p)
    torch.testing.assert_close(network(random_levels(), random_mel(), labels), plain(random_levels()))


def test_it_learns_what_its_label_says_and_draws_it():
    # Label 0 swings with period 4, label 1 with period 6.
    torch.manual_seed(0)
    network = WaveNet(WaveNetConfig(**SMALL, n_classes=(2,)))
    waves = [[0, 0, 7, 7], [0, 0, 0, 7, 7, 7]]
    levels = torch.tensor([(wave * 24)[:24] for wave in waves])
    labels = torch.tensor([[0], [1]])
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(150):
        loss = -network.log_likelihood(levels, labels=labels).mean() / 24
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.05
    drawn = network.generate(24, labels=labels, cached=True, compiled=False, temperature=0.2, generator=generator())
    assert torch.equal(drawn, levels)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: mu_law_encode(torch.tensor([0.5, 1.5])), r"expected sound in \[-1, 1\] without NaN"),
        (lambda m: mu_law_encode(torch.tensor([torch.nan])), "without NaN"),
        (lambda m: mu_law_encode(torch.tensor([1])), "expected sound of floats and at least 2 levels, got torch.int64"),
        (lambda m: mu_law_encode(torch.zeros(1), 1), "at least 2 levels, got torch.float32 and 1"),
        (lambda m: mu_law_decode(torch.tensor([256])), "expected int64 levels from 0 to 255"),
        (lambda m: mu_law_decode(torch.tensor([0.0])), "got torch.float32"),
        (lambda m: m(torch.zeros(2, 24)), "int64"),
        (lambda m: m(random_levels() + 1, random_mel(), torch.zeros(2, 1).long()), "is not among the 8 known"),
        (lambda m: m(random_levels()), "takes a mel of 4 bins and labels of 1 columns, got no mel and no labels"),
        (lambda m: model()(random_levels(), random_mel()), "takes no mel and no labels, got a mel"),
        (lambda m: m(random_levels(2, 23), random_mel(), torch.zeros(2, 1).long()), r"2 × 23 samples; cut the sound"),
        (lambda m: m(random_levels(), random_mel()[:, :3], torch.zeros(2, 1).long()), r"mel \(B, 4, F\) and F · 4"),
        (lambda m: m(random_levels(), random_mel(), torch.zeros(2).long()), r"int64 \(2, 1\), got torch.int64 \(2,\)"),
        (lambda m: m(random_levels(), random_mel(), torch.full((2, 1), 2)), r"from 0 to below \(2,\), got \[\[2\]"),
        (lambda m: m.generate(0, generator=generator()), "n_samples must be at least 1"),
        (lambda m: m.generate(9, temperature=0, generator=generator()), "temperature finite and above 0, got 9 and 0"),
        (lambda m: m.generate(24, random_mel() * 9, generator=generator()), "natural-log amplitudes"),
        (lambda m: m.generate(24, random_mel() * torch.nan, generator=generator()), "natural-log amplitudes"),
        (lambda m: m.generate(25, random_mel(), torch.zeros(2, 1).long(), generator=generator()), "F · 4 samples"),
        (
            lambda m: m.generate(24, random_mel().float(), generator=generator()),
            "is torch.float64 .* the mel torch.float32",
        ),
        (
            lambda m: m.log_likelihood(random_levels(), random_mel() * torch.nan, torch.zeros(2, 1).long()),
            "mel holds NaN",
        ),
        (
            lambda m: broken(m).generate(24, random_mel(), torch.zeros(2, 1).long(), generator=generator()),
            "NaN or infin",
        ),
        (lambda m: WaveNetConfig(kernel_size=1), "kernel_size must be at least 2, got 1"),
        (lambda m: WaveNetConfig(n_classes=(3, 0)), r"n_classes must be at least 1, got \(3, 0\)"),
        (lambda m: WaveNetConfig(gate_channels=7), "must be even, got 7"),
    ],
)
def test_bad_input_is_refused_with_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call(model(n_classes=(2,), **MEL))


@pytest.mark.gpu
def test_the_gpu_computes_what_the_cpu_does():
    torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = "ieee"
    network, levels, mel = model(**MEL).float(), random_levels(), random_mel().float()
    with torch.no_grad():
        scores = network(levels, mel)
        drawn = network.generate(24, mel, generator=generator())
        on_gpu = network.cuda()(levels.cuda(), mel.cuda())
        torch.testing.assert_close(on_gpu.cpu(), scores, atol=1e-4, rtol=0)
        assert torch.equal(network.generate(24, mel.cuda(), generator=generator()).cpu(), drawn)
