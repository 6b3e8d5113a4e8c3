"""WaveGlow: a normalising flow between sound and white noise, conditioned on a mel spectrogram.

One network, one cost. Every layer is invertible and its Jacobian has a determinant that costs nothing, so the density
of a sound is known exactly: log p(x | c) = log N(z; 0, I) + Σ log|det J_k| with z = f(x; c); and noise, sent the other
way in a single pass, becomes sound. Prenger, Valle, Catanzaro 2019, arXiv:1811.00002, whose sections are cited.

Axis letters: B batch, T time (samples), G samples a group (`n_groups`), S = T / G steps, M mel bins, F frames. Audio is
float in [-1, 1], (B, T); mel is natural-log amplitude, (B, M, F), with T = F · hop; z is (B, G, S).

Differs from the paper in
- size: this one is made for a laptop. More samples a group mean fewer steps, which SqueezeWave (arXiv:2001.05685) found
  to cost little quality and to save most of the time;
- weights without weight normalisation, and z ~ N(0, I) in training (the paper: variance 0.5);
- the mel: up-sampled by a transposed convolution to one column a step, not a sample, before the couplings read it.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aigc_lib.models.chunks import in_chunks
from aigc_lib.models.mel import MelConfig, check_mel


@dataclass(frozen=True, kw_only=True)
class WaveGlowConfig:
    """Sizes of the flow.

    Args:
        n_mels: M, bins of the mel spectrogram.
        hop_length: samples a frame; a multiple of n_groups.
        n_groups: G, neighbouring samples that become the channels of one step; even.
        n_flows: couplings, each after a 1×1 convolution.
        early_every, early_size: after so many couplings so many channels, an even number, leave as a part of z.
        n_layers: dilated convolutions in a coupling's network, with dilations 1, 2, 4, …
        residual_channels: width of that network.
        condition_channels: of the up-sampled mel.
    """

    n_mels: int = 80
    hop_length: int = 256
    n_groups: int = 32
    n_flows: int = 12
    early_every: int = 4
    early_size: int = 8
    n_layers: int = 5
    residual_channels: int = 64
    condition_channels: int = 64

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.hop_length % self.n_groups:
            raise ValueError(f"hop_length must be a multiple of n_groups, got {self.hop_length} and {self.n_groups}")
        left = self.channels(self.n_flows - 1)
        if left < 2 or self.n_groups % 2 or self.early_size % 2:
            raise ValueError(
                f"every coupling needs an even number of at least 2 channels; {self.n_groups}, with {self.early_size} "
                f"leaving after every {self.early_every} of {self.n_flows} couplings, leave {left} at the end"
            )

    def channels(self, flow: int) -> int:
        """Channels that coupling number `flow`, from 0, works on."""
        return self.n_groups - flow // self.early_every * self.early_size

    @property
    def reach(self) -> int:
        """Frames on either side of a sample that it can depend on, in synthesis and in analysis."""
        steps = self.n_flows * (2**self.n_layers - 1)  # width-3 convolutions with dilations 1, 2, 4, …
        return -(-steps * self.n_groups // self.hop_length) + 2  # the up-sampling looks one frame further


class InvertibleConv1x1(nn.Module):
    """One matrix W (C, C) for all steps, z_s = W x_s; log|det J| = S · log|det W| (section 2.2).

    W starts as a rotation (orthogonal, determinant +1), so that nothing is stretched.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        rotation = nn.init.orthogonal_(torch.empty(n_channels, n_channels))
        rotation[:, 0] *= torch.linalg.det(rotation).sign()
        self.weight = nn.Parameter(rotation)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, S) → z (B, C, S) and log|det J| (B,). Never in bfloat16, which would not be undone exactly."""
        with torch.autocast(x.device.type, enabled=False):
            # slogdet: training may take the determinant below zero, where log(det) is NaN and log|det| is not.
            log_det = x.shape[2] * torch.linalg.slogdet(self.weight).logabsdet
            return self.weight @ x, log_det.expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """x with forward(x) = z. The matrix is inverted afresh (a kept one would be stale after a step), in float64."""
        with torch.autocast(z.device.type, enabled=False):
            # On the CPU: not every device knows float64, and the matrix is tiny.
            return torch.linalg.inv(self.weight.to("cpu", torch.float64)).to(z) @ z


class CouplingNetwork(nn.Module):
    """WN of the paper: dilated convolutions of width 3 that look both ways, with gates, residual and skip paths.

    (B, n_inputs, S), condition (B, K, S) → (B, n_outputs, S); zeros at first: a coupling starts as the identity.
    """

    def __init__(self, n_inputs: int, n_outputs: int, config: WaveGlowConfig) -> None:
        super().__init__()
        width, n_layers = config.residual_channels, config.n_layers
        self.start = nn.Conv1d(n_inputs, width, 1)
        self.dilated = nn.ModuleList(
            nn.Conv1d(width, 2 * width, 3, dilation=2**i, padding=2**i) for i in range(n_layers)
        )
        self.condition = nn.ModuleList(nn.Conv1d(config.condition_channels, 2 * width, 1) for _ in range(n_layers))
        # Into the residual and the skip path; the last layer has nothing after it and needs no residual.
        self.split = nn.ModuleList(
            nn.Conv1d(width, width if i == n_layers - 1 else 2 * width, 1) for i in range(n_layers)
        )
        self.end = nn.Conv1d(width, n_outputs, 1)
        for parameter in self.end.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h, skipped = self.start(x), 0
        width = h.shape[1]
        for dilated, conditioned, split in zip(self.dilated, self.condition, self.split, strict=True):
            signal, gate = (dilated(h) + conditioned(condition)).chunk(2, dim=1)  # (B, width, S) each
            paths = split(signal.tanh() * gate.sigmoid())
            h, skipped = h + paths[:, :width], skipped + paths[:, -width:]
        return self.end(skipped)


class AffineCoupling(nn.Module):
    """z_a = x_a, z_b = s ⊙ x_b + t with (log s, t) = WN(x_a, c) (section 2.1).

    The Jacobian is triangular, so log|det J| = Σ log s, and WN itself is never inverted.
    """

    def __init__(self, n_channels: int, config: WaveGlowConfig) -> None:
        super().__init__()
        half = n_channels // 2
        self.network = CouplingNetwork(half, 2 * half, config)

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, S), condition (B, K, S) → z (B, C, S) and log|det J| (B,)."""
        kept, changed = x.chunk(2, dim=1)
        log_scale, shift = self._scale_and_shift(kept, condition)
        return torch.cat([kept, log_scale.exp() * changed + shift], dim=1), log_scale.sum(dim=(1, 2))

    def inverse(self, z: Tensor, condition: Tensor) -> Tensor:
        """x_b = (z_b − t) / s, with the same s and t: x_a came through unchanged."""
        kept, changed = z.chunk(2, dim=1)
        log_scale, shift = self._scale_and_shift(kept, condition)
        return torch.cat([kept, (changed - shift) * (-log_scale).exp()], dim=1)

    def _scale_and_shift(self, kept: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        return self.network(kept, condition).to(kept.dtype).chunk(2, dim=1)


class WaveGlow(nn.Module):
    """The flow: groups, then `n_flows` times a 1×1 convolution and a coupling, with some channels leaving early.

    Raises:
        ValueError: mel is not float (B, n_mels, F), audio not float (B, F · hop_length), or z not float (B, G, S).
    """

    def __init__(self, config: WaveGlowConfig) -> None:
        super().__init__()
        self.config = config
        stride = config.hop_length // config.n_groups
        self.upsample = nn.ConvTranspose1d(config.n_mels, config.condition_channels, 3 * stride, stride, padding=stride)
        sizes = [config.channels(flow) for flow in range(config.n_flows)]
        self.mixes = nn.ModuleList(map(InvertibleConv1x1, sizes))
        self.couplings = nn.ModuleList(AffineCoupling(size, config) for size in sizes)

    def forward(self, audio: Tensor, mel: Tensor) -> tuple[Tensor, Tensor]:
        """audio (B, T), mel (B, M, F) → z (B, G, S) and log|det ∂z/∂x| (B,)."""
        c = self.config
        self._check(mel, "audio", audio, c.hop_length)
        x, condition = group(audio, c.n_groups), self.upsample(mel)  # (B, G, S), (B, K, S)
        left: list[Tensor] = []
        log_det = audio.new_zeros(len(audio))
        for flow, (mix, couple) in enumerate(zip(self.mixes, self.couplings, strict=True)):
            if flow and flow % c.early_every == 0:
                left.append(x[:, : c.early_size])
                x = x[:, c.early_size :]
            x, mixed = mix(x)
            x, coupled = couple(x, condition)
            log_det = log_det + mixed + coupled
        return torch.cat([*left, x], dim=1), log_det

    def inverse(self, z: Tensor, mel: Tensor) -> Tensor:
        """The audio (B, T) that `forward` turns into z (B, G, S)."""
        c = self.config
        self._check(mel, "z", z, c.n_groups, c.hop_length // c.n_groups)
        condition = self.upsample(mel)
        begin = c.n_groups - c.channels(c.n_flows - 1)  # channels before it left early
        x = z[:, begin:]
        for flow in reversed(range(c.n_flows)):
            x = self.mixes[flow].inverse(self.couplings[flow].inverse(x, condition))
            if flow and flow % c.early_every == 0:
                begin -= c.early_size
                x = torch.cat([z[:, begin : begin + c.early_size], x], dim=1)
        return x.transpose(1, 2).flatten(1)  # (B, T), undoing `group`

    def log_likelihood(self, audio: Tensor, mel: Tensor) -> Tensor:
        """log p(audio | mel) in nats, (B,): −½‖z‖² − (T/2) log 2π + log|det J| (section 2, with its constant).

        Sound of 16 bits has to be dequantised first: on a lattice, and in digital silence, a density is unbounded.

        Raises:
            ValueError: as the model; NaN.
        """
        if not torch.compiler.is_compiling():
            for name, given in (("audio", audio), ("mel", mel)):
                if not given.isfinite().all():
                    raise ValueError(f"{name} holds NaN or infinity; nothing has a likelihood then")
        z, log_det = self(audio, mel)
        return -0.5 * z.square().sum(dim=(1, 2)) - audio.shape[1] / 2 * math.log(2 * math.pi) + log_det

    @torch.no_grad()
    def generate(
        self, mel: Tensor, *, temperature: float = 1.0, chunk_frames: int = 512, generator: torch.Generator
    ) -> Tensor:
        """Audio (B, T) for mel (B, M, F), from z ~ N(0, temperature²); noise is drawn on the generator's device.

        Computed in chunks, so that memory stays bounded however long the mel is; the result is that of one pass,
        because every chunk sees as far beyond its ends as the network can.

        Raises:
            ValueError: mel is none of `models.mel.log_mel` (bins, range, NaN), temperature below 0 or infinite,
                chunk_frames < 1.
        """
        if not 0 <= temperature < math.inf:
            raise ValueError(f"temperature must be finite and at least 0, got {temperature}")
        c = self.config
        check_mel(mel, MelConfig(hop_length=c.hop_length, n_mels=c.n_mels), reader=self.upsample.weight)
        shape = len(mel), c.n_groups, mel.shape[2] * c.hop_length // c.n_groups
        z = torch.randn(shape, generator=generator, device=generator.device).to(mel).mul_(temperature)
        return in_chunks(self.inverse, z, mel, hop=c.hop_length, chunk_frames=chunk_frames, context_frames=c.reach)

    def _check(self, mel: Tensor, name: str, given: Tensor, *per_frame: int) -> None:
        n_mels, hop = self.config.n_mels, self.config.hop_length
        dtype = self.upsample.weight.dtype
        if mel.ndim != 3 or mel.shape[1] != n_mels or mel.dtype != dtype:
            raise ValueError(f"mel must be {dtype} (B, {n_mels}, F), got {mel.dtype} {tuple(mel.shape)}")
        expected = len(mel), *per_frame[:-1], mel.shape[2] * per_frame[-1]
        if given.shape != expected or given.dtype != dtype:
            raise ValueError(
                f"with mel {tuple(mel.shape)} and {hop} samples a frame, {name} must be {dtype} {expected}, "
                f"got {given.dtype} {tuple(given.shape)}"
            )


def group(audio: Tensor, n_groups: int) -> Tensor:
    """Squeeze: (B, T) → (B, G, T / G), neighbours becoming channels. Nothing but a new order: log|det J| = 0."""
    return audio.unflatten(1, (-1, n_groups)).transpose(1, 2)


def dequantise(audio: Tensor, uniform: Tensor, *, n_bits: int = 16) -> Tensor:
    """Audio of `n_bits`, each sample moved within its quantisation step, 2^(1 − n_bits) wide, by noise in [0, 1).

    What is learned then is bounded, and bounds the log-probability of the levels from below (Theis et al. 2016,
    arXiv:1511.01844, section 3.1).
    """
    return audio + (uniform - 0.5) * 2.0 ** (1 - n_bits)


def bits_per_sample(log_likelihood: Tensor, n_samples: int, *, n_bits: int = 16) -> Tensor:
    """−log₂ of probability per sample, from nats of dequantised audio; guessing among the levels costs n_bits.

    A density times the step's width 2^(1 − n_bits) is a probability: −log p / (T ln 2) + n_bits − 1.
    """
    return -log_likelihood / (n_samples * math.log(2)) + n_bits - 1
