"""HiFi-GAN: a vocoder that is a generative adversarial network, with what it is trained by.

A generator G turns a mel spectrogram into sound in one pass; eight small discriminators judge the sound, each from its
own view: five see it folded at a period, three at a scale. Kong, Kim, Bae 2020, arXiv:2010.05646, whose sections and
equations are cited. There is no noise and no likelihood: one mel gives one sound.

Axis letters: B batch, T time (samples), M mel bins, F frames, N steps before the last transform. Audio is float in
[-1, 1], (B, T); mel is natural-log amplitude, (B, M, F), with T = F · hop.

Differs from the paper in
- the generator's end: the last up-samplings are an inverse Fourier transform of amplitudes and phases that the network
  predicts (iSTFTNet, Kaneko et al. 2022, arXiv:2203.02395), which does the same for a fraction of the time;
- size: its smallest generator (V3, residual blocks of two convolutions) and narrow discriminators, for a laptop; the
  generator has no weight normalisation, so that nothing has to be removed before it speaks;
- `mel_loss` compares at several resolutions (as Kumar et al. 2023, arXiv:2306.06546, section 3.4), not at one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from aigc_lib.models.chunks import in_chunks
from aigc_lib.models.mel import MelConfig, check_mel, log_mel

SLOPE = 0.1  # of every leaky ReLU
PERIODS = (2, 3, 5, 7, 11)  # primes, so that the views share as little as possible (section 2.3)
N_SCALES = 3
RESOLUTIONS = tuple(
    MelConfig(n_fft=4 * hop, hop_length=hop, n_mels=n_mels) for hop, n_mels in ((64, 20), (128, 40), (256, 80))
)

Features = list[Tensor]


@dataclass(frozen=True, kw_only=True)
class HiFiGANConfig:
    """Sizes of the generator and of the discriminators.

    Args:
        n_mels: M, bins of the mel spectrogram.
        hop_length: samples a frame; a multiple of the product of upsample_rates.
        width: channels at the frame rate; halved by every up-sampling.
        upsample_rates: steps that each stage makes of one, all even; the inverse Fourier transform does the rest.
        kernel_sizes, dilations: of the residual blocks of a stage, which are averaged; one tuple of dilations a block.
        discriminator_width: channels of a discriminator's first layer; later ones have up to eight times as many.
    """

    n_mels: int = 80
    hop_length: int = 256
    width: int = 256
    upsample_rates: tuple[int, ...] = (8, 4)
    kernel_sizes: tuple[int, ...] = (3, 5, 7)
    dilations: tuple[tuple[int, ...], ...] = ((1, 2), (2, 6), (3, 12))
    discriminator_width: int = 16

    def __post_init__(self) -> None:
        for name in ("n_mels", "hop_length", "width", "discriminator_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        # A checkpoint's JSON has lists where there were tuples.
        for name in ("upsample_rates", "kernel_sizes"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "dilations", tuple(map(tuple, self.dilations)))
        odd = any(rate < 2 or rate % 2 for rate in self.upsample_rates)
        if odd or self.hop_length % math.prod(self.upsample_rates):
            raise ValueError(
                f"upsample_rates must be even and their product divide the hop of {self.hop_length}, "
                f"got {self.upsample_rates}"
            )
        fit = len(self.kernel_sizes) == len(self.dilations) and all(d >= 1 for ds in self.dilations for d in ds)
        if not fit or any(size < 1 or size % 2 == 0 for size in self.kernel_sizes):
            raise ValueError(
                "kernel_sizes must be odd, with one tuple of dilations of at least 1 each, got "
                f"{self.kernel_sizes}, {self.dilations}"
            )
        if self.width % 2 ** len(self.upsample_rates):
            raise ValueError(f"width must halve {len(self.upsample_rates)} times, got {self.width}")

    @property
    def step_length(self) -> int:
        """Samples from one step to the next at the inverse Fourier transform; its window is four times as long."""
        return self.hop_length // math.prod(self.upsample_rates)

    @property
    def reach(self) -> int:
        """Frames on either side of a sample that it can depend on."""
        block = max(sum(d * (k // 2) for d in ds) for k, ds in zip(self.kernel_sizes, self.dilations, strict=True))
        frames, rate = 3.0, 1
        for each in self.upsample_rates:
            frames += 1 / rate  # a transposed convolution reaches one step before it
            rate *= each
            frames += block / rate
        return math.ceil(frames + (3 + 3) / rate) + 1


class ResidualBlock(nn.Module):
    """h + conv(leaky(h)) for each dilation in turn: the paper's second kind (appendix A.1)."""

    def __init__(self, n_channels: int, kernel_size: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv1d(n_channels, n_channels, kernel_size, dilation=d, padding=d * (kernel_size // 2))
            for d in dilations
        )

    def forward(self, h: Tensor) -> Tensor:
        for convolution in self.convolutions:
            h = h + convolution(F.leaky_relu(h, SLOPE))
        return h


class HiFiGANGenerator(nn.Module):
    """G: mel (B, M, F) → audio (B, F · hop).

    Every stage up-samples and then averages residual blocks that reach differently far (multi-receptive field fusion,
    section 2.2). What comes out are log amplitudes and phases of short spectra, which overlap and add up to sound.

    Raises:
        ValueError: in `forward`, when mel is not float (B, n_mels, F).
    """

    def __init__(self, config: HiFiGANConfig) -> None:
        super().__init__()
        self.config = config
        self.start = nn.Conv1d(config.n_mels, config.width, 7, padding=3)
        self.upsample, self.fuse = nn.ModuleList(), nn.ModuleList()
        width = config.width
        for rate in config.upsample_rates:
            self.upsample.append(nn.ConvTranspose1d(width, width // 2, 2 * rate, rate, padding=rate // 2))
            width //= 2
            blocks = zip(config.kernel_sizes, config.dilations, strict=True)
            self.fuse.append(nn.ModuleList(ResidualBlock(width, size, dilations) for size, dilations in blocks))
        self.n_fft = 4 * config.step_length
        self.end = nn.Conv1d(width, self.n_fft + 2, 7, padding=3)
        self.register_buffer("window", torch.hann_window(self.n_fft), persistent=False)

    def forward(self, mel: Tensor) -> Tensor:
        c = self.config
        if mel.ndim != 3 or mel.shape[1] != c.n_mels or not mel.is_floating_point():
            raise ValueError(f"mel must be float (B, {c.n_mels}, F), got {mel.dtype} {tuple(mel.shape)}")
        h = self.start(mel)
        for upsample, blocks in zip(self.upsample, self.fuse, strict=True):
            h = upsample(F.leaky_relu(h, SLOPE))
            h = torch.stack([block(h) for block in blocks]).mean(dim=0)
        with torch.autocast(mel.device.type, enabled=False):  # phases in bfloat16 are heard, and no transform knows it
            h = self.end(F.leaky_relu(h, SLOPE).to(self.window.dtype))  # (B, n_fft + 2, N)
        h = F.pad(h, (1, 0), mode="replicate")  # N + 1 centred spectra overlap to N steps of sound
        log_amplitudes, phases = h.chunk(2, dim=1)
        # exp(4.6) = 100 is louder than sound can be: early in training a larger one would be the end of it.
        spectra = torch.polar(log_amplitudes.clamp(max=4.6).exp(), phases)
        return torch.istft(spectra, self.n_fft, c.step_length, window=self.window)  # (B, T)

    @torch.no_grad()
    def generate(self, mel: Tensor, *, chunk_frames: int = 512) -> Tensor:
        """Audio (B, F · hop) in [-1, 1], in chunks, so that memory stays bounded however long the mel is.

        Raises:
            ValueError: mel is none of `models.mel.log_mel` (bins, range, NaN), or chunk_frames below 1.
        """
        c = self.config
        check_mel(mel, MelConfig(hop_length=c.hop_length, n_mels=c.n_mels), reader=self.start.weight)
        audio = in_chunks(self, mel, hop=c.hop_length, chunk_frames=chunk_frames, context_frames=c.reach)
        return audio.clamp(-1, 1)


class PeriodDiscriminator(nn.Module):
    """Sees every p-th sample side by side: audio folded to (T / p, p), convolved along the first axis alone."""

    def __init__(self, period: int, width: int) -> None:
        super().__init__()
        self.period = period
        sizes = [1, width, 2 * width, 4 * width, 8 * width, 8 * width]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, (5, 1), (3 if i < 4 else 1, 1), padding=(2, 0)))
            for i, (a, b) in enumerate(pairwise(sizes))
        )
        self.judge = weight_norm(nn.Conv2d(sizes[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, audio: Tensor) -> tuple[Tensor, Features]:
        padded = F.pad(audio[:, None], (0, -audio.shape[1] % self.period), mode="reflect")
        return _score(padded.unflatten(2, (-1, self.period)), self.layers, self.judge)


class ScaleDiscriminator(nn.Module):
    """Sees consecutive samples with wide, grouped, strided convolutions (MelGAN, arXiv:1910.06711)."""

    def __init__(self, width: int, *, spectral: bool) -> None:
        super().__init__()
        norm = spectral_norm if spectral else weight_norm
        sizes = [1, width, 2 * width, 4 * width, 8 * width, 8 * width]
        shapes = [(15, 1, 1), (41, 4, 4), (41, 4, 4), (41, 4, 4), (5, 1, 1)]  # kernel, stride, groups
        self.layers = nn.ModuleList(
            norm(nn.Conv1d(a, b, size, stride, padding=size // 2, groups=math.gcd(groups, a)))
            for (a, b), (size, stride, groups) in zip(pairwise(sizes), shapes, strict=True)
        )
        self.judge = norm(nn.Conv1d(sizes[-1], 1, 3, padding=1))

    def forward(self, audio: Tensor) -> tuple[Tensor, Features]:
        return _score(audio[:, None], self.layers, self.judge)


class Discriminator(nn.Module):
    """All eight: audio (B, T) → their scores, eight tensors (B, n), 1 for "real"; and their layers' outputs.

    Multi-period (section 2.3) and multi-scale, the latter on the sound itself and on averages over two and four
    samples. Spectral normalisation on the first scale, weight normalisation elsewhere.

    Raises:
        ValueError: audio is not float (B, T).
    """

    def __init__(self, config: HiFiGANConfig) -> None:
        super().__init__()
        width = config.discriminator_width
        self.periods = nn.ModuleList(PeriodDiscriminator(period, width) for period in PERIODS)
        self.scales = nn.ModuleList(ScaleDiscriminator(width, spectral=i == 0) for i in range(N_SCALES))

    def forward(self, audio: Tensor) -> tuple[list[Tensor], list[Features]]:
        if audio.ndim != 2 or not audio.is_floating_point():
            raise ValueError(f"audio must be float (B, T), got {audio.dtype} {tuple(audio.shape)}")
        if audio.shape[1] < 4 * max(PERIODS):  # folded and averaged, something must be left to look at
            raise ValueError(f"expected at least {4 * max(PERIODS)} samples to judge, got {audio.shape[1]}")
        judged = [discriminator(audio) for discriminator in self.periods]
        for i, discriminator in enumerate(self.scales):
            judged.append(discriminator(audio if i == 0 else F.avg_pool1d(audio, 2**i)))
        scores, features = zip(*judged, strict=True)
        return list(scores), list(features)


def _score(h: Tensor, layers: nn.ModuleList, judge: nn.Module) -> tuple[Tensor, Features]:
    features = []
    for layer in layers:
        h = F.leaky_relu(layer(h), SLOPE)
        features.append(h)
    return judge(h).flatten(1).float(), features  # losses of squares in full precision, whatever autocast says


def discriminator_loss(real_scores: Sequence[Tensor], fake_scores: Sequence[Tensor]) -> Tensor:
    """Σ_k E[(D_k(x) − 1)²] + E[D_k(G(s))²]: least squares (equation 1; LSGAN, arXiv:1611.04076)."""
    pairs = zip(real_scores, fake_scores, strict=True)
    return torch.stack([(real - 1).square().mean() + fake.square().mean() for real, fake in pairs]).sum()


def generator_loss(fake_scores: Sequence[Tensor]) -> Tensor:
    """Σ_k E[(D_k(G(s)) − 1)²] (equation 2)."""
    return torch.stack([(fake - 1).square().mean() for fake in fake_scores]).sum()


def feature_matching_loss(real_features: Sequence[Features], fake_features: Sequence[Features]) -> Tensor:
    """Σ_k Σ_i mean |D_k^i(x) − D_k^i(G(s))| over all layers i (equation 4). No gradient flows to the real ones."""
    pairs = zip(real_features, fake_features, strict=True)
    return torch.stack([F.l1_loss(f, r.detach()) for rs, fs in pairs for r, f in zip(rs, fs, strict=True)]).sum()


def mel_loss(real: Tensor, fake: Tensor, configs: Sequence[MelConfig] = RESOLUTIONS) -> Tensor:
    """Mean over `configs` of mean |log-mel(x) − log-mel(G(s))| (equation 3), for audio (B, T) both.

    Raises:
        ValueError: shapes differ, or are none that `log_mel` takes.
    """
    if real.shape != fake.shape:
        raise ValueError(f"real and fake must have one shape, got {tuple(real.shape)} and {tuple(fake.shape)}")
    return torch.stack([F.l1_loss(log_mel(fake, config), log_mel(real, config)) for config in configs]).mean()
