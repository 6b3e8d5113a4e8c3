"""How near sound is to the sound it should have been, how good speech sounds, and whether it can be understood.

| metric | compares with the truth | hears the phase | best | what it stands for |
| --- | --- | --- | --- | --- |
| `stft_distance` | yes | no | 0 | amplitudes at three resolutions |
| `mel_cepstral_distortion` | yes | no | 0 dB | the spectral envelope: timbre, vowels |
| `stoi` | yes | no | 1 | intelligibility, fitted to listening tests with noise |
| `dnsmos` | no | yes | 5 | listeners' opinion, predicted by a network |
| `word_error_rate` | with the text | yes | 0 | a recogniser's errors; its own on true recordings must stand beside it |

Waveforms are not compared sample by sample: ears hardly mind a shift of phase that makes the squared error large.

Axis letters: B batch, T samples, M mel bands, F frames. Sound is float in [-1, 1], (B, T), on any device.
"""

import importlib.util
import math
import re
import time
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aigc_lib.metrics.text import error_rates
from aigc_lib.models.mel import MelConfig, log_mel

# Window, hop and transform in samples (Yamamoto et al. 2020, table 1, for 24 kHz; the usual choice at 16 kHz too).
RESOLUTIONS = ((600, 120, 1024), (1200, 240, 2048), (240, 50, 512))
_FLOOR = 10**-3.5  # amplitudes below are silence; without it the distance would be one of inaudible noise
_LISTENED = 144_160  # samples that DNSMOS hears at once, 9.01 s
_CONFIG = MelConfig()


def stft_distance(audio: Tensor, truth: Tensor) -> Tensor:
    """Multi-resolution STFT distance, (B,), differentiable (Yamamoto et al. 2020, arXiv:1910.11480, equations 3–6).

    Mean over three resolutions of ‖|S| − |Ŝ|‖ / ‖|S|‖ (Frobenius; what is loud counts) and the mean of
    |log |S| − log |Ŝ|| (what is soft counts as much).

    Raises:
        ValueError: the two are not (B, T) of one shape, with more than 1,024 samples.
    """
    _check_pair(audio, truth, at_least=1025)
    distances = []
    for window, hop, n_fft in RESOLUTIONS:
        hann = torch.hann_window(window, dtype=audio.dtype, device=audio.device)
        made, right = (
            torch.stft(sound, n_fft, hop, window, hann, return_complex=True).abs().clamp(min=_FLOOR)
            for sound in (audio, truth)
        )
        convergence = torch.linalg.matrix_norm(right - made) / torch.linalg.matrix_norm(right)
        distances.append(convergence + (right.log() - made.log()).abs().mean(dim=(1, 2)))
    return torch.stack(distances).mean(dim=0)


def mel_cepstral_distortion(
    audio: Tensor, truth: Tensor, config: MelConfig = _CONFIG, *, n_coefficients: int = 13
) -> Tensor:
    """Mel-cepstral distortion in decibels, (B,): the mean over frames of (10/ln 10) √(2 Σ_d (c_d − ĉ_d)²).

    (Kubichek 1993, "Mel-cepstral distance measure for objective speech quality assessment".) The c_d, d = 1 to
    `n_coefficients`, are those of the log-mel spectrum's cosine series, L_m = c_0 + Σ_d c_d cos(πd(m + ½)/M). So it is
    the root mean square difference of two envelopes in decibels, whatever the loudness (c_0) and the finer ripples of
    the pitch. Frames are compared one to one, without warping in time: a vocoder keeps the time of its mel. Numbers
    from other front ends or numbers of coefficients are not comparable.

    Raises:
        ValueError: not (B, T) of one shape, a length that `log_mel` refuses, n_coefficients not in 1 to M − 1.
    """
    _check_pair(audio, truth)
    if not 1 <= n_coefficients < config.n_mels:
        raise ValueError(f"n_coefficients must be in 1 to {config.n_mels - 1}, got {n_coefficients}")
    difference = log_mel(truth, config) - log_mel(audio, config)  # (B, M, F)
    bands = (torch.arange(config.n_mels, dtype=torch.float64) + 0.5) * math.pi / config.n_mels
    orders = torch.arange(1, n_coefficients + 1, dtype=torch.float64)[:, None]
    cepstrum = (2 / config.n_mels * torch.cos(orders * bands)).to(difference) @ difference  # (B, D, F)
    return 10 / math.log(10) * (2 * cepstrum.square().sum(dim=1)).sqrt().mean(dim=1)


