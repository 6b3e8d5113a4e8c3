"""Flow matching: a network that says where noise has to move to become data, an ODE solver, and the exact likelihood.

Between an image x₁ and noise x₀ ~ N(0, I) lies the straight line x_t = (1 − t) x₀ + t x₁, walked at x₁ − x₀. Many
lines cross at x; the mean of their velocities there, v(x, t) = E[x₁ − x₀ | x_t = x], carries the distribution of noise
(t = 0) to that of the data (t = 1) along dx/dt = v(x, t). The squared distance from x₁ − x₀ has this mean as its
minimiser, so a regression learns it (Lipman et al. 2023, arXiv:2210.02747, theorem 2 and equation 23 with σ_min = 0;
Liu et al. 2022, arXiv:2209.03003, equation 1).

Time runs from noise, t = 0, to data, t = 1, as in both papers; in DDPM (arXiv:2006.11239) it runs the other way. For
the straight line the score and DDPM's ε are the velocity written differently: see `score_from_velocity`.

Axis letters: B batch, C channels, H W image, D = C·H·W. Images are float in [-1, 1], though data may lie a little
outside, and samples do.

Differs from Lipman et al. in
- a small U-Net: one convolution and one block at full resolution, where a CPU would spend most of its time;
- a class, which training forgets now and then, so that one network knows v(x, t | class) and v(x, t) (classifier-free
  guidance, Ho and Salimans 2022, arXiv:2207.12598).
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SOLVERS = {"euler": 1, "midpoint": 2}  # evaluations of the velocity a step, which is also the order of the error
Velocity = Callable[[Tensor, Tensor], Tensor]  # x (B, …) and time (B,) → dx/dt, shape of x


@dataclass(frozen=True, kw_only=True)
class FlowMatchingConfig:
    """Sizes of the network.

    Args:
        resolution: height and width in pixels that it is meant for. It is convolutional and takes others, too.
        n_channels: 1 for grey, 3 for colour.
        width: channels at full resolution, doubled at every halving up to `max_width`.
        max_width: channels at most.
        n_halvings: how often the map is halved, odd sizes rounded up; attention works on the smallest.
        n_heads: of the attention; divides the channels there.
        n_classes: 0 for images without a class.
        dropout: probability that training forgets the class of an image.
    """

    resolution: int = 28
    n_channels: int = 1
    width: int = 16
    max_width: int = 64
    n_halvings: int = 2
    n_heads: int = 4
    n_classes: int = 0
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("n_channels", "max_width", "n_halvings", "n_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.width < 2 or self.width % 2:
            raise ValueError(f"width must be even (half of the time's features are sines), got {self.width}")
        if self.widths[-1] % self.n_heads:
            raise ValueError(f"n_heads must divide the {self.widths[-1]} channels of the last map, got {self.n_heads}")
        if self.resolution < 2**self.n_halvings:
            raise ValueError(f"resolution must be at least 2^n_halvings = {2**self.n_halvings}, got {self.resolution}")
        if self.n_classes < 0 or not 0 <= self.dropout < 1:
            raise ValueError(f"n_classes must be ≥ 0, dropout in [0, 1): got {self.n_classes} and {self.dropout}")

    @property
    def widths(self) -> list[int]:
        """Channels of each map, full resolution first."""
        return [min(self.width * 2**i, self.max_width) for i in range(self.n_halvings + 1)]


def time_features(time: Tensor, n_features: int) -> Tensor:
    """(B,) in [0, 1] → (B, n_features): sines and cosines of 1000·t at falling frequencies (arXiv:1706.03762, 3.5)."""
    half = n_features // 2
    frequencies = torch.exp(torch.arange(half, device=time.device) * (-math.log(10_000) / half))
    angles = 1000 * time.float()[:, None] * frequencies  # float32: in bfloat16 neighbouring times would be one
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Block(nn.Module):
    """x + two convolutions; time and class scale and shift what is between them. Starts as the identity (or 1×1)."""

    def __init__(self, n_in: int, n_out: int, n_features: int) -> None:
        super().__init__()
        self.first_norm, self.first = nn.GroupNorm(math.gcd(8, n_in), n_in), nn.Conv2d(n_in, n_out, 3, padding=1)
        self.second_norm, self.second = nn.GroupNorm(math.gcd(8, n_out), n_out), nn.Conv2d(n_out, n_out, 3, padding=1)
        self.modulation = nn.Linear(n_features, 2 * n_out)
        self.skip = nn.Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        y = self.second_norm(self.first(F.silu(self.first_norm(x))))
        scale, shift = self.modulation(features)[:, :, None, None].chunk(2, dim=1)  # each (B, n_out, 1, 1)
        return self.skip(x) + self.second(F.silu(y * (1 + scale) + shift))


class Attention(nn.Module):
    """x + self-attention over the positions of the map. Starts as the identity."""

    def __init__(self, n_channels: int, n_heads: int) -> None:
        super().__init__()
        self.norm, self.n_heads = nn.GroupNorm(math.gcd(8, n_channels), n_channels), n_heads
        self.inputs, self.output = nn.Conv2d(n_channels, 3 * n_channels, 1), nn.Conv2d(n_channels, n_channels, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.inputs(self.norm(x)).flatten(2).unflatten(1, (3, self.n_heads, -1))  # (B, 3, heads, d, HW)
        query, key, value = parts.transpose(3, 4).unbind(1)  # each (B, heads, HW, d)
        y = F.scaled_dot_product_attention(query, key, value)
        return x + self.output(y.transpose(2, 3).flatten(1, 2).unflatten(2, x.shape[2:]))


class FlowMatching(nn.Module):
    """The velocity v(x, t | class) as a U-Net, and what can be done with it.

    Raises:
        ValueError: images, times or classes of the wrong shape, type or range; classes given to a model without.
    """

    def __init__(self, config: FlowMatchingConfig) -> None:
        super().__init__()
        self.config = config
        widths, n_features = config.widths, 4 * config.width
        self.time = nn.Sequential(nn.Linear(n_features, n_features), nn.SiLU(), nn.Linear(n_features, n_features))
        self.classes = nn.Embedding(config.n_classes + 1, n_features)  # the last one is "no class"
        self.stem = nn.Conv2d(config.n_channels, widths[0], 3, padding=1)
        pairs = list(itertools.pairwise(widths))
        self.halve = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairs)
        self.down = nn.ModuleList(Block(b, b, n_features) for _, b in pairs)
        self.attention = Attention(widths[-1], config.n_heads)
        self.middle = Block(widths[-1], widths[-1], n_features)
        self.up = nn.ModuleList(Block(a + b, a, n_features) for a, b in reversed(pairs))
        self.norm = nn.GroupNorm(math.gcd(8, widths[0]), widths[0])
        self.head = nn.Conv2d(widths[0], config.n_channels, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, time: Tensor, condition: Tensor | None = None) -> Tensor:
        """v(x, t), float32 even under autocast.

        Args:
            x: (B, C, H, W), any H and W of at least 2^n_halvings.
            time: (B,) in [0, 1].
            condition: (B,) int64, 0 to n_classes − 1, or n_classes for "no class", as None says for all.
        """
        self._check(x, time, condition)
        if condition is None:
            condition = torch.full((len(x),), self.config.n_classes, device=x.device)
        features = self.time(time_features(time, self.time[0].in_features).to(self.stem.weight.dtype))
        features = F.silu(features + self.classes(condition))  # (B, 4 width)
        maps = [self.stem(x)]
        for halve, block in zip(self.halve, self.down, strict=True):
            maps.append(block(halve(maps[-1]), features))  # (B, 2C, ⌈H/2⌉, ⌈W/2⌉)
        y = self.middle(self.attention(maps.pop()), features)
        for block in self.up:
            beside = maps.pop()
            y = block(torch.cat([F.interpolate(y, size=beside.shape[2:]), beside], dim=1), features)
        y = self.head(F.silu(self.norm(y)))  # (B, C, H, W)
        return y.to(torch.promote_types(y.dtype, torch.float32))

    def guided(self, x: Tensor, time: Tensor, condition: Tensor | None = None, guidance: float = 1.0) -> Tensor:
        """v(x, t) + w (v(x, t | class) − v(x, t)) with w = `guidance`, both in one pass of twice the batch.

        w = 1 is the class as it was learned, 0 none, above 1 more than learned; 1 + w there is w here
        (arXiv:2207.12598, equation 6, which is linear in ε and so in v). Nothing is doubled for w = 0 and w = 1.
        """
        if condition is None or guidance == 0:
            return self(x, time)
        if guidance == 1:
            return self(x, time, condition)
        none = torch.full_like(condition, self.config.n_classes)
        both = self(x.repeat(2, 1, 1, 1), time.repeat(2), torch.cat([condition, none]))
        chosen, free = both.chunk(2)
        return free + guidance * (chosen - free)

    def loss(self, x: Tensor, condition: Tensor | None = None, *, generator: torch.Generator) -> Tensor:
        """Mean of `matching_loss` over images (B, C, H, W) with fresh noise, times U(0, 1), and classes forgotten."""
        time, forget = torch.rand(2, len(x), generator=generator, device=generator.device).to(x.device)
        noise = torch.randn(x.shape, generator=generator, device=generator.device).to(x)
        condition = self.forgotten(condition, forget)
        return matching_loss(lambda y, t: self(y, t, condition), x, noise, time).mean()

    def forgotten(self, condition: Tensor | None, uniform: Tensor) -> Tensor | None:
        """The classes with "no class" where uniform (B,) is below `dropout`."""
        if condition is None or not self.config.n_classes:
            return condition
        return torch.where(uniform < self.config.dropout, self.config.n_classes, condition)

    @torch.no_grad()
    def sample(
        self,
        shape: tuple[int, ...],
        condition: Tensor | None = None,
        *,
        n_steps: int,
        guidance: float = 1.0,
        solver: str = "midpoint",
        generator: torch.Generator,
    ) -> Tensor:
        """Noise of `shape` (B, C, H, W), carried to t = 1 in equal steps; `passes` counts what that costs.

        Returns:
            Images clamped to [-1, 1].

        Raises:
            ValueError: the shape does not fit, n_steps < 1, unknown solver, or as the class.
        """
        if len(shape) != 4 or min(shape) < 1:
            raise ValueError(f"shape must be (B, {self.config.n_channels}, H, W), got {tuple(shape)}")
        here = self.stem.weight.device
        noise = torch.randn(shape, generator=generator, device=generator.device).to(here)
        condition = condition.to(here) if condition is not None else None
        velocity = lambda x, time: self.guided(x, time, condition, guidance)  # noqa: E731
        return integrate(velocity, noise, n_steps=n_steps, solver=solver).clamp(-1, 1)

    def log_likelihood(
        self,
        x: Tensor,
        condition: Tensor | None = None,
        *,
        n_steps: int,
        solver: str = "midpoint",
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """log p(x) of the flow, (B,) nats, as `flow_log_likelihood`. In float32: without autocast.

        −log p / (D log 2) + log₂ 127.5 are bits per dimension of 8-bit images, if x was dequantised.
        """
        return flow_log_likelihood(
            lambda y, time: self(y, time, condition), x, n_steps=n_steps, solver=solver, generator=generator
        )

    def _check(self, x: Tensor, time: Tensor, condition: Tensor | None) -> None:
        c, least = self.config, 2**self.config.n_halvings
        if x.ndim != 4 or x.shape[1] != c.n_channels or min(x.shape[2:]) < least or len(x) == 0:
            raise ValueError(f"x must be (B ≥ 1, {c.n_channels}, H ≥ {least}, W ≥ {least}), got {tuple(x.shape)}")
        if not x.is_floating_point() or time.shape != x.shape[:1] or not time.is_floating_point():
            raise ValueError(f"x and time must be float, time ({len(x)},): got {x.dtype}, {time.dtype} {time.shape}")
        if not (time.min() >= 0 and time.max() <= 1):  # NaN fails as well
            raise ValueError(f"time must be in [0, 1], 0 noise and 1 data; got {time.min():.4g} to {time.max():.4g}")
        if condition is None:
            return
        if not c.n_classes:
            raise ValueError("this model has no classes (n_classes is 0): leave condition out")
        if condition.shape != x.shape[:1] or condition.dtype != torch.int64:
            raise ValueError(f"condition must be int64 ({len(x)},), got {condition.dtype} {tuple(condition.shape)}")
        if condition.min() < 0 or condition.max() > c.n_classes:
            raise ValueError(f"condition must be from 0 to {c.n_classes - 1}, or {c.n_classes} for no class")


def matching_loss(velocity: Velocity, x: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """‖v(x_t, t) − (x − noise)‖² / D at x_t = (1 − t) noise + t x, (B,): arXiv:2210.02747, equation 23, σ_min = 0."""
    t = time.view(-1, *[1] * (x.ndim - 1))
    error = velocity(torch.lerp(noise, x, t), time) - (x - noise)
    return error.square().flatten(1).mean(dim=1)


def score_from_velocity(velocity: Tensor, x: Tensor, time: Tensor) -> Tensor:
    """∇ log p_t(x) = (t v − x) / (1 − t), for t < 1, from the velocity at x (both (B, …)) and time (B,).

    With x_t = (1 − t) ε + t x₁ the means given x_t obey x = (1 − t) ε̂ + t x̂₁ and v = x̂₁ − ε̂, so that DDPM's ε̂ is
    x − t v; and the score is −ε̂ / (1 − t) (Tweedie; arXiv:2006.11239, section 3.2, with 1 − t for √(1 − ᾱ)).
    """
    t = time.view(-1, *[1] * (x.ndim - 1))
    return (t * velocity - x) / (1 - t)


def passes(n_steps: int, *, solver: str = "midpoint", guidance: float = 1.0) -> int:
    """How often the network sees each image of `FlowMatching.sample`; guidance between or beyond 0 and 1 doubles it.

    Raises:
        ValueError: n_steps < 1 or unknown solver.
    """
    if n_steps < 1 or solver not in SOLVERS:
        raise ValueError(f"n_steps ≥ 1 and a solver out of {', '.join(SOLVERS)}, please; got {n_steps} and {solver!r}")
    return n_steps * SOLVERS[solver] * (1 if guidance in (0, 1) else 2)


def integrate(
    velocity: Velocity, x: Tensor, *, n_steps: int, solver: str = "midpoint", start: float = 0.0, end: float = 1.0
) -> Tensor:
    """Follow dx/dt = v(x, t) from `start` to `end` in equal steps. Euler: error O(h); explicit midpoint: O(h²).

    Raises:
        ValueError: as `passes`.
    """
    passes(n_steps, solver=solver)
    h = (end - start) / n_steps
    for i in range(n_steps):
        now, mid = (x.new_full((len(x),), start + (i + part) * h) for part in (0.0, 0.5))  # each (B,)
        slope = velocity(x, now)
        x = x + h * (slope if solver == "euler" else velocity(x + h / 2 * slope, mid))
    return x


def flow_log_likelihood(
    velocity: Velocity, x: Tensor, *, n_steps: int, solver: str = "midpoint", generator: torch.Generator | None = None
) -> Tensor:
    """log p(x) = log N(x₀; 0, I) − ∫₀¹ div v(x_t, t) dt, where x_t leads back from x₁ = x to x₀ (B,), in nats.

    The instantaneous change of variables (Chen et al. 2018, arXiv:1806.07366, theorem 1), exact but for the steps.
    They are equal in s, with t = 1 − (1 − s)³: data that lies within σ of a surface makes v change within σ of t = 1.

    Args:
        velocity: differentiable in x, each image on its own.
        x: (B, …), D numbers each.
        generator: draws one e ∈ {−1, 1}^D an image for Hutchinson's estimate eᵀ (∂v/∂x) e of the divergence, unbiased,
            e kept along the way (FFJORD, arXiv:1810.01367, section 3.1). None: the exact trace, D backward passes.

    Raises:
        ValueError: as `passes`.
    """
    size = x[0].numel()
    if generator is not None:
        signs = torch.randint(0, 2, x.shape, generator=generator, device=generator.device).to(x) * 2 - 1

    def with_divergence(state: Tensor, s: Tensor) -> Tensor:
        with torch.enable_grad():
            y = state[:, :-1].detach().view_as(x).requires_grad_()
            v = velocity(y, 1 - (1 - s) ** 3)
            if generator is not None:
                (product,) = torch.autograd.grad(v, y, signs)
                divergence = (product * signs).flatten(1).sum(dim=1)
            else:
                rows = v.flatten(1).sum(dim=0)  # its entry i depends on each image's own: images do not meet
                diagonal = [torch.autograd.grad(rows[i], y, retain_graph=True)[0].flatten(1)[:, i] for i in range(size)]
                divergence = torch.stack(diagonal).sum(dim=0)
        return torch.cat([v.detach().flatten(1), divergence[:, None]], dim=1) * (3 * (1 - s) ** 2)[:, None]

    state = torch.cat([x.detach().flatten(1), x.new_zeros(len(x), 1)], dim=1)  # (B, D + 1): x_t, and ∫₁ᵗ div
    state = integrate(with_divergence, state, n_steps=n_steps, solver=solver, start=1.0, end=0.0)
    noise, change = state[:, :-1], state[:, -1]  # change = −∫₀¹ div
    return change - (noise.square().sum(dim=1) + size * math.log(2 * math.pi)) / 2
