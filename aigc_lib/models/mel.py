"""The front end of all vocoders: log-mel spectrograms that can be differentiated, and back by Griffin and Lim.

A frame is the discrete Fourier transform of a windowed stretch of sound, and a mel band a weighted sum of its
amplitudes: 513 numbers become 80, and the phase is gone. A vocoder (声码器) brings back what was lost.

    X[k, f] = Σ_t window[t] · audio[f·hop + t − (n_fft − hop)/2] · e^(−2πi·k·t/n_fft)
    mel[m, f] = log max(floor, Σ_k filter[m, k] · |X[k, f]|)

(librosa's `melspectrogram(power=1)` with its default Slaney filters, then the logarithm that Shen et al. 2018,
arXiv:1712.05884, section 2.2 and Kong et al. 2020, arXiv:2010.05646 take.) The sound is continued by its mirror image
by (n_fft − hop)/2 samples on both sides, so that T samples give exactly T/hop frames and frame f sits over samples
f·hop to (f + 1)·hop: what the vocoders rely on.

Axis letters: B batch, T samples, M mel bands, F frames, K frequencies (n_fft/2 + 1).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

_BREAK = 1000.0  # hertz: Slaney's mel scale is linear below, logarithmic above
_LINEAR = 200 / 3  # hertz a mel below the break
_OCTAVES = math.log(6.4) / 27  # natural logarithm of the frequency ratio of a mel above it


@dataclass(frozen=True, kw_only=True)
class MelConfig:
    """What a spectrogram is made of; a vocoder understands only spectrograms of the configuration it was trained with.

    Args:
        sample_rate: hertz.
        n_fft: samples under a (Hann) window.
        hop_length: samples from one frame to the next, with n_fft − hop_length even.
        n_mels: M.
        f_min, f_max: hertz, where the lowest band begins and the highest ends.
        floor: the smallest amplitude; its logarithm is the smallest value there is.
    """

    sample_rate: int = 16_000
    n_fft: int = 1024
    hop_length: int = 256
    n_mels: int = 80
    f_min: float = 0.0
    f_max: float = 8000.0
    floor: float = 1e-5

    def __post_init__(self) -> None:
        if not 0 < self.hop_length <= self.n_fft or (self.n_fft - self.hop_length) % 2:
            raise ValueError(
                f"hop_length must be in 1 to n_fft, the difference even, got {self.hop_length} and {self.n_fft}"
            )
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise ValueError(
                f"expected 0 ≤ f_min < f_max ≤ {self.sample_rate / 2:g} hertz (half the sample rate), "
                f"got {self.f_min:g} and {self.f_max:g}"
            )
        if self.n_mels < 1 or not self.floor > 0:
            raise ValueError(f"n_mels must be at least 1 and floor above 0, got {self.n_mels} and {self.floor}")

    @property
    def padding(self) -> int:
        """Samples by which the sound is continued on either side."""
        return (self.n_fft - self.hop_length) // 2

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop_length


def log_mel(audio: Tensor, config: MelConfig = MelConfig()) -> Tensor:
    """Natural-log mel amplitudes; differentiable, in float32 or wider whatever autocast says.

    Args:
        audio: (B, T), at the configuration's sample rate; T is a multiple of the hop and above the padding.

    Returns:
        (B, M, F) with F = T / hop, at least log(floor).

    Raises:
        ValueError: audio not (B, T) of floats, or T not such a length. `check_audio` looks at the values as well.
    """
    _check_length(audio, config)
    with torch.autocast(audio.device.type, enabled=False):
        wide = audio if audio.dtype == torch.float64 else audio.float()
        padded = F.pad(wide[:, None], (config.padding,) * 2, mode="reflect").squeeze(1)
        amplitudes = _stft(padded, config).abs()  # (B, K, F)
        mel = mel_filters(config).to(amplitudes) @ amplitudes
    return mel.clamp(min=config.floor).log()


def check_audio(audio: Tensor, sample_rate: int, config: MelConfig = MelConfig()) -> None:
    """Refuse sound that a vocoder cannot be asked about. Call it where sound comes in, not in a training loop.

    Args:
        audio: (B, T) mono in [-1, 1].
        sample_rate: hertz, of the sound.

    Raises:
        ValueError: another sample rate, stereo, NaN, values beyond [-1, 1], an utterance that is silent (digital
            zero throughout), or a length that is no multiple of the hop; each with what to do about it.
    """
    if sample_rate != config.sample_rate:
        raise ValueError(
            f"expected sound at {config.sample_rate} hertz, got {sample_rate}; resample it: "
            f"scipy.signal.resample_poly(audio, {_ratio(config.sample_rate, sample_rate)}, axis=-1)"
        )
    _check_length(audio, config)
    if not audio.isfinite().all():
        raise ValueError(f"sound holds NaN or infinity at {int((~audio.isfinite()).sum())} of {audio.numel()} samples")
    peaks = audio.abs().amax(dim=1)
    if peaks.max() > 1:
        raise ValueError(f"expected sound in [-1, 1], got a peak of {peaks.max():.3g}; divide it by its full scale")
    if peaks.min() == 0:
        raise ValueError(f"utterance {int(peaks.argmin())} is silent from beginning to end; leave it out")


def mel_of(audio: Tensor, sample_rate: int, config: MelConfig = MelConfig()) -> Tensor:
    """`log_mel` of a recording, for which its sample rate and its values are looked at first.

    Raises:
        ValueError: as `check_audio`.
    """
    check_audio(audio, sample_rate, config)
    return log_mel(audio, config)


def check_mel(mel: Tensor, config: MelConfig = MelConfig(), *, reader: Tensor | None = None) -> None:
    """Refuse what is no log-mel spectrogram of this configuration.

    The largest value there can be is the logarithm of a band's weights times the window's sum: full-scale sound.
    Base-ten logarithms and the mel of another hop lie in the same range: they cannot be told from a right one.

    Args:
        reader: a weight of the network that is to read it, of the same type and on the same device.

    Raises:
        ValueError: not (B ≥ 1, M, F ≥ 1), NaN, values outside that range (decibels, a lower floor), another type or
            device than the reader's.
    """
    if mel.ndim != 3 or mel.shape[1] != config.n_mels or mel.numel() == 0 or not mel.is_floating_point():
        raise ValueError(
            f"expected a mel (B ≥ 1, {config.n_mels}, F ≥ 1) of floats, got {mel.dtype} {tuple(mel.shape)}"
        )
    if reader is not None and (mel.dtype, mel.device) != (reader.dtype, reader.device):
        raise ValueError(
            f"the network is {reader.dtype} on {reader.device}, the mel {mel.dtype} on {mel.device}; "
            f"take mel.to({str(reader.device)!r}, {reader.dtype})"
        )
    low, high = math.log(config.floor), math.log(mel_filters(config).sum(dim=1).max() * config.n_fft / 2)
    if not (mel.isfinite().all() and mel.min() >= low - 1e-3 and mel.max() <= high + 1e-3):
        raise ValueError(
            f"expected a mel of natural-log amplitudes, {low:.2f} to {high:.2f}, got {mel.min():.2f} to "
            f"{mel.max():.2f}; make it with `log_mel` from sound in [-1, 1]"
        )


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # what is kept here may be part of a gradient later
def mel_filters(config: MelConfig) -> Tensor:
    """Triangles over the frequencies, (M, K) float64, of Slaney's scale and each of area 1 in hertz.

    Source: Slaney 1998, Auditory Toolbox (technical report 1998-010), as in librosa `filters.mel`.
    """
    ends = _to_mel(torch.tensor([config.f_min, config.f_max], dtype=torch.float64))
    corners = _to_hertz(torch.linspace(*ends.tolist(), config.n_mels + 2, dtype=torch.float64))
    bins = torch.arange(config.n_fft // 2 + 1, dtype=torch.float64)
    frequencies = bins * config.sample_rate / config.n_fft
    lower, centre, upper = (corners[i : i + config.n_mels, None] for i in range(3))
    rising, falling = (frequencies - lower) / (centre - lower), (upper - frequencies) / (upper - centre)
    return torch.minimum(rising, falling).clamp(min=0) * 2 / (upper - lower)


def _to_mel(hertz: Tensor) -> Tensor:
    above = _BREAK / _LINEAR + (hertz.clamp(min=_BREAK) / _BREAK).log() / _OCTAVES
    return torch.where(hertz < _BREAK, hertz / _LINEAR, above)


def _to_hertz(mel: Tensor) -> Tensor:
    above = _BREAK * ((mel - _BREAK / _LINEAR) * _OCTAVES).exp()
    return torch.where(mel < _BREAK / _LINEAR, mel * _LINEAR, above)


# --- back to sound ---------------------------------------------------------------------------------------------------


def griffin_lim(
    mel: Tensor,
    config: MelConfig = MelConfig(),
    *,
    n_iterations: int = 60,
    momentum: float = 0.99,
    generator: torch.Generator,
) -> Tensor:
    """Sound whose amplitudes are near those of a mel, by Griffin and Lim; nothing is learned.

    First the amplitudes a ≥ 0 whose mel is nearest are sought (`amplitudes_of`), then phases that fit: from random
    ones, take the sound whose spectrogram is nearest, keep its phases, put the amplitudes back, and again (Griffin and
    Lim 1984). With momentum each step overshoots, which ends in a better place (Perraudin et al. 2013, algorithm 2;
    0.99 is theirs).

    Args:
        mel: (B, M, F) as `log_mel` gives it.
        n_iterations: steps, at least 1.

    Returns:
        (B, T) in [-1, 1] with T = F · hop.

    Raises:
        ValueError: as `check_mel`; n_iterations below 1.
    """
    check_mel(mel, config)
    if n_iterations < 1:
        raise ValueError(f"n_iterations must be at least 1, got {n_iterations}")
    amplitudes = amplitudes_of(mel.float(), config)
    turns = torch.rand(amplitudes.shape, generator=generator, device=generator.device).to(amplitudes)
    phases = torch.polar(torch.ones_like(turns), 2 * math.pi * turns)
    before = torch.zeros_like(phases)
    for _ in range(n_iterations):
        consistent = _stft(_inverse_stft(amplitudes * phases, config), config)
        phases = consistent + momentum * (consistent - before)
        phases, before = phases / phases.abs().clamp(min=1e-16), consistent
    audio = _inverse_stft(amplitudes * phases, config)
    return audio[:, config.padding : audio.shape[1] - config.padding].clamp(-1, 1)


def amplitudes_of(mel: Tensor, config: MelConfig = MelConfig(), *, n_iterations: int = 100) -> Tensor:
    """Amplitudes a ≥ 0 (B, K, F) that make ‖filters · a − exp(mel)‖² small.

    Multiplicative updates (Lee and Seung 2001, theorem 1): they never make it larger, and a stays non-negative.
    """
    filters = mel_filters(config).to(mel)
    correlation = filters.T @ mel.exp()  # (B, K, F)
    amplitudes = correlation / (filters.T @ filters.sum(dim=1)).clamp(min=1e-12)[:, None]
    for _ in range(n_iterations):
        amplitudes = amplitudes * (correlation / (filters.T @ (filters @ amplitudes)).clamp(min=1e-12))
    return amplitudes


def _stft(padded: Tensor, config: MelConfig) -> Tensor:
    """(B, T + n_fft − hop) → (B, K, F) complex."""
    window = torch.hann_window(config.n_fft, dtype=padded.dtype, device=padded.device)
    return torch.stft(padded, config.n_fft, config.hop_length, window=window, center=False, return_complex=True)


def _inverse_stft(spectrum: Tensor, config: MelConfig) -> Tensor:
    """The sound whose `_stft` is nearest to the spectrum (Griffin and Lim 1984, equation 6), (B, T + n_fft − hop).

    `torch.istft` refuses it: under the outermost samples lies nothing but the window's zeros.
    """
    n_frames, n_fft, hop = spectrum.shape[2], config.n_fft, config.hop_length
    length = n_frames * hop + n_fft - hop
    window = torch.hann_window(n_fft, dtype=spectrum.real.dtype, device=spectrum.device)[:, None]
    pieces = torch.fft.irfft(spectrum, n_fft, dim=1) * window  # (B, n_fft, F)
    weights = window.square().expand(1, n_fft, n_frames)
    total, weight = (F.fold(x, (1, length), (1, n_fft), stride=(1, hop))[:, 0, 0] for x in (pieces, weights))
    return total / weight.clamp(min=1e-8)


def _check_length(audio: Tensor, config: MelConfig) -> None:
    if audio.ndim != 2 or len(audio) == 0 or not audio.is_floating_point():
        raise ValueError(
            f"expected mono sound (B ≥ 1, T) of floats, got {audio.dtype} {tuple(audio.shape)}; average the channels "
            "of stereo and give a single utterance a batch of its own: audio[None]"
        )
    length, hop = audio.shape[1], config.hop_length
    if length % hop or length <= config.padding:
        shortest = (config.padding // hop + 1) * hop
        raise ValueError(
            f"expected a length that is a multiple of the hop of {hop} samples, at least {shortest}, got {length}; "
            f"cut it to {length // hop * hop} or fill it up with silence to {max(-(-length // hop) * hop, shortest)}"
        )


def _ratio(up: int, down: int) -> str:
    divisor = math.gcd(up, down)
    return f"{up // divisor}, {down // divisor}"