def stoi(audio: Tensor, truth: Tensor, sample_rate: int) -> Tensor:
    """Short-time objective intelligibility, (B,), at most 1 (Taal et al. 2011), by pystoi.

    Correlation of the two sounds' envelopes in third-octave bands over 0.4 s, at 10 kHz, where the truth is not silent.

    Raises:
        ValueError: not (B, T) of one shape, or less than 0.4 s of the truth is sound.
        ModuleNotFoundError: pystoi is not installed.
    """
    from pystoi import stoi as of_pair

    _check_pair(audio, truth)
    scores = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # pystoi warns and answers 0.00001
        for made, right in zip(_numpy(audio), _numpy(truth), strict=True):
            try:
                scores.append(of_pair(right, made, sample_rate))
            except RuntimeWarning as warning:
                raise ValueError(
                    "STOI needs at least 0.4 seconds of sound in the truth that are not silent"
                ) from warning
    return torch.tensor(scores, dtype=torch.float64)


def dnsmos(audio: Tensor, sample_rate: int) -> Tensor:
    """Opinion of listeners from 1 (bad) to 5 (excellent), (B,), as a network predicts it from the sound alone.

    The overall score of DNSMOS P.835 (Reddy et al. 2022, arXiv:2110.01763), trained on noisy and denoised speech, which
    is not what vocoders do: a ranking to be checked by ear. Sound below 9.01 s is repeated up to there; of longer sound
    it is the mean over windows that begin a second apart.

    Raises:
        ValueError: not (B, T) at 16,000 hertz in [-1, 1].
        ModuleNotFoundError: speechmos is not installed.
    """
    _check_sound(audio, sample_rate)
    if audio.abs().max() > 1:
        raise ValueError(f"expected sound in [-1, 1], got a peak of {audio.abs().max():.3g}")
    session, scores = _listener(), []
    for sound in _numpy(audio):
        sound = np.resize(sound, max(len(sound), _LISTENED))  # repeats it
        starts = range(0, len(sound) - _LISTENED + 1, sample_rate)
        raw = [session.run(None, {"input_1": sound[None, i : i + _LISTENED]})[0][0, 2] for i in starts]
        # The network's answer is put on the scale of the listeners by a parabola that comes with it.
        scores.append(np.mean(np.polyval([-0.06766283, 1.11546468, 0.04602535], raw)))
    return torch.tensor(np.array(scores), dtype=torch.float64)


@cache
def _listener():
    # The package's own function imports librosa and hears every sound by two more networks; its model is all we need.
    spec = importlib.util.find_spec("speechmos")
    if spec is None:
        raise ModuleNotFoundError("DNSMOS needs its model. Run: pip install speechmos==0.0.1.1")
    from onnxruntime import InferenceSession

    (folder,) = spec.submodule_search_locations
    return InferenceSession(Path(folder) / "dnsmos_models" / "sig_bak_ovr.onnx", providers=["CPUExecutionProvider"])


def transcribe(audio: Tensor, sample_rate: int) -> list[list[str]]:
    """The words that pocketsphinx hears in each of (B, T), lower case; a small recogniser with many errors of its own.

    Its acoustic and language models are those of its package (US English). Every utterance is heard afresh: its
    cepstra are normalised by their own mean, not by that of those before.

    Raises:
        ValueError: not (B, T) at 16,000 hertz.
        ModuleNotFoundError: pocketsphinx is not installed.
    """
    _check_sound(audio, sample_rate)
    decoder = _recogniser()
    heard = []
    for sound in _numpy(audio):
        decoder.start_utt()
        decoder.process_raw((sound * 32767).round().clip(-32768, 32767).astype(np.int16).tobytes(), full_utt=True)
        decoder.end_utt()
        heard.append(decoder.hyp().hypstr.split() if decoder.hyp() else [])
    return heard


