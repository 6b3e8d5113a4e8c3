"""HiFi-GAN: what each discriminator sees, what the losses reward, and a generator that speaks in chunks."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd.functional import jacobian
from torch.nn.functional import l1_loss
from torch.nn.utils.parametrize import is_parametrized

from aigc_lib.models.hifigan import (
    PERIODS,
    RESOLUTIONS,
    Discriminator,
    HiFiGANConfig,
    HiFiGANGenerator,
    PeriodDiscriminator,
    ScaleDiscriminator,
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
    mel_loss,
)
from aigc_lib.models.mel import log_mel

SMALL = {"n_mels": 4, "width": 8, "upsample_rates": (4, 2), "hop_length": 32, "discriminator_width": 4}


def speaker(**changes) -> HiFiGANGenerator:
    torch.manual_seed(0)
    return HiFiGANGenerator(HiFiGANConfig(**{**SMALL, **changes})).double().eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def judges() -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(HiFiGANConfig(**SMALL)).double().eval()


# --- the generator ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rates", [(4, 2), (8,), (2, 2, 2)])
@pytest.mark.parametrize("n_frames", [1, 5])
def test_every_frame_becomes_a_hop_of_sound(rates, n_frames):
    audio = speaker(upsample_rates=rates)(noise(2, 4, n_frames))
    assert audio.shape == (2, 32 * n_frames)
    assert audio.isfinite().all()


def test_the_generator_ends_in_the_overlapping_spectra_that_it_names():
    # Constant spectra with one bin that turns whole times from step to step add up to a pure tone. A Hann window at a
    # quarter of its length sums to 2, its square to 3/2: that is what overlap-and-add divides by.
    model = speaker()
    torch.nn.init.zeros_(model.end.weight)
    model.end.bias.data[: model.n_fft // 2 + 1] = -40
    model.end.bias.data[4], model.end.bias.data[model.n_fft // 2 + 1 :] = 1.0, 0.0
    audio = model(noise(1, 4, 6))[0]
    t = torch.arange(len(audio), dtype=torch.float64)
    tone = 2 / model.n_fft * math.e * (2 / 1.5) * torch.cos(2 * math.pi * 4 / model.n_fft * t)
    inside = slice(model.n_fft, -model.n_fft)
    torch.testing.assert_close(audio[inside], tone[inside], atol=1e-6, rtol=0)


def test_a_sample_depends_on_frames_within_reach_and_no_others():
    model = speaker(dilations=((1,), (2,), (1,)))
    reach = model.config.reach
    n_frames = 2 * reach + 5
    middle = n_frames // 2
    sound = slice(middle * 32, (middle + 1) * 32)
    touched = jacobian(lambda mel: model(mel)[0, sound], noise(1, 4, n_frames)).abs().sum(dim=(0, 1, 2))
    assert all(touched[f] == 0 for f in range(n_frames) if abs(f - middle) > reach)
    assert (touched[middle - 2 : middle + 3] > 0).all()


@pytest.mark.parametrize("chunk_frames", [1, 7, 100])
def test_chunks_are_the_whole(chunk_frames):
    model, mel = speaker(), noise(2, 4, 40).clamp(-3, 3)
    whole = model(mel).clamp(-1, 1)
    torch.testing.assert_close(model.generate(mel, chunk_frames=chunk_frames), whole, atol=1e-12, rtol=0)


def test_under_autocast_the_last_transform_is_in_float32():
    model, mel = speaker().float(), noise(2, 4, 8).float()
    exact = model(mel)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(mel)
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.05 * exact.abs().max()


def test_the_generator_can_be_copied_and_its_weights_are_plain():
    model, mel = speaker(), noise(1, 4, 3)
    assert torch.equal(copy.deepcopy(model)(mel), model(mel))
    assert not any(is_parametrized(module) for module in model.modules())


# --- the discriminators ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("period", PERIODS)
def test_a_period_discriminator_judges_each_phase_of_its_period_alone(period):
    torch.manual_seed(0)
    judge = PeriodDiscriminator(period, 2).double()
    length = 40 * period
    audio = noise(1, length)
    by_sample = jacobian(lambda x: judge(x)[0].view(-1, period).sum(dim=0), audio)[:, 0]  # (p, T)
    touched = by_sample.view(period, -1, period).abs().sum(dim=1) > 0
    assert torch.equal(touched, torch.eye(period, dtype=torch.bool))


def test_the_coarser_scales_do_not_hear_what_averages_away():
    judge = judges()
    audio = noise(1, 512)
    alternating = audio + 0.5 * (-1.0) ** torch.arange(512)
    before, after = (judge(sound)[0] for sound in (audio, alternating))
    same = [torch.allclose(a, b, atol=1e-9) for a, b in zip(before, after, strict=True)]
    assert same == [False] * 6 + [True, True]


def test_eight_discriminators_judge_sound_of_any_length():
    judge = judges()
    for length in (512, 517):
        scores, features = judge(noise(3, length))
        assert len(scores) == len(features) == len(PERIODS) + 3
        assert all(score.shape[0] == 3 and score.ndim == 2 for score in scores)
        assert all(len(layers) == 5 for layers in features)


def test_the_discriminators_are_normalised_as_in_the_paper():
    judge = judges()
    kinds = [
        {type(layer.parametrizations.weight[0]).__name__ for layer in [*each.layers, each.judge]}
        for each in [*judge.periods, *judge.scales]
    ]
    assert kinds == [{"_WeightNorm"}] * 5 + [{"_SpectralNorm"}] + [{"_WeightNorm"}] * 2
    torch.manual_seed(0)
    spectral = ScaleDiscriminator(4, spectral=True).train()
    for _ in range(50):
        spectral(torch.randn(1, 512))
    weight = spectral.judge.weight.flatten(1)
    assert torch.linalg.matrix_norm(weight, ord=2).item() == pytest.approx(1, abs=1e-3)


# --- the losses ------------------------------------------------------------------------------------------------------


def test_the_losses_are_zero_for_a_perfect_player_and_known_for_an_undecided_one():
    ones, zeros, halves = ([torch.full((2, n), value) for n in (3, 5)] for value in (1.0, 0.0, 0.5))
    assert discriminator_loss(ones, zeros) == 0
    assert generator_loss(ones) == 0
    assert discriminator_loss(halves, halves).item() == pytest.approx(2 * 0.5)  # ¼ + ¼ for each of the two
    assert generator_loss(halves).item() == pytest.approx(2 * 0.25)


@given(p_data=st.floats(0.05, 1), p_fake=st.floats(0.05, 1))
@settings(max_examples=25, deadline=None)
def test_the_best_score_is_the_share_of_reals(p_data, p_fake):
    # E over both: p_data (D − 1)² + p_fake D² is least at D = p_data / (p_data + p_fake).
    score = torch.tensor(p_data / (p_data + p_fake), dtype=torch.float64, requires_grad=True)
    loss = p_data * discriminator_loss([score[None]], [torch.zeros(1)])
    loss = loss + p_fake * discriminator_loss([torch.ones(1)], [score[None]])
    loss.backward()
    assert abs(score.grad.item()) < 1e-9


def test_features_are_matched_in_every_layer_and_the_reals_stay_where_they_are():
    real = [[torch.zeros(2, 3, requires_grad=True), torch.zeros(2, 4)], [torch.zeros(2, 5)]]
    fake = [[torch.full((2, 3), 1.0, requires_grad=True), torch.full((2, 4), -2.0)], [torch.full((2, 5), 4.0)]]
    loss = feature_matching_loss(real, fake)
    assert loss.item() == 1 + 2 + 4
    loss.backward()
    assert real[0][0].grad is None
    torch.testing.assert_close(fake[0][0].grad, torch.full((2, 3), 1 / 6))


def test_the_mel_loss_is_the_mean_distance_of_log_mels_and_deaf_to_sign():
    real, fake = (0.1 * noise(2, 2048, seed=s).float() for s in (0, 1))
    expected = sum(l1_loss(log_mel(fake, c), log_mel(real, c)) for c in RESOLUTIONS) / len(RESOLUTIONS)
    torch.testing.assert_close(mel_loss(real, fake), expected)
    assert mel_loss(real, real) == 0
    assert mel_loss(real, -real) == 0
    assert mel_loss(real, 2 * real).item() == pytest.approx(math.log(2), abs=1e-3)


def test_a_generator_learns_a_tone_from_its_mel_loss():
    torch.manual_seed(0)
    tone = 0.3 * torch.sin(2 * math.pi * 440 / 16_000 * torch.arange(4096))[None]
    mel = log_mel(tone)
    model = HiFiGANGenerator(HiFiGANConfig(width=16, upsample_rates=(8,)))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = mel_loss(tone, model(mel))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: speaker()(noise(1, 5, 3)), r"mel must be float \(B, 4, F\), got torch.float64 \(1, 5, 3\)"),
        (lambda: speaker().generate(noise(4, 3)), r"mel \(B ≥ 1, 4, F ≥ 1\)"),
        (lambda: speaker().generate(torch.full((1, 4, 3), -40.0).double()), "natural-log amplitudes.*got -40.00"),
        (lambda: speaker().generate(torch.full((1, 4, 3), torch.nan).double()), "natural-log"),
        (lambda: speaker().generate(torch.zeros(1, 4, 3).double(), chunk_frames=0), "chunk_frames must be at least 1"),
        (lambda: judges()(noise(1, 1, 512)), r"audio must be float \(B, T\), got torch.float64 \(1, 1, 512\)"),
        (lambda: mel_loss(torch.zeros(1, 512), torch.zeros(1, 768)), r"one shape, got \(1, 512\) and \(1, 768\)"),
        (lambda: HiFiGANConfig(upsample_rates=(3,)), "upsample_rates must be even"),
        (lambda: HiFiGANConfig(upsample_rates=(8, 8, 8)), "product divide the hop of 256"),
        (lambda: judges()(noise(1, 3)), "at least 44 samples to judge, got 3"),
        (
            lambda: speaker().generate(torch.zeros(1, 4, 3)),
            "the network is torch.float64 on cpu, the mel torch.float32",
        ),
        (lambda: HiFiGANConfig(hop_length=0), "hop_length must be at least 1, got 0"),
        (lambda: HiFiGANConfig(dilations=((0,), (2, 6), (3, 12))), "dilations of at least 1"),
        (lambda: HiFiGANConfig(kernel_sizes=(-1, 3, 5)), "kernel_sizes must be odd"),
        (lambda: HiFiGANConfig(kernel_sizes=(3, 4, 5)), "kernel_sizes must be odd"),
        (lambda: HiFiGANConfig(kernel_sizes=(3, 5)), "one tuple of dilations of at least 1 each"),
        (lambda: HiFiGANConfig(width=6), "width must halve 2 times, got 6"),
        (lambda: HiFiGANConfig(n_mels=0), "n_mels must be at least 1, got 0"),
    ],
)
def test_bad_input_is_refused_with_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_configuration_survives_json():
    config = HiFiGANConfig(upsample_rates=[8, 4], kernel_sizes=[3, 5, 7], dilations=[[1, 2], [2, 6], [3, 12]])
    assert config == HiFiGANConfig()
    assert hash(config) == hash(HiFiGANConfig())


@pytest.mark.gpu
def test_the_gpu_computes_what_the_cpu_does():
    torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = "ieee"
    generator, discriminator = speaker().float(), judges().float()
    mel = noise(2, 4, 40).float() - 4
    with torch.no_grad():
        sound = generator(mel)
        scores, _ = discriminator(sound)
        on_gpu = generator.cuda()(mel.cuda())
        torch.testing.assert_close(on_gpu.cpu(), sound, atol=1e-4, rtol=0)
        for got, expected in zip(discriminator.cuda()(on_gpu)[0], scores, strict=True):
            torch.testing.assert_close(got.cpu(), expected, atol=1e-4, rtol=0)
