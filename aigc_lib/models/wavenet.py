"""WaveNet: a convolutional network that scores every sample of a sound given all samples before it.

    p(x | h) = Π_t p(x_t | x_1 … x_{t−1}, h)                              (equations 1 and 3)

Nothing recurs: the score of a sample depends on the `receptive_field` samples before it and on nothing else, so all T
factors of a known sound are computed in one pass. A new sound has to be drawn sample by sample; `wavenet_generation`
does that in three ways. van den Oord et al. 2016, arXiv:1609.03499; sections and equations are theirs.

Axis letters: B batch, T time (samples), Q levels of the μ-law, C channels, M mel bins, F frames, K channels of the
up-sampled mel. Levels are int64, (B, T); a mel is natural-log amplitude, (B, M, F), with T = F · hop.

Differs from the paper in
- the causal convolution in front is a table, one vector for each level: a 1×1 convolution of a one-hot input;
- one matrix makes what goes on and what skips; the last layer has nothing to go on to and only skips;
- the mel is up-sampled by a learned interpolation of each channel (section 2.5: a transposed convolution).
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aigc_lib.models.mel import MelConfig, check_mel
from aigc_lib.models.sampling import check_tokens


def compress(audio: Tensor, n_levels: int = 256) -> Tensor:
    """f(x) = sign(x)·ln(1 + μ|x|) / ln(1 + μ) with μ = n_levels − 1 (section 2.2, ITU-T G.711): [-1, 1] onto itself."""
    mu = n_levels - 1
    return audio.sign() * torch.log1p(mu * audio.abs()) / math.log1p(mu)


def expand(compressed: Tensor, n_levels: int = 256) -> Tensor:
    """The inverse of `compress`: sign(y)·((1 + μ)^|y| − 1) / μ."""
    mu = n_levels - 1
    return compressed.sign() * torch.expm1(compressed.abs() * math.log1p(mu)) / mu


def mu_law_encode(audio: Tensor, n_levels: int = 256) -> Tensor:
    """Sound in [-1, 1] of any shape → the nearest of `n_levels` levels on the compressed scale, int64.

    −1 is level 0 and 1 is level n_levels − 1. Zero lies between two levels and goes to the upper one, n_levels / 2.

    Raises:
        ValueError: n_levels below 2, audio not of floats, NaN, or beyond [-1, 1].
    """
    if n_levels < 2 or not audio.is_floating_point():
        raise ValueError(f"expected sound of floats and at least 2 levels, got {audio.dtype} and {n_levels}")
    if not (audio.abs() <= 1).all():  # false for NaN, too
        raise ValueError("expected sound in [-1, 1] without NaN; divide it by its full scale")
    return ((compress(audio, n_levels) + 1) / 2 * (n_levels - 1) + 0.5).floor().long()


def mu_law_decode(levels: Tensor, n_levels: int = 256) -> Tensor:
    """Levels of any shape → sound in [-1, 1], float32.

    Raises:
        ValueError: levels not int64, or outside 0 to n_levels − 1.
    """
    if levels.dtype != torch.int64 or ((levels < 0) | (levels >= n_levels)).any():
        raise ValueError(f"expected int64 levels from 0 to {n_levels - 1}, got {levels.dtype}")
    table = expand(torch.linspace(-1, 1, n_levels, dtype=torch.float64), n_levels).float()  # (Q,)
    return table.to(levels.device)[levels]


@dataclass(frozen=True, kw_only=True)
class WaveNetConfig:
    """Sizes of the network.

    Args:
        n_levels: Q.
        n_layers: of a stack; their dilations are 1, 2, 4, …, 2^(n_layers − 1).
        n_stacks: each begins at dilation 1 again.
        kernel_size: taps of a dilated convolution.
        residual_channels: what goes from layer to layer.
        gate_channels: what a dilated convolution makes: one half through tanh, times the other half through σ; even.
        skip_channels: what each layer adds to the sum that the scores are made of.
        n_mels: M; 0: no local condition.
        hop_length: samples a frame of the mel, even.
        mel_channels: K.
        n_classes: sizes of the global conditions, such as (37, 8) for one of 37 pitches and one of 8 instruments.
    """

    n_levels: int = 256
    n_layers: int = 10
    n_stacks: int = 1
    kernel_size: int = 2
    residual_channels: int = 64
    gate_channels: int = 128
    skip_channels: int = 64
    n_mels: int = 0
    hop_length: int = 256
    mel_channels: int = 32
    n_classes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_classes", tuple(self.n_classes))  # a list where it comes from JSON
        for name, value in vars(self).items():
            lowest = {"n_mels": 0, "n_levels": 2, "kernel_size": 2}.get(name, 1)
            if any(each < lowest for each in (value if isinstance(value, tuple) else (value,))):
                raise ValueError(f"{name} must be at least {lowest}, got {value}")
        if self.gate_channels % 2 or self.hop_length % 2:
            raise ValueError(
                f"gate_channels and hop_length must be even, got {self.gate_channels} and {self.hop_length}"
            )

    @property
    def dilations(self) -> list[int]:
        """Of all layers, in order."""
        return [2**i for i in range(self.n_layers)] * self.n_stacks

    @property
    def receptive_field(self) -> int:
        """How many samples a score depends on: 1 + (kernel_size − 1) · Σ dilations."""
        return 1 + (self.kernel_size - 1) * sum(self.dilations)


class Upsampling(nn.Module):
    """mel (B, M, F) → one column a sample, (B, K, F · hop): context from neighbouring frames, then interpolation.

    The transposed convolution joins each frame to the two beside it. It starts as straight lines between the frames'
    middles and is learned from there; beyond the first and the last frame those are repeated.
    """

    def __init__(self, n_mels: int, n_channels: int, hop: int) -> None:
        super().__init__()
        self.context = nn.Conv1d(n_mels, n_channels, 3, padding=1)
        self.interpolate = nn.ConvTranspose1d(
            n_channels, n_channels, 2 * hop, stride=hop, padding=3 * hop // 2, groups=n_channels, bias=False
        )
        distance = (torch.arange(2 * hop) + 0.5 - hop).abs() / hop
        with torch.no_grad():
            self.interpolate.weight.copy_((1 - distance).expand_as(self.interpolate.weight))

    def frames(self, mel: Tensor) -> Tensor:
        """(B, M, F) → (B, K, F + 2). `interpolate` turns any n + 2 neighbours of these into n · hop columns."""
        # Log amplitudes from −11.5 to about 1 become numbers around zero.
        return F.pad(self.context(mel / 6 + 1), (1, 1), mode="replicate")

    def forward(self, mel: Tensor) -> Tensor:
        return self.interpolate(self.frames(mel))


class Layer(nn.Module):
    """z = tanh(W_f * x + V_f y + E_f[h]) ⊙ σ(W_g * x + V_g y + E_g[h]) (section 2.5); x + W_r z goes on, W_s z skips.

    The convolution `*` is causal: zeros are put in front of x alone, so output t sees x_t, x_{t−d}, … and none later.
    """

    def __init__(self, config: WaveNetConfig, dilation: int, *, last: bool) -> None:
        super().__init__()
        c = config
        self.reach = dilation * (c.kernel_size - 1)
        self.skip_channels = c.skip_channels
        self.dilated = nn.Conv1d(c.residual_channels, c.gate_channels, c.kernel_size, dilation=dilation)
        self.mel = nn.Conv1d(c.mel_channels, c.gate_channels, 1, bias=False) if c.n_mels else None
        self.labels = nn.ModuleList(nn.Embedding(n, c.gate_channels) for n in c.n_classes)
        for table in self.labels:
            nn.init.zeros_(table.weight)
        self.mix = nn.Conv1d(c.gate_channels // 2, c.skip_channels + (0 if last else c.residual_channels), 1)

    def forward(self, x: Tensor, y: Tensor | None, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        return self.gate(self.dilated(F.pad(x, (self.reach, 0))), x, y, labels)

    def gate(self, a: Tensor, x: Tensor, y: Tensor | None, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """What follows the convolution, from its result a (B, gate_channels, T): what goes on, and what skips."""
        if self.mel is not None:
            a = a + self.mel(y)
        for i, table in enumerate(self.labels):
            a = a + table(labels[:, i])[:, :, None]
        signal, gate = a.chunk(2, dim=1)
        skip, residual = self.mix(signal.tanh() * gate.sigmoid()).tensor_split([self.skip_channels], dim=1)
        return (x + residual if residual.shape[1] else x), skip


class WaveNet(nn.Module):
    """levels (B, T), mel, labels → logits (B, Q, T); column t scores levels[:, t + 1] and reads levels[:, : t + 1].

    Where `n_mels` > 0 there must be a mel (B, M, T / hop), where there are `n_classes` labels (B, len(n_classes))
    int64. A sample is scored with the mel at its own place; the last column, whose sample lies beyond, with that of
    the one before.

    Raises:
        ValueError: unknown levels, T no multiple of the hop, a condition missing, given for nothing, or of other sizes.
    """

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__()
        self.config = c = config
        self.embed = nn.Embedding(c.n_levels, c.residual_channels)
        self.upsample = Upsampling(c.n_mels, c.mel_channels, c.hop_length) if c.n_mels else None
        dilations = c.dilations
        self.layers = nn.ModuleList(Layer(c, d, last=i == len(dilations) - 1) for i, d in enumerate(dilations))
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Conv1d(c.skip_channels, c.skip_channels, 1),
            nn.ReLU(),
            nn.Conv1d(c.skip_channels, c.n_levels, 1),
        )

    @property
    def receptive_field(self) -> int:
        """See `WaveNetConfig.receptive_field`."""
        return self.config.receptive_field

    @property
    def silence(self) -> int:
        """The level of zero: what is taken to stand before the first sample of a sound."""
        return self.config.n_levels // 2

    def forward(self, levels: Tensor, mel: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        self._check(levels, mel, labels)
        y = None if mel is None else F.pad(self.upsample(mel)[:, :, 1:], (0, 1), mode="replicate")
        return self.score(levels, y, labels)

    def score(self, levels: Tensor, y: Tensor | None, labels: Tensor | None) -> Tensor:
        """As `forward`, from y (B, K, T), the up-sampled mel at the place of the sample that each column scores."""
        x, total = self.embed(levels).transpose(1, 2), 0  # (B, C, T)
        for layer in self.layers:
            x, skip = layer(x, y, labels)
            total = total + skip
        return self.head(total)

    def log_likelihood(self, levels: Tensor, mel: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Σ_t ln p(x_t | x_1 … x_{t−1}, h) of sounds that begin after silence: levels (B, T) → (B,), in nats.

        Raises:
            ValueError: as the model.
        """
        self._check(levels, mel, labels)
        if mel is not None and not torch.compiler.is_compiling() and not mel.isfinite().all():
            raise ValueError("the mel holds NaN or infinity; nothing has a likelihood then")
        before = F.pad(levels[:, :-1], (1, 0), value=self.silence)
        logits = self.score(before, None if mel is None else self.upsample(mel), labels)
        wide = logits if logits.dtype == torch.float64 else logits.float()  # whatever autocast says
        return -F.cross_entropy(wide, levels, reduction="none").sum(dim=1)

    @torch.no_grad()
    def generate(
        self,
        n_samples: int,
        mel: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        cached: bool = True,
        compiled: bool = True,
        temperature: float = 1.0,
        generator: torch.Generator,
    ) -> Tensor:
        """Draw sounds sample by sample → levels (B, n_samples), B that of the mel or of the labels, else 1.

        All four ways draw from the same numbers and give the same levels; in float32 a rounding error may, once in many
        thousand samples, lead the compiled ways to the level beside, from where the sound goes on differently.

        Args:
            cached: keep what every layer saw. False reads the receptive field again for each sample.
            compiled: run on one CPU core as machine code (numba), in float32 or float64 as the weights are; memory
                does not grow with the length but for the result. False is plain torch, on the weights' device.
            temperature: above 0; logits are divided by it. Below 1 less noise, at the price of variety.

        Raises:
            ValueError: n_samples < 1, not F · hop of the mel; a mel of other bins or range; temperature ≤ 0.
        """
        from aigc_lib.models import wavenet_generation  # numba takes a second to import, and seconds at first use

        c = self.config
        batch = len(mel) if mel is not None else len(labels) if labels is not None else 1
        if n_samples < 1 or not 0 < temperature < math.inf:
            raise ValueError(
                f"n_samples must be at least 1 and temperature finite and above 0, got {n_samples} and {temperature}"
            )
        place = self.embed.weight.device
        mel, labels = (None if each is None else each.to(place) for each in (mel, labels))
        if mel is not None and c.n_mels:
            check_mel(mel, MelConfig(n_mels=c.n_mels, hop_length=c.hop_length), reader=self.embed.weight)
        if not all(weight.isfinite().all() for weight in self.parameters()):
            raise ValueError("a weight of the network is NaN or infinite: its training went wrong")
        self._check(torch.zeros(1, 1, dtype=torch.int64, device=place).expand(batch, n_samples), mel, labels)
        uniforms = torch.rand(n_samples, batch, dtype=torch.float64, generator=generator, device=generator.device)
        if compiled:
            # As a float: for an int numba would compile everything a second time.
            return wavenet_generation.compiled(self, mel, labels, uniforms, float(temperature), keep=cached).to(place)
        way = wavenet_generation.cached if cached else wavenet_generation.naive
        return way(self, mel, labels, uniforms, temperature)

    def _check(self, levels: Tensor, mel: Tensor | None, labels: Tensor | None) -> None:
        c = self.config
        check_tokens(levels, c.n_levels)
        batch, length = levels.shape
        if (mel is not None) != (c.n_mels > 0) or (labels is not None) != bool(c.n_classes):
            raise ValueError(
                f"this model takes {f'a mel of {c.n_mels} bins' if c.n_mels else 'no mel'} and "
                f"{f'labels of {len(c.n_classes)} columns' if c.n_classes else 'no labels'}, got "
                f"{'no mel' if mel is None else 'a mel'} and {'no labels' if labels is None else 'labels'}"
            )
        if mel is not None and (length % c.hop_length or mel.shape != (batch, c.n_mels, length // c.hop_length)):
            raise ValueError(
                f"expected a mel (B, {c.n_mels}, F) and F · {c.hop_length} samples (the hop), got {tuple(mel.shape)} "
                f"and {batch} × {length} samples; cut the sound to a multiple of the hop"
            )
        if mel is not None and mel.dtype != self.embed.weight.dtype:
            raise ValueError(f"the network is {self.embed.weight.dtype}, the mel {mel.dtype}; take mel.to(that type)")
        if labels is None:
            return
        if labels.dtype != torch.int64 or labels.shape != (batch, len(c.n_classes)):
            raise ValueError(
                f"labels must be int64 ({batch}, {len(c.n_classes)}), got {labels.dtype} {tuple(labels.shape)}"
            )
        if ((labels < 0) | (labels >= labels.new_tensor(c.n_classes))).any():
            raise ValueError(f"labels must be from 0 to below {c.n_classes}, got {labels.tolist()}")
