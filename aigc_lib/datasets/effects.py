"""Short sound effects and ambiences, made by signal processing from random parameters: any number, nobody's property.

Each kind is a small recipe of sines, noise and envelopes in the manner of Farnell (Designing Sound, 2010): struck
things ring in decaying partials, a drop is a sine that rises, wind is a band of noise that wanders. Pitch, decay,
timbre, density and colour are drawn anew for each item.

Axis letters: N items, T samples.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from aigc_lib.datasets.base import OnDemand, stable_hash
from aigc_lib.datasets.cache import prepared
from aigc_lib.datasets.provenance import info
from aigc_lib.datasets.sources import verify

SAMPLE_RATE = 16_000  # hertz
WINDOW = 16_384  # T, 1.024 s
SHORTEST, LONGEST = 0.25, 1.0  # seconds that an effect lasts
PER_KIND = {"train": 240, "validation": 40, "test": 40}

EFFECTS = {
    "bell": "铃声", "drop": "水滴", "step": "脚步", "knock": "敲门", "zap": "激光",
    "whoosh": "呼啸", "explosion": "爆炸", "chirp": "鸟鸣", "coin": "金币", "drum": "鼓声",
}  # fmt: skip
AMBIENCES = {"rain": "雨声", "wind": "风声", "fire": "篝火", "waves": "海浪", "engine": "引擎"}
KINDS = tuple(EFFECTS | AMBIENCES)  # label i is the i-th

_TIMES = torch.arange(WINDOW) / SAMPLE_RATE
_FREQUENCIES = torch.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE)


@dataclass(frozen=True, kw_only=True, eq=False)
class EffectItem:
    """One effect, or one second of an ambience."""

    audio: Tensor  # (T,) float32 in [-1, 1], silent after the end
    sample_rate: int  # hertz
    kind: str  # one of `KINDS`
    seconds: float  # how long it lasts; of an ambience the whole window
    key: str


class Effects(OnDemand[EffectItem]):
    """Sounds of one length, in memory as 16 bits.

    Attributes:
        waves: (N, T) int16; `audio` gives floats.
        labels: (N,) int64, positions in `KINDS`.
        seconds: (N,) float32.
    """

    def __init__(self, waves: Tensor, labels: Tensor, seconds: Tensor, *, seed: int, split: str):
        self.waves, self.labels, self.seconds, self.seed = waves, labels, seconds, seed
        super().__init__(len(waves), self._item, info=info("effects"), split=split)

    def audio(self, indices: Tensor | slice) -> Tensor:
        """(n, T) float32 in [-1, 1]."""
        return self.waves[indices].float() / 2**15

    def _item(self, index: int) -> EffectItem:
        return EffectItem(
            audio=self.audio(slice(index, index + 1))[0],
            sample_rate=SAMPLE_RATE,
            kind=KINDS[self.labels[index]],
            seconds=self.seconds[index].item(),
            key=f"{self.split}/{self.seed}/{index}",
        )


def effects(split: str, n: int | None = None, seed: int = 0) -> Effects:
    """Ten kinds of effects that last 0.25 to 1 s and five ambiences, each in a window of 1.024 s at 16 kHz.

    Item i is of kind i mod 15; durations are spread evenly over their logarithm. Every item is drawn from the hash of
    seed, split and index, so no two splits share one, and item i is the same whatever `n` is. The loudest sample of
    each is 0.9.

    Args:
        n: length of this split; None gives 3,600, 600 and 600.
        seed: another one gives other sounds.

    Raises:
        ValueError: n below 1.
    """
    n = PER_KIND[split] * len(KINDS) if n is None else n
    if n < 1:
        raise ValueError(f"expected n of at least 1, got {n}")
    entry = info("effects")
    verify(entry)

    def build() -> dict[str, np.ndarray]:
        indices = tqdm(range(n), desc=f"making effects, {split}", leave=False)
        waves, seconds = zip(*(_made(i, split, seed) for i in indices), strict=True)
        return {"waves": torch.stack(waves).numpy(), "seconds": np.array(seconds, dtype=np.float32)}

    arrays = prepared(entry, build, split=split, n=n, seed=seed)
    waves, seconds = (torch.from_numpy(arrays[name]) for name in ("waves", "seconds"))
    return Effects(waves, torch.arange(n) % len(KINDS), seconds, seed=seed, split=split)


def _made(index: int, split: str, seed: int) -> tuple[Tensor, float]:
    """(T,) int16, and seconds."""
    kind = KINDS[index % len(KINDS)]
    dice = _Dice(torch.Generator().manual_seed(stable_hash("effects", seed, split, index) >> 1))
    seconds = dice.scaled(SHORTEST, LONGEST) if kind in EFFECTS else WINDOW / SAMPLE_RATE
    wave = _SYNTHESISERS[kind](dice, seconds) * (seconds > _TIMES)
    return (wave * (0.9 * 2**15 / wave.abs().max())).round().to(torch.int16), seconds


# --- what sounds are made of -----------------------------------------------------------------------------------------


class _Dice:
    """Random parameters of one item."""

    def __init__(self, generator: torch.Generator):
        self.generator = generator

    def even(self, low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=self.generator).item()

    def scaled(self, low: float, high: float) -> float:
        """Even in the logarithm: as often from 1 to 2 as from 2 to 4."""
        return math.exp(self.even(math.log(low), math.log(high)))

    def whole(self, low: int, high: int) -> int:
        """`low` to `high`, both among them."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def noise(self) -> Tensor:
        """(T,) white, variance 1."""
        return torch.randn(WINDOW, generator=self.generator)

    def specks(self, rate: float) -> Tensor:
        """(T,) impulses at random times, `rate` a second on average, most of them weak."""
        struck = torch.rand(WINDOW, generator=self.generator) < rate / SAMPLE_RATE
        return struck * self.noise() ** 3

    def wander(self, rate: float) -> Tensor:
        """(T,) a slow random curve, variance about 1, that turns about `rate` times a second."""
        return _unit(_filtered(self.noise(), torch.exp(-((_FREQUENCIES / rate) ** 2))))


