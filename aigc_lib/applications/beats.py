"""Where music begins something new, and where one would tap a foot: onsets, tempo and beats.

The strength of an onset (起音) is how much the log-mel spectrum rises from one frame to the next (spectral
flux, 频谱通量; compared with the louder of the neighbouring bands, so that vibrato is no onset: Böck and Widmer 2013,
DAFx). Beats (节拍) are times that collect much of it and lie one period apart, found at once by dynamic programming:

    score(b_1 … b_n) = Σ strength(b_i) − tightness · Σ (log((b_i − b_{i−1}) / period))²

(Ellis 2007, "Beat tracking by dynamic programming", Journal of New Music Research 36(1).) The tempo is one for the
whole piece; it may waver by some per cent. A foot may tap twice as fast: nothing in the sound forbids it, so tempi
near 120 a minute are preferred.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from aigc_lib.models.mel import MelConfig, log_mel

TEMPI = (50.0, 220.0)  # beats a minute that are considered
_USUAL, _SPREAD = 120.0, 0.7  # where the preference for a tempo has its middle, and its deviation in octaves
_TIGHTNESS = 100.0  # Ellis's α: of a step that is 10 % too long, it takes 0.9 of the deviation of the strength
_RANGE = 5.0  # natural logarithm: what is 43 dB below the loudest is silence
_LEAST = 0.025  # of the strength: one band of the forty
_LEAD = 1  # frames by which a rise is seen before it comes, since the window reaches ahead
_SILENT = 1e-4  # 80 dB below full scale


def onset_strength(audio: Tensor, sample_rate: int) -> tuple[Tensor, float]:
    """How much begins at each moment.

    Args:
        audio: (T,) float in [-1, 1], mono, at least a tenth of a second.
        sample_rate: 8,000 hertz or more.

    Returns:
        strength (F,), 0 to 1: the mean over the bands of the rise in nats a frame; entry i belongs to second i / rate.
        frames a second: about 100, `sample_rate` by the even number of samples of a step.

    Raises:
        ValueError: the sound is silent (below a ten-thousandth throughout), too short, not finite or not mono.
    """
    hop = 2 * round(sample_rate / 200)
    if audio.ndim != 1 or not audio.is_floating_point() or sample_rate < 8000:
        raise ValueError(
            f"expected mono sound (T,) of floats at 8,000 hertz or more, got {audio.dtype} {tuple(audio.shape)} at "
            f"{sample_rate}"
        )
    if len(audio) < 10 * hop or not audio.isfinite().all():
        raise ValueError(f"expected at least {10 * hop} samples (0.1 s), all of them finite, got {len(audio)}")
    if audio.abs().max() < _SILENT:
        raise ValueError("the sound is silent, so nothing begins in it; pass sound with something to hear")
    sizes = {"n_fft": 4 * hop, "hop_length": hop, "n_mels": 40, "f_max": min(8000, sample_rate / 2)}
    config = MelConfig(sample_rate=sample_rate, **sizes)
    mel = log_mel(F.pad(audio, (0, -len(audio) % hop))[None], config)  # (1, M, F)
    mel = mel.clamp(min=mel.max().item() - _RANGE)
    before = F.max_pool2d(mel[:, None], (3, 1), stride=1, padding=(1, 0))[:, 0, :, :-1]
    rise = (mel[..., 1:] - before).clamp(0, 1).mean(dim=1)[0]  # out of silence, all bands rise at once: at most 1 each
    return F.pad(rise, (1 + _LEAD, 0))[: mel.shape[-1]], sample_rate / hop


def onsets(audio: Tensor, sample_rate: int) -> Tensor:
    """When something begins, in seconds, (N,) float64: peaks of the strength that stand out from what is around them.

    A peak is the largest of the 60 ms around it, and stands above the mean of the 0.2 s around it by what one band
    alone can give, and by a fifth of what 2 % of all frames surpass.
    A tone that was there from the start has no onset: N may be 0. Arguments and errors as of `onset_strength`.
    """
    strength, rate = onset_strength(audio, sample_rate)
    largest = _around(strength, F.max_pool1d, round(0.03 * rate))
    mean = _around(strength, F.avg_pool1d, round(0.1 * rate))
    rising = strength > F.pad(strength, (1, 0))[:-1]  # of equal neighbours, the first
    peaks = rising & (strength == largest) & (strength > mean + _LEAST + 0.2 * strength.quantile(0.98))
    return peaks.nonzero().flatten().double() / rate


def _around(strength: Tensor, pool, n: int) -> Tensor:
    """What `pool` makes of n values before, the value itself, and n after."""
    return pool(F.pad(strength[None], (n, n), mode="replicate"), 2 * n + 1, stride=1)[0]


def tempo_and_beats(audio: Tensor, sample_rate: int) -> tuple[float, Tensor]:
    """Beats a minute, and when they are.

    Args:
        audio: (T,) float in [-1, 1], mono, of at least three seconds and one tempo.
        sample_rate: 8,000 hertz or more.

    Returns:
        The tempo, 50 to 220; and the beats in seconds, (N ≥ 2,) float64, from the first onset to the last.

    Raises:
        ValueError: as `onset_strength`; too short; or fewer than four onsets, of which nobody hears a beat.
    """
    if len(audio) < 3 * sample_rate:
        raise ValueError(f"a beat needs at least 3 s of sound to be heard, got {len(audio) / sample_rate:.2f} s")
    strength, rate = onset_strength(audio, sample_rate)
    begins = onsets(audio, sample_rate)
    if len(begins) < 4:
        raise ValueError(f"no beat is to be heard: {len(begins)} onsets in {len(audio) / sample_rate:.1f} s of sound")
    strength = strength / strength.std()
    period = _period(strength, rate)
    beats = _chain(strength, period) / rate
    kept = beats[(beats > begins[0] - 0.5 * period / rate) & (beats < begins[-1] + 0.5 * period / rate)]
    return 60 * (len(kept) - 1) / (kept[-1] - kept[0]).item(), kept


def _period(strength: Tensor, rate: float) -> float:
    """Frames a beat: where the autocorrelation, times the preference for usual tempi, is largest."""
    n = len(strength)
    spectrum = torch.fft.rfft(strength - strength.mean(), 2 * n)
    likeness = torch.fft.irfft(spectrum.abs() ** 2)[:n]
    lags = torch.arange(math.ceil(60 * rate / TEMPI[1]), min(int(60 * rate / TEMPI[0]), n // 4 - 1) + 1)
    # A comb: what comes again after a beat, comes again after two, three and four.
    comb = sum(F.max_pool1d(likeness[None], 2 * k - 1, stride=1, padding=k - 1)[0, k * lags] for k in (1, 2, 3, 4))
    octaves = torch.log2(60 * rate / lags / _USUAL)
    best = lags[(comb * torch.exp(-0.5 * (octaves / _SPREAD) ** 2)).argmax()]
    left, middle, right = likeness[best - 1 : best + 2].tolist()
    bend = left - 2 * middle + right
    return best.item() + (0.5 * (left - right) / bend if bend < 0 else 0.0)  # top of the parabola through the three


def _chain(strength: Tensor, period: float) -> Tensor:
    """Frames (N,) float64 of the best chain of beats."""
    steps = torch.arange(round(period / 2), round(2 * period) + 1)
    cost = _TIGHTNESS * torch.log(steps / period) ** 2
    score, previous = strength.clone(), torch.full((len(strength),), -1)
    for i in range(int(steps[0]), len(strength)):
        k = min(len(steps), i - int(steps[0]) + 1)
        value, best = (score[i - steps[:k]] - cost[:k]).max(dim=0)
        if value > 0:
            score[i] += value
            previous[i] = i - steps[best]
    last = len(score) - round(period) + int(score[-round(period) :].argmax())
    chain = [last]
    while previous[chain[-1]] >= 0:
        chain.append(int(previous[chain[-1]]))
    return torch.tensor(chain[::-1], dtype=torch.float64)