@cache
def _recogniser():
    if importlib.util.find_spec("pocketsphinx") is None:
        raise ModuleNotFoundError("recognising words needs pocketsphinx. Run: pip install pocketsphinx==5.1.1")
    from pocketsphinx import Decoder

    return Decoder(samprate=16_000, cmn="batch", loglevel="FATAL")


def words_of(text: str) -> list[str]:
    """A sentence as a recogniser writes it: lower-case words of letters and apostrophes."""
    return re.findall(r"[a-z]+(?:'[a-z]+)*", text.lower().replace("’", "'"))


def word_error_rate(heard: Sequence[Sequence[str]], texts: Sequence[str]) -> float:
    """Substitutions, deletions and insertions a word of the texts, over all of them; may exceed 1.

    Raises:
        ValueError: not as many as texts, or a text without words.
    """
    return error_rates(heard, [[words_of(text)] if words_of(text) else [] for text in texts]).symbols


def real_time_factor(make: Callable[[], Tensor], sample_rate: int) -> float:
    """Seconds it takes to make a second of sound; below 1 is faster than real time. `make` gives (B, T).

    It is called twice and the second call timed: the first one may compile or allocate. On a GPU the sound is waited
    for.
    """
    make().cpu()
    start = time.perf_counter()
    sound = make().cpu()
    return (time.perf_counter() - start) / (sound.numel() / sample_rate)


def speech_quality(
    made: Sequence[Tensor], truth: Sequence[Tensor], texts: Sequence[str], config: MelConfig = _CONFIG
) -> dict[str, float]:
    """All metrics above of spoken sentences, (1, T) each and aligned with the true recordings; means over sentences.

    Raises:
        ValueError: no sentence, or not as many of each; as the metrics.
    """
    if not len(made) == len(truth) == len(texts) > 0:
        raise ValueError(f"expected as many sounds as truths and texts, got {len(made)}, {len(truth)} and {len(texts)}")
    rate = config.sample_rate
    pairs = [(sound.detach().float().cpu(), right.cpu()) for sound, right in zip(made, truth, strict=True)]
    scores = {
        "STFT distance": [stft_distance(*pair) for pair in pairs],
        "mel-cepstral distortion (dB)": [mel_cepstral_distortion(*pair, config) for pair in pairs],
        "STOI": [stoi(*pair, rate) for pair in pairs],
        "DNSMOS": [dnsmos(sound.clamp(-1, 1), rate) for sound, _ in pairs],
    }
    heard = [words for sound, _ in pairs for words in transcribe(sound, rate)]
    return {name: torch.cat(each).mean().item() for name, each in scores.items()} | {
        "word error rate": word_error_rate(heard, texts)
    }


def _check_sound(audio: Tensor, sample_rate: int = 16_000) -> None:
    if sample_rate != 16_000:  # what the two networks were trained with
        raise ValueError(f"expected sound at 16000 hertz, got {sample_rate}; see scipy.signal.resample_poly")
    if audio.ndim != 2 or audio.numel() == 0 or not audio.is_floating_point():
        raise ValueError(f"expected mono sound (B, T) of floats, got {audio.dtype} {tuple(audio.shape)}")
    if not audio.isfinite().all():
        raise ValueError(f"sound holds NaN or infinity at {int((~audio.isfinite()).sum())} of {audio.numel()} samples")


def _check_pair(audio: Tensor, truth: Tensor, *, at_least: int = 1) -> None:
    _check_sound(audio), _check_sound(truth)
    if audio.shape != truth.shape or audio.shape[1] < at_least:
        raise ValueError(
            f"expected sound and truth (B, T) of one shape with T of at least {at_least}, got {tuple(audio.shape)} and "
            f"{tuple(truth.shape)}"
        )
    if truth.abs().amax(dim=1).min() == 0:
        raise ValueError("the truth is silent: there is nothing to compare with")


def _numpy(audio: Tensor) -> np.ndarray:
    return audio.detach().float().cpu().numpy()
