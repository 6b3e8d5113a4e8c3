"""Log-mel spectrograms are librosa's, sit on their samples, and Griffin and Lim find sound that has them."""

import math

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import chirp

from aigc_lib.models.mel import (
    MelConfig,
    _inverse_stft,
    _stft,
    amplitudes_of,
    check_audio,
    check_mel,
    griffin_lim,
    log_mel,
    mel_filters,
    mel_of,
)

DEFAULT = MelConfig()
configs = st.builds(
    lambda rate, power, divisor, n_mels, low, high: MelConfig(
        sample_rate=rate, n_fft=2**power, hop_length=2**power // divisor, n_mels=n_mels,
        f_min=low * rate / 2, f_max=high * rate / 2,
    ),
    st.sampled_from([8_000, 16_000, 22_050]), st.integers(8, 11), st.sampled_from([2, 4, 8]), st.integers(1, 90),
    st.floats(0, 0.4), st.floats(0.5, 1),
)  # fmt: skip


def noise(n_samples: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, n_samples, generator=torch.Generator().manual_seed(seed)) - 0.5


def tone(hertz: float, n_samples: int = 8192, sample_rate: int = 16_000) -> torch.Tensor:
    return 0.5 * torch.sin(2 * math.pi * hertz * torch.arange(n_samples) / sample_rate)[None]


def librosas(audio: np.ndarray, config: MelConfig) -> np.ndarray:
    mel = librosa.feature.melspectrogram(
        y=np.pad(audio, config.padding, mode="reflect"), sr=config.sample_rate, n_fft=config.n_fft,
        hop_length=config.hop_length, center=False, power=1.0, n_mels=config.n_mels, fmin=config.f_min,
        fmax=config.f_max,
    )  # fmt: skip
    return np.log(np.maximum(mel, config.floor))


@given(configs, st.integers(4, 9), st.integers(0, 99))
@settings(deadline=None, max_examples=25)
@pytest.mark.filterwarnings("ignore:Empty filters")
def test_it_is_librosas_mel_in_the_logarithm(config, n_hops, seed):
    audio = noise(max(n_hops * config.hop_length, config.n_fft), seed=seed)
    got = log_mel(audio, config)[0].numpy()
    np.testing.assert_allclose(got, librosas(audio[0].numpy(), config), atol=1e-4, rtol=0)


