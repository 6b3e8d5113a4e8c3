"""Any English text in the corpus's voice, with the time of every phoneme and every word.

The voice is the one of `datasets.speech`. Its network decides how long each phoneme lasts and keeps that to itself;
here the number is made one of its outputs, so the times are those by which the sound was built, in steps of 25 ms.
Two things are mended, because the sound itself says otherwise: all of it comes a little earlier than planned (`LAG`),
and what stands before a pause has the pause counted in.
"""

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aigc_lib.datasets.base import MissingDataPackage
from aigc_lib.datasets.provenance import info
from aigc_lib.datasets.sources import install_command
from aigc_lib.datasets.speech import RATES, VOICE_RATE, resampled

STEP = 0.025  # seconds; the network counts durations in these
# Seconds by which sounds come before their planned times. 409 ends of hissing sounds, seen in the waveform: -57 ms in
# the median, half of them within 11 ms of that; 1,788 phonemes by forced alignment (pocketsphinx): -60 ms.
LAG = 0.057
_SILENCE = 1e-4  # of a sentence's greatest energy
_DURATIONS = "/Clip_output_0"  # the tensor inside hibari 0.2.1's network that holds them
_STRESS = "ˈˌ"  # marks, not sounds: their time is that of the vowel they stand before
_MOST = 400  # phonemes the network takes at once


@dataclass(frozen=True, kw_only=True)
class Span:
    """Something said, from second `start` to second `end`."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, kw_only=True, eq=False)
class TimedSpeech:
    """Speech and what is said when. `phonemes` leaves out pauses, `words` leaves out punctuation between words."""

    audio: Tensor  # (T,) float32 in [-1, 1]
    sample_rate: int  # hertz
    phonemes: tuple[Span, ...]  # one character each, as the voice's dictionary writes them, stress mark before it
    words: tuple[Span, ...]  # as written, punctuation attached


def speak(text: str, sample_rate: int = VOICE_RATE, *, seed: int = 0, speed: float = 1.0) -> TimedSpeech:
    """Say a text of any length; sentences follow each other with the pause that the voice makes.

    Args:
        text: English.
        sample_rate: 8,000, 12,000, 16,000 or 24,000 hertz.
        seed: of the noise in breath and hissing sounds.
        speed: 0.5 (slow) to 2 (fast).

    Raises:
        ValueError: nothing in the text can be said, or a rate or speed is out of range.
        MissingDataPackage: the voice is not installed.
    """
    if sample_rate not in RATES:
        raise ValueError(f"expected a sample rate of {', '.join(map(str, RATES))} hertz, got {sample_rate}")
    if not 0.5 <= speed <= 2:
        raise ValueError(f"expected a speed from 0.5 to 2, got {speed}")
    voice, session = _voice()
    generator, now = np.random.default_rng(seed), 0.0
    waves, phonemes, words = [], [], []
    for tokens in _sentences(voice, text):
        symbols = [(symbol, i) for i, token in enumerate(tokens) for symbol in token[1] if symbol in voice.vocab]
        if not any(symbol.isalpha() for symbol, _ in symbols):
            continue
        ids = np.array([[0, *(voice.vocab[symbol] for symbol, _ in symbols), 0]], np.int64)
        *spectra, durations = session.run(None, {"ids": ids, "speed": np.array([speed], np.float32)})
        wave = _synthesised(spectra, generator)
        starts, ends = _times(symbols, durations, wave)
        phonemes += _phoneme_spans(symbols, now + starts, now + ends)
        words += _word_spans(tokens, symbols, now + starts, now + ends)
        waves.append(wave)
        now += len(wave) / VOICE_RATE
    if not waves:
        raise ValueError(f"nothing in {text[:60]!r} can be said in English; pass a text with letters or digits")
    audio = torch.from_numpy(resampled(np.concatenate(waves), sample_rate))
    return TimedSpeech(audio=audio, sample_rate=sample_rate, phonemes=tuple(phonemes), words=tuple(words))


@cache
def _voice():
    """The voice, and its network with durations as a seventh output."""
    if importlib.util.find_spec("hibari") is None:
        raise MissingDataPackage(f"speaking needs hibari-tts. Run: {install_command(dict(info('speech').packages))}")
    import onnxruntime
    from hibari import Hibari

    voice = Hibari()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    # Serialised messages joined are merged (protobuf's rule): field 7 is the graph, its field 12 an output, 1 a name.
    output = _field(7, _field(12, _field(1, _DURATIONS.encode())))
    network = Path(voice.model_path).read_bytes() + output
    return voice, onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protobuf message, shorter than 128 bytes."""
    return bytes([number << 3 | 2, len(content)]) + content