def _filtered(wave: Tensor, gains: Tensor) -> Tensor:
    """Multiply the spectrum (T/2 + 1) of a wave; what would go beyond the end comes round to the beginning."""
    return torch.fft.irfft(torch.fft.rfft(wave) * gains, WINDOW)


def _unit(wave: Tensor) -> Tensor:
    return wave / wave.square().mean().sqrt().clamp(min=1e-9)


def _band(centre: float, octaves: float) -> Tensor:
    """Gains of a bell-shaped band that is so many octaves wide on either side."""
    return torch.exp(-0.5 * ((_FREQUENCIES.clamp(min=1) / centre).log2() / octaves) ** 2)


def _below(cutoff: float, order: float = 4.0) -> Tensor:
    return 1 / (1 + (_FREQUENCIES / cutoff) ** order)


def _sine(hertz: Tensor | float, phase: float = 0.0) -> Tensor:
    """(T,) with a frequency that may change."""
    turns = torch.cumsum(torch.as_tensor(hertz, dtype=torch.float64).expand(WINDOW), 0) / SAMPLE_RATE
    return torch.sin(2 * math.pi * (turns + phase)).float()


def _moving_band(dice: _Dice, centre: Tensor, width: float) -> Tensor:
    """(T,) noise `width` hertz wide around a frequency (T,) that moves: slow noise carried by a sine and a cosine."""
    slow = [_unit(_filtered(dice.noise(), _below(width))) for _ in range(2)]
    return slow[0] * _sine(centre) + slow[1] * _sine(centre, 0.25)


def _decay(seconds: float, speed: float = 4.0, start: float = 0.0) -> Tensor:
    """(T,) struck at `start`, within 2 ms: exp(−speed·u), u = 0 … 1 until `seconds`, bent down to be zero there."""
    since = _TIMES - start
    u = (since / (seconds - start)).clamp(0, 1)
    return (since / 0.002).clamp(0, 1) * torch.exp(-speed * u) * (1 - u**4)


def _hump(start: float, end: float, power: float = 1.0) -> Tensor:
    """(T,) one arch from `start` to `end`."""
    u = ((_TIMES - start) / (end - start)).clamp(0, 1)
    return torch.sin(math.pi * u).clamp(min=0) ** power


# --- effects ---------------------------------------------------------------------------------------------------------


def _bell(dice: _Dice, seconds: float) -> Tensor:
    base, speed = dice.scaled(300, 1200), dice.even(3, 4.5)
    ratios = (0.5, 1.0, 1.2, 1.5, 2.0, 2.67, 3.0, 4.1)  # hum, prime, tierce, quint, nominal and above
    partials = (
        dice.scaled(0.15, 1) * _sine(base * r * dice.even(0.99, 1.01)) * _decay(seconds, speed * (0.7 + 0.3 * r))
        for r in ratios
    )
    return sum(partials) + 0.2 * dice.noise() * _decay(seconds, 150 * seconds)


