"""WaveGlow: every inverse undoes, every log-determinant is the Jacobian's, and the density is one."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd.functional import jacobian

from aigc_lib.models.waveglow import (
    AffineCoupling,
    InvertibleConv1x1,
    WaveGlow,
    WaveGlowConfig,
    bits_per_sample,
    dequantise,
    group,
)

SMALL = {"n_groups": 4, "n_flows": 4, "early_every": 2, "early_size": 2, "n_layers": 2, "residual_channels": 6}
SMALL |= {"n_mels": 3, "hop_length": 8, "condition_channels": 5}


def shaken(model: torch.nn.Module, seed: int = 0, by: float = 0.1) -> torch.nn.Module:
    """With weights moved at random, so that no coupling is the identity and no matrix a rotation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(by * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return model.eval()


def flow(seed: int = 0, by: float = 0.1, **changes) -> WaveGlow:
    torch.manual_seed(seed)
    return shaken(WaveGlow(WaveGlowConfig(**{**SMALL, **changes})).double(), seed, by)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def log_det_by_autograd(function, x: Tensor) -> Tensor:
    square = jacobian(function, x).reshape(x.numel(), x.numel())
    return torch.linalg.slogdet(square).logabsdet


@pytest.fixture(scope="module")
def trained() -> WaveGlow:
    """A flow that has learned noise of two loudnesses, told apart by the mel."""
    torch.manual_seed(0)
    model = WaveGlow(WaveGlowConfig(**SMALL))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(300):
        audio, mel = loud_and_soft(16, seed=step)
        loss = -model.log_likelihood(audio, mel).mean() / audio.shape[1]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


def loud_and_soft(batch: int, seed: int) -> tuple[Tensor, Tensor]:
    """White noise of standard deviation 0.02 or 0.5, and a mel that says which."""
    generator = torch.Generator().manual_seed(seed)
    loud = torch.arange(batch) % 2 == 1
    scale = torch.where(loud, 0.5, 0.02)[:, None]
    audio = scale * torch.randn(batch, 32, generator=generator)
    return audio, torch.where(loud, 0.0, -4.0)[:, None, None].expand(batch, 3, 4)


# --- the layers ------------------------------------------------------------------------------------------------------


def test_grouping_gives_samples_a_new_order_and_nothing_else():
    audio = torch.arange(24.0).view(2, 12)
    groups = group(audio, 4)
    assert groups.shape == (2, 4, 3)
    assert groups[0, :, 1].tolist() == [4, 5, 6, 7]  # neighbours become the channels of one step
    assert torch.equal(groups.transpose(1, 2).flatten(1), audio)
    matrix = jacobian(lambda x: group(x, 4), audio[:1]).view(12, 12)
    assert torch.equal(matrix @ matrix.T, torch.eye(12))
    assert set(matrix.unique().tolist()) == {0.0, 1.0}


def test_a_convolution_starts_as_a_rotation():
    torch.manual_seed(0)
    for n_channels in (2, 3, 8, 32):
        weight = InvertibleConv1x1(n_channels).weight
        torch.testing.assert_close(weight @ weight.T, torch.eye(n_channels), atol=1e-5, rtol=0)
        assert torch.linalg.det(weight) > 0.99


@given(n_channels=st.integers(2, 5), n_steps=st.integers(1, 4), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_the_log_determinant_of_a_convolution_is_that_of_its_jacobian(n_channels, n_steps, seed):
    layer = InvertibleConv1x1(n_channels).double()
    layer.weight.data = noise(n_channels, n_channels, seed=seed)  # of either orientation
    x = noise(1, n_channels, n_steps, seed=seed + 1)
    z, log_det = layer(x)
    torch.testing.assert_close(log_det[0], log_det_by_autograd(lambda x: layer(x)[0], x), atol=1e-9, rtol=0)
    torch.testing.assert_close(layer.inverse(z), x, atol=1e-7, rtol=0)


def test_a_reflection_has_a_log_determinant_too():
    layer = InvertibleConv1x1(2)
    layer.weight.data = torch.tensor([[0.0, 2.0], [1.0, 0.0]])  # determinant −2: its logarithm is NaN
    _, log_det = layer(torch.zeros(3, 2, 5))
    torch.testing.assert_close(log_det, torch.full((3,), 5 * math.log(2)))


def test_the_inverse_of_a_convolution_is_never_stale():
    layer = InvertibleConv1x1(4)
    z = torch.randn(1, 4, 3)
    layer.inverse(z)
    with torch.no_grad():
        layer.weight.mul_(2)
    torch.testing.assert_close(layer(layer.inverse(z))[0], z)


def test_a_coupling_is_triangular_and_its_log_determinant_the_sum_of_its_log_scales():
    coupling = shaken(AffineCoupling(4, WaveGlowConfig(**SMALL)).double())
    x, condition = noise(1, 4, 3), noise(1, 5, 3, seed=1)
    z, log_det = coupling(x, condition)
    assert torch.equal(z[:, :2], x[:, :2])
    matrix = jacobian(lambda x: coupling(x, condition)[0], x).view(12, 12)
    assert torch.equal(matrix[:6, :6], torch.eye(6, dtype=torch.float64))
    assert torch.equal(matrix[:6, 6:], torch.zeros(6, 6, dtype=torch.float64))  # nothing of x_b in z_a
    assert torch.equal(matrix[6:, 6:], matrix[6:, 6:].diagonal().diag())  # x_b is scaled entry by entry
    torch.testing.assert_close(log_det[0], torch.linalg.slogdet(matrix).logabsdet, atol=1e-12, rtol=0)
    torch.testing.assert_close(coupling.inverse(z, condition), x, atol=1e-12, rtol=0)


# --- the flow --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_the_log_determinant_of_the_flow_is_that_of_its_jacobian(seed):
    model = flow(seed)
    audio, mel = noise(2, 24, seed=seed), noise(2, 3, 3, seed=seed + 10)
    _, log_det = model(audio, mel)
    for one, row, given_mel in zip(log_det, audio, mel, strict=True):
        expected = log_det_by_autograd(lambda x, m=given_mel: model(x, m[None])[0], row[None])
        torch.testing.assert_close(one, expected, atol=1e-10, rtol=0)


def test_the_density_of_two_samples_integrates_to_one():
    model = flow(by=0.15, hop_length=2, n_groups=2, n_flows=3, early_every=4)
    side = torch.linspace(-9, 9, 181, dtype=torch.float64)
    plane = torch.cartesian_prod(side, side)
    mel = noise(1, 3, 1).expand(len(plane), 3, 1)
    with torch.no_grad():
        mass = model.log_likelihood(plane, mel).exp().sum() * (side[1] - side[0]) ** 2
    assert mass.item() == pytest.approx(1, abs=1e-4)


def test_before_training_the_density_is_that_of_white_noise():
    torch.manual_seed(0)
    model = WaveGlow(WaveGlowConfig()).double()
    audio, mel = noise(2, 1024), noise(2, 80, 4)
    expected = torch.distributions.Normal(0, 1).log_prob(audio).sum(dim=1)
    # The rotations are orthogonal to float32's rounding.
    torch.testing.assert_close(model.log_likelihood(audio, mel), expected, atol=0.02, rtol=0)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_after_training_the_inverse_undoes_the_flow(trained, dtype, bound):
    audio, mel = (each.to(dtype) for each in loud_and_soft(16, seed=999))
    model = trained.to(dtype)
    with torch.no_grad():
        z, _ = model(audio, mel)
        assert (model.inverse(z, mel) - audio).abs().max() < bound
    trained.float()
    assert (z - group(audio, 4)).abs().max() > 1  # it is not the identity that is undone


def test_training_reaches_the_entropy_of_the_data(trained):
    audio, mel = loud_and_soft(2000, seed=1000)
    nats = -trained.log_likelihood(audio, mel).mean().item() / 32
    entropy = 0.5 * math.log(2 * math.pi * math.e) + (math.log(0.5) + math.log(0.02)) / 2
    assert entropy - 0.01 < nats < entropy + 0.1


def test_every_early_channel_and_every_last_one_is_part_of_z():
    config = WaveGlowConfig(n_groups=8, n_flows=12, early_every=4, early_size=2)
    assert [config.channels(flow) for flow in range(12)] == [8] * 4 + [6] * 4 + [4] * 4
    model = flow()
    z, _ = model(noise(1, 16), noise(1, 3, 2))
    assert z.shape == (1, 4, 4)
    torch.testing.assert_close(model.inverse(z, noise(1, 3, 2)), noise(1, 16), atol=1e-10, rtol=0)


def test_there_is_one_network_and_nobody_judges_it():
    kinds = {type(module).__name__.lower() for module in WaveGlow(WaveGlowConfig(**SMALL)).modules()}
    assert not [kind for kind in kinds if "discriminator" in kind]


# --- speaking --------------------------------------------------------------------------------------------------------


def speaker(**changes) -> tuple[WaveGlow, Tensor]:
    """Few couplings with a short reach, and a mel of 12 frames."""
    model = flow(n_flows=2, early_every=1, hop_length=16, **changes)
    return model, noise(2, 3, 12).clamp(-3, 3)


def test_what_is_spoken_has_the_temperature_asked_for():
    model, mel = speaker()
    mel = mel.repeat(1, 1, 40)
    for temperature in (0.5, 1.0):
        audio = model.generate(mel, temperature=temperature, generator=torch.Generator().manual_seed(0))
        z, _ = model(audio, mel)
        # The mean of n squares of N(0, T²) has the standard error T² √(2/n).
        assert (z.square().mean() - temperature**2).abs() < 4 * temperature**2 * (2 / z.numel()) ** 0.5


def test_speaking_repeats_with_its_generator_and_needs_none_at_zero():
    model, mel = speaker()
    first, again, other = (model.generate(mel, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    cold = [model.generate(mel, temperature=0, generator=torch.Generator().manual_seed(s)) for s in (1, 2)]
    assert torch.equal(*cold)


def test_a_sample_depends_on_frames_within_reach_and_no_others():
    model, mel = speaker()
    z = noise(1, 4, 12 * 4)
    reach, middle = model.config.reach, 6
    assert reach < middle
    sound = slice(middle * 16, (middle + 1) * 16)
    by_mel = jacobian(lambda m: model.inverse(z, m)[0, sound], mel[:1])
    by_z = jacobian(lambda z: model.inverse(z, mel[:1])[0, sound], z).unflatten(-1, (12, 4))
    for touched in (by_mel.abs().sum(dim=(0, 1, 2)), by_z.abs().sum(dim=(0, 1, 2, 4))):
        near = range(middle - reach, middle + reach + 1)
        assert all(touched[f] == 0 for f in range(12) if f not in near)
        assert touched[middle - 1] > 0
        assert touched[middle + 1] > 0


@pytest.mark.parametrize("chunk_frames", [1, 5, 12, 100])
def test_chunks_are_the_whole(chunk_frames):
    model, mel = speaker()
    whole = model.inverse(torch.randn(2, 4, 48, generator=torch.Generator().manual_seed(3)).to(mel), mel)
    pieces = model.generate(mel, chunk_frames=chunk_frames, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(pieces, whole, atol=1e-12, rtol=0)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak of one program alone")
def test_ten_minutes_are_spoken_in_less_than_a_gigabyte():
    # getrusage would count what this process held when it forked.
    script = """if True:
        import re, torch
        from aigc_lib.models.waveglow import WaveGlow, WaveGlowConfig
        torch.manual_seed(0)
        model = WaveGlow(WaveGlowConfig())
        audio = model.generate(torch.full((1, 80, 37_500), -5.0), generator=torch.Generator().manual_seed(0))
        print(audio.shape[1], re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    n_samples, kilobytes = map(int, done.stdout.split())
    assert n_samples == 600 * 16_000
    assert kilobytes * 1024 < 1e9


def test_under_autocast_the_flow_is_still_undone():
    model, mel = speaker()
    model, mel, audio = model.float(), mel.float(), noise(2, 192).float()
    with torch.autocast("cpu", torch.bfloat16):
        z, log_det = model(audio, mel)
        assert (model.inverse(z, mel) - audio).abs().max() < 1e-4
    assert z.dtype == log_det.dtype == torch.float32


# --- sound in bits ---------------------------------------------------------------------------------------------------


@given(n_bits=st.integers(1, 16), seed=st.integers(0, 99))
@settings(deadline=None)
def test_dequantised_sound_rounds_back_to_its_levels(n_bits, seed):
    generator = torch.Generator().manual_seed(seed)
    step = 2.0 ** (1 - n_bits)
    levels = torch.randint(2**n_bits, (1, 50), generator=generator, dtype=torch.float64)
    audio = (levels + 0.5) * step - 1
    moved = dequantise(audio, torch.rand(1, 50, generator=generator, dtype=torch.float64), n_bits=n_bits)
    assert torch.equal(((moved + 1) / step).floor(), levels)


def test_uniform_levels_cost_their_bits():
    # The density of uniform sound in [-1, 1] is 1/2 a sample.
    assert bits_per_sample(torch.tensor(-100 * math.log(2)), 100, n_bits=8).item() == pytest.approx(8)


# --- what is refused -------------------------------------------------------------------------------------------------


def spoken(mel: Tensor, **options) -> Tensor:
    return WaveGlow(WaveGlowConfig(**SMALL)).generate(mel, **options, generator=torch.Generator())


def read(audio: Tensor, mel: Tensor) -> Tensor:
    return WaveGlow(WaveGlowConfig(**SMALL)).log_likelihood(audio, mel)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: read(torch.zeros(1, 16), torch.zeros(1, 4, 2)),
            r"mel must be torch.float32 \(B, 3, F\), got .*\(1, 4, 2\)",
        ),
        (
            lambda: read(torch.zeros(1, 17), torch.zeros(1, 3, 2)),
            r"8 samples a frame, audio must be torch.float32 \(1, 16\)",
        ),
        (
            lambda: read(torch.zeros(1, 2, 16), torch.zeros(1, 3, 2)),
            r"audio must be torch.float32 \(1, 16\), got .*1, 2, 16",
        ),
        (
            lambda: read(torch.zeros(2, 16), torch.zeros(1, 3, 2)),
            r"audio must be torch.float32 \(1, 16\), got .*\(2, 16\)",
        ),
        (lambda: read(torch.zeros(1, 16).int(), torch.zeros(1, 3, 2)), "float32 .*int32"),
        (
            lambda: WaveGlow(WaveGlowConfig(**SMALL)).inverse(torch.zeros(1, 4, 5), torch.zeros(1, 3, 2)),
            r"z must be torch.float32 \(1, 4, 4\), got torch.float32 \(1, 4, 5\)",
        ),
        (lambda: spoken(torch.zeros(3, 2)), r"mel \(B ≥ 1, 3, F ≥ 1\)"),
        (lambda: spoken(torch.full((1, 3, 2), torch.nan)), "natural-log"),
        (lambda: spoken(torch.full((1, 3, 2), -40.0)), "natural-log amplitudes.*got -40.00"),
        (lambda: spoken(torch.zeros(1, 3, 2), temperature=-1), "finite and at least 0, got -1"),
        (lambda: spoken(torch.zeros(1, 3, 2), temperature=math.inf), "finite and at least 0, got inf"),
        (lambda: spoken(torch.zeros(1, 3, 2).double()), "the network is torch.float32 on cpu, the mel torch.float64"),
        (lambda: read(torch.full((1, 16), torch.nan), torch.zeros(1, 3, 2)), "audio holds NaN"),
        (lambda: read(torch.zeros(1, 16), torch.full((1, 3, 2), torch.nan)), "mel holds NaN"),
        (lambda: read(torch.zeros(1, 16).double(), torch.zeros(1, 3, 2)), "audio must be torch.float32"),
        (lambda: spoken(torch.zeros(1, 3, 2), chunk_frames=0), "chunk_frames must be at least 1, got 0"),
        (lambda: WaveGlowConfig(n_groups=24), "hop_length must be a multiple of n_groups, got 256 and 24"),
        (lambda: WaveGlowConfig(n_groups=8, early_size=4), "leave 0 at the end"),
        (lambda: WaveGlowConfig(early_size=3), "even number"),
        (lambda: WaveGlowConfig(n_layers=0), "n_layers must be at least 1, got 0"),
    ],
)
def test_bad_input_is_refused_with_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.gpu
def test_the_gpu_computes_what_the_cpu_does_and_undoes_it():
    torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = "ieee"
    model, mel = speaker()
    model, mel, audio = model.float(), mel.float(), noise(2, 192).float()
    with torch.no_grad():
        z, log_det = model(audio, mel)
        z_gpu, log_det_gpu = model.cuda()(audio.cuda(), mel.cuda())
        torch.testing.assert_close(z_gpu.cpu(), z, atol=1e-4, rtol=0)
        torch.testing.assert_close(log_det_gpu.cpu(), log_det, atol=1e-3, rtol=0)
        assert (model.inverse(z_gpu, mel.cuda()).cpu() - audio).abs().max() < 1e-5