def _synthesised(spectra: list[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    from hibari import dsp

    return dsp.synth(*(each[0] for each in spectra), generator)


def _sentences(voice, text: str) -> list[list[tuple[str, str]]]:
    """For each stretch that is said at once: (text, phonemes with the blank after them) of its tokens."""
    from hibari.g2p.normalize import normalize

    stretches = []
    for sentence in voice.split_sentences(text):
        stretch: list[tuple[str, str]] = []
        for token in voice.g2p.phonemize_tokens(voice.g2p.tokenize(normalize(sentence))):
            pair = token.text, (token.phonemes or "") + (" " if token.whitespace else "")
            if sum(len(said) for _, said in [*stretch, pair]) > _MOST:  # a breath in the middle of a very long sentence
                stretches.append(stretch)
                stretch = []
            stretch.append(pair)
        stretches.append(stretch)
    return stretches


def _times(symbols: list[tuple[str, int]], durations: np.ndarray, wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of every symbol, in seconds from the start of the wave."""
    edges = np.maximum(STEP * np.cumsum(durations)[:-1] - LAG, 0.0)  # the first duration is the silence before
    starts, ends = edges[:-1], edges[1:].copy()
    grain = VOICE_RATE // 200  # energy is looked at in steps of 5 ms
    energy = np.square(wave[: len(wave) // grain * grain]).reshape(-1, grain).mean(axis=1)
    loud = energy > _SILENCE * energy.max()
    sounds = [symbol.isalpha() for symbol, _ in symbols] + [False]
    for i in range(len(symbols)):
        if sounds[i] and not sounds[i + 1]:  # a phoneme before a pause lasts as long as it is heard, at least a step
            first, last = round(200 * starts[i]), round(200 * ends[i])
            heard = first + 1 + np.flatnonzero(loud[first:last]).max(initial=0)
            ends[i] = max(heard / 200, starts[i] + STEP)
    return starts, ends


def _phoneme_spans(symbols: list[tuple[str, int]], starts: np.ndarray, ends: np.ndarray) -> list[Span]:
    spans, mark, start = [], "", 0.0
    for (symbol, _), begin, end in zip(symbols, starts, ends, strict=True):
        if symbol in _STRESS:
            mark, start = symbol, begin
        elif symbol.isalpha():
            spans.append(Span(text=mark + symbol, start=float(start if mark else begin), end=float(end)))
            mark = ""
        else:
            mark = ""
    return spans


def _word_spans(
    tokens: list[tuple[str, str]], symbols: list[tuple[str, int]], starts: np.ndarray, ends: np.ndarray
) -> list[Span]:
    """One span a word on the page: "$", "5" and "!" are one, and so are "New" and "-York"."""
    spans: list[Span] = []
    said = [[i for i, (_, at) in enumerate(symbols) if at == k] for k in range(len(tokens))]
    attached, before = False, ""  # whether the last word goes on here; silent signs that open a word
    for (text, phonemes), places in zip(tokens, said, strict=True):
        sounds = [i for i in places if symbols[i][0].isalpha() or symbols[i][0] in _STRESS]
        if not sounds and not attached:
            before += text
        elif not sounds:
            last = spans[-1]
            spans[-1] = Span(text=last.text + text, start=last.start, end=last.end)
        else:
            start, end = float(starts[sounds[0]]), float(ends[sounds[-1]])
            if attached:
                last = spans.pop()
                text, start = last.text + text, last.start
            spans.append(Span(text=before + text, start=start, end=end))
            attached, before = True, ""
        if phonemes.endswith(" "):
            attached = False
    return spans
