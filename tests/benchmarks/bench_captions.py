"""Captions in noise: what two recognisers mishear, and how late the words of a known transcript are put.

Run by hand: `python tests/benchmarks/bench_captions.py`, about a quarter of an hour of one core. Speech is the course's
voice with its true times; noise is added to it at a ratio that counts speech alone. Prints a table in markdown.
"""

import warnings

import torch

from aigc_lib import datasets
from aigc_lib.applications.captions import timed_words
from aigc_lib.applications.recognition import recogniser
from aigc_lib.datasets.base import split_of
from aigc_lib.datasets.notes import play
from aigc_lib.datasets.speech import sentences
from aigc_lib.datasets.timed_speech import Span, speak
from aigc_lib.metrics.audio import word_error_rate, words_of
from aigc_lib.metrics.captions import start_errors

RATE, N_SENTENCES, LEVELS = 16_000, 15, (20, 10, 5, 0)


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    texts = [text for text, _, group in sentences(0) if split_of(group) == "test"][:N_SENTENCES]
    sound, truth = recording(texts, generator)
    noises = {"white": torch.randn(len(sound), generator=generator), "chorales": chorales(len(sound)),
              "six voices": voices(len(sound), generator)}  # fmt: skip
    listeners = {name: recogniser(name) for name in ("pocketsphinx", "whisper")}
    conditions = [("none", None), *((kind, level) for kind in noises for level in LEVELS)]
    print(f"{len(truth)} words in {len(sound) / RATE:.0f} s\n")
    print("| noise | " + ", ".join(f"{name}: words wrong (%)" for name in listeners) + " | aligned: median (ms) |")
    for kind, level in conditions:
        noisy = sound if level is None else mixed(sound, noises[kind], level, truth)
        wrong = [missed(timed_words(noisy, listen), texts) for listen in listeners.values()]
        print(f"| {kind}{'' if level is None else f', {level} dB'} | " + " | ".join(f"{100 * w:.0f}" for w in wrong),
              f"| {aligned(noisy, texts, truth)} |", flush=True)  # fmt: skip


def missed(heard: list[Span], texts: list[str]) -> float:
    return word_error_rate([words_of(" ".join(word.text for word in heard))], [" ".join(texts)])


def aligned(sound: torch.Tensor, texts: list[str], truth: list[Span]) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        late = start_errors(timed_words(sound, None, transcript=" ".join(texts)), truth).abs().median()
    return f"{1000 * late:.0f}" + (" (spread)" if caught else "")


def recording(texts: list[str], generator: torch.Generator) -> tuple[torch.Tensor, list[Span]]:
    """Sentences with pauses of 0.3 to 1.5 s, (T,), and their words."""
    sounds, words = [torch.zeros(RATE // 2)], []
    for i, text in enumerate(texts):
        said, now = speak(text, RATE, seed=i), sum(map(len, sounds)) / RATE
        words += [Span(text=word.text, start=now + word.start, end=now + word.end) for word in said.words]
        pause = 0.3 + 1.2 * torch.rand(1, generator=generator).item()
        sounds += [said.audio, torch.zeros(int(RATE * pause))]
    return torch.cat(sounds), words


def chorales(n: int) -> torch.Tensor:
    bach = datasets.load("bach", "test")
    return torch.cat([play(bach[i].notes, "piano", RATE) for i in range(5)]).repeat(5)[:n]


def voices(n: int, generator: torch.Generator) -> torch.Tensor:
    """Six people who say other sentences, each at a speed of their own."""
    texts = [text for text, _, group in sentences(0) if split_of(group) == "train"][:60]
    total = torch.zeros(n)
    for voice in range(6):
        speed = 0.8 + 0.4 * torch.rand(1, generator=generator).item()
        order = torch.randperm(len(texts), generator=generator)[:10].tolist()
        said = torch.cat([speak(texts[i], RATE, seed=voice, speed=speed).audio for i in order])
        total += said.repeat(1 + n // len(said))[:n].roll(int(torch.randint(n, (1,), generator=generator)))
    return total


def mixed(sound: torch.Tensor, noise: torch.Tensor, level: float, truth: list[Span]) -> torch.Tensor:
    speech = torch.cat([sound[int(RATE * word.start) : int(RATE * word.end)] for word in truth])
    both = sound + noise * (speech.square().mean() / noise.square().mean() / 10 ** (level / 10)).sqrt()
    return both / both.abs().max().clamp(min=1)


if __name__ == "__main__":
    main()