@given(configs)
@settings(deadline=None, max_examples=25)
@pytest.mark.filterwarnings("ignore:Empty filters")
def test_the_filters_are_librosas(config):
    expected = librosa.filters.mel(
        sr=config.sample_rate, n_fft=config.n_fft, n_mels=config.n_mels, fmin=config.f_min, fmax=config.f_max
    )
    np.testing.assert_allclose(mel_filters(config), expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize("n_fft", [255, 511])
def test_filters_of_an_odd_transform_are_librosas(n_fft):
    config = MelConfig(n_fft=n_fft, hop_length=n_fft // 4 - (n_fft // 4 + 1) % 2, n_mels=20)
    expected = librosa.filters.mel(sr=16_000, n_fft=n_fft, n_mels=20)
    np.testing.assert_allclose(mel_filters(config), expected, atol=1e-7, rtol=0)


def test_filters_first_made_for_inference_still_let_a_gradient_through():
    config = MelConfig(n_mels=33)
    with torch.inference_mode():
        log_mel(noise(4096).double(), config)
    audio = noise(4096).double().requires_grad_()
    log_mel(audio, config).sum().backward()
    assert audio.grad.isfinite().all()


def test_a_recording_is_looked_at_before_its_mel_is_made():
    assert torch.equal(mel_of(tone(400), 16_000), log_mel(tone(400)))
    with pytest.raises(ValueError, match="at 16000 hertz, got 44100"):
        mel_of(tone(400), 44_100)
    with pytest.raises(ValueError, match="NaN or infinity"):
        mel_of(tone(400) * math.nan, 16_000)


def test_in_float64_and_under_autocast_it_is_the_same():
    audio = noise(4096)
    expected = log_mel(audio.double())
    assert expected.dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        got = log_mel(audio.bfloat16().float())
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, log_mel(audio.bfloat16().float()), atol=0, rtol=0)
    torch.testing.assert_close(log_mel(audio).double(), expected, atol=1e-4, rtol=0)


@given(st.integers(2, 40), st.integers(1, 3))
@settings(deadline=None, max_examples=20)
def test_there_is_a_frame_for_every_hop(n_frames, batch):
    mel = log_mel(noise(256 * n_frames, batch))
    assert mel.shape == (batch, 80, n_frames)
    torch.testing.assert_close(mel[:1], log_mel(noise(256 * n_frames, batch)[:1]), atol=1e-5, rtol=0)


def test_a_frame_sits_over_its_samples():
    """A click in the middle of hop f is heard most in frame f, and equally before and after it."""
    for frame in (3, 7, 12):
        audio = torch.zeros(1, 16 * 256)
        audio[0, 256 * frame + 127 : 256 * frame + 129] = 0.5
        loudness = log_mel(audio).exp().sum(dim=1)[0]
        assert loudness.argmax() == frame
        assert loudness[frame - 1].item() == pytest.approx(loudness[frame + 1].item(), rel=0.02)


def test_sound_played_backwards_has_its_mel_backwards():
    # Hann windows of torch are periodic: symmetric about a sample, hence the shift by one.
    audio = torch.nn.functional.pad(noise(255 * 16 + 15)[:, :4094], (1, 1))
    mirrored = log_mel(audio.flip(1).roll(1, 1)).flip(2)
    torch.testing.assert_close(mirrored[..., 3:-3], log_mel(audio)[..., 3:-3], atol=1e-3, rtol=0)


def test_twice_the_amplitude_adds_log_two_everywhere_and_silence_is_the_floor():
    torch.testing.assert_close(log_mel(0.5 * noise(4096)) + math.log(2), log_mel(noise(4096)), atol=1e-5, rtol=0)
    assert torch.equal(log_mel(torch.zeros(1, 4096)), torch.full((1, 80, 16), math.log(1e-5)))


@pytest.mark.parametrize("hertz", [200, 440, 1000, 3000, 6500])
def test_a_tone_is_loudest_in_the_band_around_it(hertz):
    band = log_mel(tone(hertz)).mean(dim=2).argmax()
    edges = librosa.mel_frequencies(n_mels=82, fmin=0, fmax=8000)
    assert edges[band] < hertz < edges[band + 2]


def test_full_scale_sound_stays_in_the_range_that_is_accepted():
    for loud in (2 * tone(400), 2 * tone(37), torch.ones(1, 8192), 2 * noise(8192), 2 * tone(3333).sign() / 2):
        check_mel(log_mel(loud.clamp(-1, 1)))


def test_its_gradient_is_finite_where_the_sound_is_silent():
    audio = torch.cat([noise(4096), torch.zeros(1, 4096)], dim=1).requires_grad_()
    log_mel(audio).sum().backward()
    assert audio.grad.isfinite().all()
    assert audio.grad[0, :4096].abs().sum() > 0


@given(configs, st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_the_inverse_transform_gives_the_sound_back(config, seed):
    audio = noise(8 * config.n_fft, 2, seed).double()
    again = _inverse_stft(_stft(audio, config), config)
    edge = config.n_fft
    torch.testing.assert_close(again[:, edge:-edge], audio[:, edge:-edge], atol=1e-9, rtol=0)


def test_the_inverse_transform_is_the_nearest_sound():
    """Griffin and Lim's equation 6 against the pseudo-inverse of the transform as one big matrix."""
    config = MelConfig(sample_rate=8_000, n_fft=16, hop_length=8, n_mels=2, f_max=4_000)
    n_samples = 8 * 5 + 8
    transform = torch.view_as_real(_stft(torch.eye(n_samples, dtype=torch.float64), config)).flatten(1).T
    # A spectrum has each frequency twice, but the lowest and the highest: they weigh half.
    weights = torch.full((9,), 2.0, dtype=torch.float64).index_fill_(0, torch.tensor([0, 8]), 1.0).sqrt()
    weights = weights[:, None, None].expand(9, 5, 2).flatten()
    spectrum = torch.randn(1, 9, 5, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    spectrum[:, [0, 8]] = spectrum[:, [0, 8]].real.to(torch.complex128)
    target = torch.view_as_real(spectrum).flatten()
    nearest = torch.linalg.lstsq((weights[:, None] * transform)[:, 1:], weights * target, driver="gelsd").solution
    torch.testing.assert_close(_inverse_stft(spectrum, config)[0, 1:], nearest, atol=1e-10, rtol=0)


def test_amplitudes_are_not_negative_and_have_the_mel():
    mel = log_mel(noise(8192))
    amplitudes = amplitudes_of(mel)
    assert amplitudes.min() >= 0
    torch.testing.assert_close((mel_filters(DEFAULT).float() @ amplitudes).log(), mel, atol=0.01, rtol=0)
    errors = [
        (mel_filters(DEFAULT).float() @ amplitudes_of(mel, n_iterations=n) - mel.exp()).norm() for n in (1, 5, 25)
    ]
    assert errors[0] > errors[1] > errors[2]


def sweep() -> torch.Tensor:
    time = np.arange(16_384) / 16_000
    return torch.from_numpy(0.3 * chirp(time, 300, 1.0, 2500) + 0.2 * chirp(time, 900, 1.0, 500)).float()[None]


@pytest.fixture(scope="module")
def rebuilt():
    """Mean errors of the mel where it is loud, by (steps, momentum), and the last sound."""
    mel, errors = log_mel(sweep()), {}
    loud = mel > mel.max() - 4
    for steps, momentum in ((1, 0.99), (10, 0.99), (60, 0.0), (60, 0.99)):
        generator = torch.Generator().manual_seed(0)
        made = griffin_lim(mel, n_iterations=steps, momentum=momentum, generator=generator)
        errors[steps, momentum] = (log_mel(made) - mel)[loud].abs().mean().item()
    return errors, made


def test_griffin_lim_comes_nearer_to_the_mel_with_every_step_and_with_momentum(rebuilt):
    errors, _ = rebuilt
    assert errors[1, 0.99] > errors[10, 0.99] > errors[60, 0.99]
    assert errors[60, 0.99] < 0.25 < 0.35 < errors[1, 0.99]
    assert errors[60, 0.99] < errors[60, 0.0]


def test_the_momentum_is_that_of_librosa():
    """librosa's update, t − α/(1 + α) · t_before, has the direction of the paper's t + α (t − t_before)."""
    mel, alpha = log_mel(sweep()[:, :4096]), 0.99
    generator = torch.Generator().manual_seed(3)
    amplitudes = amplitudes_of(mel)
    turns = torch.rand(amplitudes.shape, generator=torch.Generator().manual_seed(3))
    angles, before = torch.polar(torch.ones_like(turns), 2 * math.pi * turns), 0
    for _ in range(4):
        rebuilt = _stft(_inverse_stft(amplitudes * angles, DEFAULT), DEFAULT)
        angles = rebuilt - alpha / (1 + alpha) * before
        angles, before = angles / angles.abs().clamp(min=1e-16), rebuilt
    expected = _inverse_stft(amplitudes * angles, DEFAULT)[:, DEFAULT.padding : -DEFAULT.padding]
    got = griffin_lim(mel, n_iterations=4, momentum=alpha, generator=generator)
    torch.testing.assert_close(got, expected.clamp(-1, 1), atol=1e-3, rtol=0)


def test_griffin_lim_makes_sound_as_long_and_nearly_as_loud(rebuilt):
    _, made = rebuilt
    assert made.shape == sweep().shape
    assert made.abs().max() <= 1
    power = made.square().mean() / sweep().square().mean()
    assert power.item() == pytest.approx(1, rel=0.2)


def test_griffin_lim_repeats_with_its_generator():
    mel = log_mel(noise(2048))
    first, second, other = (
        griffin_lim(mel, n_iterations=2, generator=torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: log_mel(noise(4096)[0]),
            r"mono sound \(B ≥ 1, T\) of floats, got torch.float32 \(4096,\).*audio\[None\]",
        ),
        (lambda: log_mel(torch.zeros(1, 2, 4096)), "average the channels of stereo"),
        (lambda: log_mel(torch.zeros(0, 4096)), r"B ≥ 1, T\) of floats, got torch.float32 \(0, 4096\)"),
        (lambda: check_mel(torch.zeros(0, 80, 5)), r"B ≥ 1, 80, F ≥ 1\) of floats"),
        (lambda: check_mel(torch.zeros(1, 80, 5), reader=torch.zeros(1).double()), r"float64 .* mel.to\('cpu'"),
        (lambda: log_mel(torch.zeros(1, 4096, dtype=torch.int16)), "got torch.int16"),
        (lambda: log_mel(noise(4000)), "multiple of the hop of 256 samples.*got 4000; cut it to 3840 or fill .* 4096"),
        (lambda: log_mel(noise(256)), "at least 512, got 256"),
        (lambda: check_audio(noise(4096), 44_100), r"at 16000 hertz, got 44100; .*resample_poly\(audio, 160, 441"),
        (lambda: check_audio(noise(4096) * math.nan, 16_000), "NaN or infinity at 4096 of 4096 samples"),
        (lambda: check_audio(3 * noise(4096), 16_000), r"in \[-1, 1\], got a peak of 1.5"),
        (lambda: check_audio(noise(4096, 2) * torch.tensor([[1.0], [0]]), 16_000), "utterance 1 is silent"),
        (lambda: check_audio(torch.zeros(1, 2, 4096), 16_000), "stereo"),
        (
            lambda: check_mel(torch.zeros(1, 64, 5)),
            r"a mel \(B ≥ 1, 80, F ≥ 1\) of floats, got torch.float32 \(1, 64, 5\)",
        ),
        (lambda: check_mel(torch.full((1, 80, 5), -80.0)), r"natural-log amplitudes, -11.51 to .*, got -80.00 to"),
        (lambda: check_mel(torch.full((1, 80, 5), 30.0)), "got 30.00 to 30.00"),
        (lambda: check_mel(torch.full((1, 80, 5), math.nan)), "natural-log amplitudes"),
        (lambda: griffin_lim(torch.zeros(1, 80, 0), generator=torch.Generator()), "F ≥ 1"),
        (lambda: griffin_lim(torch.zeros(1, 80, 9), n_iterations=0, generator=torch.Generator()), "at least 1, got 0"),
        (lambda: MelConfig(hop_length=255), "the difference even, got 255 and 1024"),
        (lambda: MelConfig(f_max=9000), "≤ 8000 hertz .* got 0 and 9000"),
        (lambda: MelConfig(n_mels=0), "n_mels must be at least 1"),
    ],
)
def test_bad_input_is_refused_with_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()