def _drop(dice: _Dice, seconds: float) -> Tensor:
    low, rise = dice.scaled(350, 1400), dice.even(0.4, 2.0)
    bubble = _sine(low * (1 + rise * _TIMES / seconds)) * _decay(seconds, dice.even(3.5, 5.5))
    second = dice.even(0.15, 0.5) * seconds
    echo = _sine(low * dice.even(1.2, 1.8) * (1 + rise * _TIMES / seconds)) * _decay(seconds, 5, start=second)
    return bubble + dice.even(0, 0.6) * echo + 0.15 * dice.noise() * _decay(seconds, 200 * seconds)


def _step(dice: _Dice, seconds: float) -> Tensor:
    ground, crunch = _band(dice.scaled(900, 4500), dice.even(0.4, 0.9)), dice.even(0.1, 0.8)
    thump, toe = _filtered(dice.noise(), _band(dice.scaled(80, 220), 0.5)), dice.even(0.25, 0.5) * seconds
    grains = _unit(_filtered(dice.noise() * 0.1 + dice.specks(dice.scaled(200, 3000)), ground))
    heel = _decay(seconds, dice.even(8, 12)) + dice.even(0.4, 0.9) * _decay(seconds, dice.even(4, 6), start=toe)
    return _unit(thump) * heel + crunch * grains * heel.sqrt() * _decay(seconds, 2)


def _knock(dice: _Dice, seconds: float) -> Tensor:
    spacing, door = dice.even(0.13, 0.24), dice.scaled(130, 320)
    n = max(1, min(5, round(seconds / spacing)))
    modes = [(ratio, dice.scaled(0.2, 1)) for ratio in (1.0, 1.6, 2.4, 3.7)]
    body = sum(weight * _sine(door * ratio * dice.even(0.97, 1.03)) for ratio, weight in modes)
    body = body + dice.even(0.3, 1.0) * _unit(_filtered(dice.noise(), _band(dice.scaled(600, 2000), 0.8)))
    starts = [i * seconds / n * dice.even(0.96, 1.0) for i in range(n)]
    speed = dice.even(4, 7)
    return body * sum(dice.even(0.7, 1) * _decay(start + seconds / n, speed, start=start) for start in starts)


def _zap(dice: _Dice, seconds: float) -> Tensor:
    high, low, bend = dice.scaled(2000, 6000), dice.scaled(120, 500), dice.even(1, 3)
    u = (_TIMES / seconds).clamp(max=1)
    path = low * (high / low) ** ((1 - u) ** bend)
    path = path * (1 + dice.even(0, 0.08) * _sine(dice.scaled(15, 60)))
    edge = dice.scaled(0.5, 5)  # near 0 a sine, above a square wave
    return torch.tanh(edge * _sine(path)) * _decay(seconds, dice.even(1, 3))


def _whoosh(dice: _Dice, seconds: float) -> Tensor:
    peak, low, high = dice.even(0.35, 0.65), dice.scaled(250, 800), dice.scaled(1200, 4500)
    u = (_TIMES / seconds).clamp(max=1)
    arch = torch.sin(math.pi * u ** (math.log(0.5) / math.log(peak))).clamp(min=0)  # its top is at `peak`
    return _moving_band(dice, low + (high - low) * arch, dice.scaled(150, 900)) * arch ** dice.even(1.2, 2.5)


def _explosion(dice: _Dice, seconds: float) -> Tensor:
    colour, speed = dice.even(0.2, 0.7), dice.even(3, 5)
    layers = (
        (100 / cutoff) ** colour * _unit(_filtered(dice.noise(), _band(cutoff, 0.6))) * _decay(seconds, speed * haste)
        for cutoff, haste in ((70, 0.8), (180, 1.0), (500, 1.6), (1400, 2.6), (4000, 4.0))
    )
    return torch.tanh(dice.scaled(0.5, 3) * sum(layers)) * _decay(seconds, 1)


def _chirp(dice: _Dice, seconds: float) -> Tensor:
    n = max(1, min(6, round(seconds / dice.even(0.1, 0.25))))
    base, sweep, bend = dice.scaled(2000, 4500), dice.even(-0.4, 0.5), dice.even(-0.25, 0.25)
    wave, length = torch.zeros(WINDOW), seconds / n
    for i in range(n):
        end = i * length + (length * dice.even(0.6, 0.85) if i < n - 1 else length)
        u = ((_TIMES - i * length) / (end - i * length)).clamp(0, 1)
        path = base * (1 + sweep * (u - 0.5) + bend * torch.sin(2 * math.pi * u)) * dice.even(0.95, 1.05)
        wave = wave + dice.even(0.6, 1) * _hump(i * length, end, 0.7) * _sine(path)
    return wave + dice.even(0, 0.15) * wave**2


