"""Distances of sounds against closed forms and other implementations; what listeners and recognisers make of speech."""

import math

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dct
from scipy.signal import stft as scipy_stft
from torchmetrics.text import WordErrorRate

from aigc_lib import datasets
from aigc_lib.metrics import audio as metrics
from aigc_lib.metrics.audio import (
    dnsmos,
    mel_cepstral_distortion,
    real_time_factor,
    speech_quality,
    stft_distance,
    stoi,
    transcribe,
    word_error_rate,
    words_of,
)
from aigc_lib.models.mel import log_mel

RATE = 16_000
words = st.lists(st.sampled_from(["a", "red", "fish", "it's"]), min_size=1, max_size=6)


def noise(n_samples: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    return (torch.rand(batch, n_samples, generator=torch.Generator().manual_seed(seed)) - 0.5) * 0.8


@pytest.fixture(scope="module")
def sentence():
    """A spoken sentence (1, T), T a multiple of the hop, and its text."""
    item = datasets.load("speech", "test", n=30, sample_rate=RATE)[0]
    return item.audio[None, : len(item.audio) // 256 * 256], item.text


# --- distance of spectra ---------------------------------------------------------------------------------------------


def test_stft_distance_is_what_scipys_spectra_say():
    made, truth = noise(4096, seed=1), noise(4096, seed=2)
    expected = []
    for window, hop, n_fft in metrics.RESOLUTIONS:
        hann = np.zeros(n_fft)
        start = (n_fft - window) // 2
        hann[start : start + window] = np.hanning(window + 1)[:-1]
        right, ours = (
            np.abs(scipy_stft(
                np.pad(x[0].double().numpy(), n_fft // 2, mode="reflect"), window=hann, nperseg=n_fft,
                noverlap=n_fft - hop, boundary=None, padded=False,
            )[2]) * hann.sum()
            for x in (truth, made)
        )  # fmt: skip
        logs = np.abs(np.log(np.maximum(right, 10**-3.5)) - np.log(np.maximum(ours, 10**-3.5)))
        expected.append(np.linalg.norm(right - ours) / np.linalg.norm(right) + logs.mean())
    assert stft_distance(made, truth).item() == pytest.approx(np.mean(expected), rel=1e-4)


@given(st.floats(0.2, 3))
@settings(deadline=None, max_examples=10)
def test_stft_distance_of_a_louder_copy_is_its_gain(gain):
    """|S| becomes g|S|: the first term is |g - 1|, the second |log g|."""
    distance = stft_distance(gain * noise(4096), noise(4096))
    assert distance.item() == pytest.approx(abs(gain - 1) + abs(math.log(gain)), rel=1e-3, abs=1e-4)


def test_stft_distance_hears_neither_sign_nor_the_other_examples_and_has_a_gradient():
    both, truth = noise(4096, 2, seed=1), noise(4096, 2, seed=2)
    torch.testing.assert_close(stft_distance(-truth, truth), torch.zeros(2))
    alone = torch.cat([stft_distance(both[i : i + 1], truth[i : i + 1]) for i in (0, 1)])
    torch.testing.assert_close(stft_distance(both, truth), alone)
    both.requires_grad_()
    stft_distance(both, truth).sum().backward()
    assert both.grad.isfinite().all()


# --- distance of envelopes -------------------------------------------------------------------------------------------


@given(st.integers(1, 79), st.integers(0, 99))
@settings(deadline=None, max_examples=10)
def test_distortion_is_that_of_scipys_cosine_transform(n_coefficients, seed):
    made, truth = noise(2048, seed=seed), noise(2048, seed=seed + 1)
    difference = (log_mel(truth) - log_mel(made))[0].double().numpy()
    cepstrum = dct(difference, type=2, axis=0)[1 : n_coefficients + 1] / 80
    expected = 10 * math.sqrt(2) / math.log(10) * np.sqrt((cepstrum**2).sum(axis=0)).mean()
    got = mel_cepstral_distortion(made, truth, n_coefficients=n_coefficients)
    assert got.item() == pytest.approx(expected, rel=1e-5)


def test_with_all_coefficients_distortion_is_the_spread_of_the_difference_in_decibels():
    """Parseval: what the cosines leave out is the mean, c_0."""
    made, truth = noise(2048, seed=1), noise(2048, seed=2)
    decibels = 20 / math.log(10) * (log_mel(truth) - log_mel(made)).double()
    expected = decibels.std(dim=1, correction=0).mean()
    # The cosine of each order has the mean square 1/2; all 79 orders span what has no mean.
    assert mel_cepstral_distortion(made, truth, n_coefficients=79).item() == pytest.approx(expected.item(), rel=1e-5)


def test_loudness_does_not_count_and_another_vowel_does(sentence):
    audio, _ = sentence
    assert mel_cepstral_distortion(0.5 * noise(4096), noise(4096)).item() < 1e-4
    brighter = torch.from_numpy(librosa.effects.preemphasis(audio[0].numpy()))[None]
    assert mel_cepstral_distortion(brighter, audio).item() > 2


# --- intelligibility -------------------------------------------------------------------------------------------------


def test_stoi_is_one_for_the_truth_at_any_gain_and_falls_with_noise(sentence):
    audio, _ = sentence
    hiss = torch.randn(audio.shape, generator=torch.Generator().manual_seed(0)) * audio.square().mean().sqrt()
    assert stoi(0.3 * audio, audio, RATE).item() == pytest.approx(1, abs=1e-6)
    scores = [stoi(audio + gain * hiss, audio, RATE).item() for gain in (0.1, 0.5, 2.5)]
    assert 1 > scores[0] > scores[1] > scores[2] > 0
    assert scores[0] > 0.9
    assert stoi(hiss, audio, RATE).item() < 0.5
    batch = stoi(torch.cat([audio, hiss]), audio.expand(2, -1), RATE)
    assert batch.shape == (2,)
    assert batch[0] > batch[1]


# --- opinion ---------------------------------------------------------------------------------------------------------


def test_dnsmos_prefers_clean_speech_to_noisy(sentence):
    audio, _ = sentence
    noisy = (audio + 0.5 * audio.std() * torch.randn(audio.shape, generator=torch.Generator().manual_seed(0))).clamp(
        -1, 1
    )
    clean, worse = dnsmos(torch.cat([audio, noisy]), RATE).tolist()
    assert 1 <= worse < clean - 0.3 < 5


@pytest.mark.slow
def test_dnsmos_is_what_its_authors_package_says(sentence):
    from speechmos import dnsmos as theirs

    sound = sentence[0].repeat(1, 5)[:, : 11 * RATE]  # of longer sound theirs leaves parts out: (7 + 9.01)·16000 rounds
    expected = theirs.run(sound[0].numpy(), RATE)["ovrl_mos"]
    assert dnsmos(sound, RATE).item() == pytest.approx(expected, abs=1e-4)


# --- words -----------------------------------------------------------------------------------------------------------


def test_the_recogniser_hears_a_clean_sentence_the_same_every_time_and_nothing_in_silence(sentence):
    audio, text = sentence
    silence = torch.zeros(1, RATE)
    first, nothing, again = transcribe(audio, RATE) + transcribe(silence, RATE) + transcribe(audio, RATE)
    assert first == again
    assert word_error_rate([first], [text]) < 0.5
    assert len(nothing) <= 1


@given(st.lists(st.tuples(words, words), min_size=1, max_size=4))
@settings(deadline=None)
def test_word_error_rate_is_that_of_torchmetrics(pairs):
    heard, right = [pair[0] for pair in pairs], [" ".join(pair[1]) for pair in pairs]
    expected = WordErrorRate()([" ".join(each) for each in heard], right)
    assert word_error_rate(heard, [text.capitalize() + "." for text in right]) == pytest.approx(expected.item())


def test_words_are_lower_case_letters_and_apostrophes():
    assert words_of("I didn’t see 3; it's GOOD.") == ["i", "didn't", "see", "it's", "good"]
    assert words_of("He said, 'No.'") == ["he", "said", "no"]


# --- all together ----------------------------------------------------------------------------------------------------


def test_real_time_factor_is_seconds_a_second_of_the_second_call(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(metrics.time, "perf_counter", lambda: clock[0])

    def make() -> torch.Tensor:
        clock[0] += 5.0 if clock[0] == 0 else 0.25  # the first call is slow
        return torch.zeros(2, RATE // 4)  # half a second in all

    assert real_time_factor(make, RATE) == pytest.approx(0.5)


def test_recordings_are_perfect_but_for_the_listeners(sentence):
    audio, text = sentence
    quality = speech_quality([audio], [audio], [text])
    assert quality["STFT distance"] == quality["mel-cepstral distortion (dB)"] == 0
    assert quality["STOI"] == pytest.approx(1, abs=1e-6)
    assert 2.5 < quality["DNSMOS"] < 5
    assert 0 <= quality["word error rate"] < 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stft_distance(noise(4096), noise(4000)), r"of one shape .*\(1, 4096\) and \(1, 4000\)"),
        (lambda: stft_distance(noise(1000), noise(1000)), "T of at least 1025"),
        (lambda: stft_distance(noise(4096), torch.zeros(1, 4096)), "the truth is silent"),
        (lambda: stft_distance(noise(4096) * math.nan, noise(4096)), "NaN or infinity at 4096 of 4096"),
        (lambda: mel_cepstral_distortion(noise(4096)[0], noise(4096)[0]), r"mono sound \(B, T\)"),
        (lambda: mel_cepstral_distortion(noise(4096), noise(4096), n_coefficients=80), "1 to 79, got 80"),
        (lambda: mel_cepstral_distortion(noise(4000), noise(4000)), "multiple of the hop"),
        (lambda: stoi(noise(2048), noise(2048), RATE), "0.4 seconds"),
        (lambda: dnsmos(noise(4096), 22_050), "at 16000 hertz, got 22050"),
        (lambda: dnsmos(4 * noise(4096), RATE), r"in \[-1, 1\], got a peak of 1.6"),
        (lambda: transcribe(noise(4096), 8_000), "at 16000 hertz, got 8000"),
        (
            lambda: transcribe(torch.zeros(1, 2, 400), RATE),
            r"mono sound \(B, T\) of floats, got torch.float32 \(1, 2, ",
        ),
        (lambda: word_error_rate([["a"]], ["a", "b"]), "got 1 and 2"),
        (lambda: word_error_rate([["a"]], ["12"]), "each with references"),
        (lambda: speech_quality([], [], []), "got 0, 0 and 0"),
    ],
)
def test_bad_input_is_refused_with_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_without_the_model_the_command_to_install_it_is_named(monkeypatch):
    metrics._listener.cache_clear()
    monkeypatch.setattr(metrics.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match="pip install speechmos"):
        dnsmos(noise(4096), RATE)
    metrics._recogniser.cache_clear()
    with pytest.raises(ModuleNotFoundError, match="pip install pocketsphinx"):
        transcribe(noise(4096), RATE)