def _coin(dice: _Dice, seconds: float) -> Tensor:
    base, turn, edge = dice.scaled(700, 1500), dice.even(0.05, 0.1), dice.scaled(0.7, 4)
    path = torch.where(turn > _TIMES, base, base * dice.even(1.25, 1.55))
    shine = dice.even(0, 0.3) * _sine(path * dice.even(2.7, 2.8))
    return (torch.tanh(edge * _sine(path)) + shine) * (_decay(seconds, dice.even(3, 4.5), start=turn) + (turn > _TIMES))


def _drum(dice: _Dice, seconds: float) -> Tensor:
    base, bend, rattle = dice.scaled(55, 200), dice.even(0.5, 2.5), dice.even(0, 0.6)
    path = base * (1 + bend * torch.exp(-_TIMES / dice.even(0.015, 0.05)))
    skin = _sine(path) + dice.even(0, 0.5) * _sine(path * 1.59) + dice.even(0, 0.3) * _sine(path * 2.14)
    snare = _unit(_filtered(dice.noise(), _band(dice.scaled(1500, 4500), 0.9)))
    return skin * _decay(seconds, dice.even(3.5, 5)) + rattle * snare * _decay(seconds, dice.even(4, 9))


# --- ambiences -------------------------------------------------------------------------------------------------------


def _rain(dice: _Dice, seconds: float) -> Tensor:
    hiss = _unit(_filtered(dice.noise(), _band(dice.scaled(2500, 6000), dice.even(0.8, 1.5))))
    drops = _unit(_filtered(dice.specks(dice.scaled(20, 400)), _band(dice.scaled(1500, 5000), 0.35)))
    return hiss + dice.scaled(0.2, 1.2) * drops


def _wind(dice: _Dice, seconds: float) -> Tensor:
    centre = dice.scaled(200, 900) * torch.exp2(dice.even(0.1, 0.4) * dice.wander(2))
    howl = _moving_band(dice, centre, dice.scaled(30, 150)) * torch.exp(dice.even(0.1, 0.5) * dice.wander(2))
    return howl + dice.scaled(0.1, 0.6) * _unit(_filtered(dice.noise(), _band(500, 1.5)))


def _fire(dice: _Dice, seconds: float) -> Tensor:
    bed = _unit(_filtered(dice.noise(), _band(dice.scaled(80, 250), 0.8))) * torch.exp(0.3 * dice.wander(6))
    snaps = _filtered(dice.specks(dice.scaled(8, 60)), _band(dice.scaled(1200, 3500), 1.2))
    return dice.scaled(0.2, 0.8) * bed + 1.5 * _unit(snaps) + 0.1 * _unit(_filtered(dice.noise(), _band(3000, 1)))


def _waves(dice: _Dice, seconds: float) -> Tensor:
    swell = torch.sin(2 * math.pi * (_TIMES / dice.even(3, 8) + dice.even(0, 1)))  # a part of a slow wave
    surf, foam = (_unit(_filtered(dice.noise(), _below(cutoff, 2))) for cutoff in (dice.scaled(250, 600), 1500))
    return surf * torch.exp(0.5 * swell) + dice.scaled(0.3, 1.2) * foam * torch.exp(1.2 * swell)


def _engine(dice: _Dice, seconds: float) -> Tensor:
    path = dice.scaled(28, 80) * (1 + 0.01 * dice.wander(3))
    tilt = dice.even(0.5, 1.3)
    rumble = sum(dice.scaled(0.3, 1) * i**-tilt * _sine(path * i, dice.even(0, 1)) for i in range(1, 25))
    air = _unit(_filtered(dice.noise(), _band(dice.scaled(300, 1200), 1))) * (1 + 0.5 * _sine(path))
    return _unit(rumble) + dice.scaled(0.05, 0.3) * air


_SYNTHESISERS: dict[str, Callable[[_Dice, float], Tensor]] = {
    "bell": _bell, "drop": _drop, "step": _step, "knock": _knock, "zap": _zap,
    "whoosh": _whoosh, "explosion": _explosion, "chirp": _chirp, "coin": _coin, "drum": _drum,
    "rain": _rain, "wind": _wind, "fire": _fire, "waves": _waves, "engine": _engine,
}  # fmt: skip
