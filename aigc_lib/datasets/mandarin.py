"""Mandarin speech with times, from eSpeak NG: a formant synthesiser, robotic and clear, that reports what it says when.

It is optional: the package `espeakng-loader` brings the library and its data (GPL-3.0). The wrappers on PyPI that were
looked at give sound or phonemes but no times, or have to be compiled against a system library; so the four functions
that are needed are called through ctypes.
"""

import ctypes
import importlib.util
import re
import threading
from functools import cache
from itertools import pairwise

import numpy as np
import torch

from aigc_lib.datasets.base import MissingDataPackage
from aigc_lib.datasets.timed_speech import Span, TimedSpeech

PACKAGE = "espeakng-loader==0.2.4"
_VOICE = b"cmn"
_RETRIEVE, _PHONEMES, _IPA, _DONT_EXIT = 1, 0x1, 0x2, 0x8000  # of espeak_Initialize (speak_lib.h of 1.52)
_UTF8 = 1
_END, _WORD, _PHONEME = 0, 1, 7  # kinds of events
_OPEN, _HAN = "“‘「『（《〈【", "㐀-鿿"
_TOKEN = re.compile(rf"[{_OPEN}]*[{_HAN}][^\w\s{_OPEN}]*|[^\s{_HAN}]+")
_LOCK = threading.Lock()  # the library has one state for the whole process


class _Event(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # in characters, from 1
        ("length", ctypes.c_int),
        ("milliseconds", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),  # a union: for phonemes, their name
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def installed() -> bool:
    """Whether the voice is there."""
    return importlib.util.find_spec("espeakng_loader") is not None


def speak(text: str) -> TimedSpeech:
    """Say a text of any length at 22,050 Hz; what is not Chinese in it is read by rules for English.

    The library's flutter goes on from call to call: said again, a text differs by fractions of a millisecond.

    Returns:
        Phonemes in IPA, several signs each ("tɕʰ" is written "tɕh", "ˈɑu" is one); words are single characters, with
        the punctuation after them. Characters of one word share its time equally.

    Raises:
        ValueError: nothing in the text can be said.
        MissingDataPackage: the voice is not installed.
        RuntimeError: the library refuses; the message says in which call.
    """
    if "\0" in text:
        raise ValueError("the text has a NUL character in it, which ends a text for eSpeak; take it out")
    with _LOCK:
        waves, events, rate = _synthesised(text)
    marks = [(event, name) for event, name in events if event[0] == _PHONEME]
    phonemes = [
        Span(text=name, start=start / rate, end=end / rate)
        for ((_, _, start), name), ((_, _, end), _) in pairwise(marks)
        if name and name[0] != "(" and end > start  # "(en)" says that rules for English follow
    ]
    if not phonemes or not re.search(r"\w", text):
        raise ValueError(f"nothing in {text[:60]!r} can be said in Mandarin; pass a text with characters")
    words = _words(
        text, [(position, sample / rate) for (kind, position, sample), _ in events if kind == _WORD], phonemes
    )
    audio = torch.from_numpy(np.concatenate(waves).astype(np.float32) / 2**15)
    return TimedSpeech(audio=audio, sample_rate=rate, phonemes=tuple(phonemes), words=tuple(words))


def _synthesised(text: str) -> tuple[list[np.ndarray], list[tuple[tuple[int, int, int], str]], int]:
    """Waves, events ((kind, position, sample), name) and the sample rate."""
    library, rate = _library()
    waves, events = [], []

    def receive(wave, n, event):
        if wave and n:
            waves.append(np.ctypeslib.as_array(wave, (n,)).copy())  # the memory is the library's
        i = 0
        while event[i].kind != _END:
            each = event[i]
            events.append(((each.kind, each.text_position, each.sample), each.name.decode(errors="ignore")))
            i += 1
        return 0

    callback = _Callback(receive)  # in a name, so that it lives until the synthesis is done
    library.espeak_SetSynthCallback(callback)
    content = text.encode()
    _succeed(library.espeak_Synth(content, len(content) + 1, 0, 0, 0, _UTF8, None, None), "espeak_Synth")
    _succeed(library.espeak_Synchronize(), "espeak_Synchronize")
    return waves, events, rate


@cache
def _library() -> tuple[ctypes.CDLL, int]:
    if not installed():
        raise MissingDataPackage(f"speaking Mandarin needs eSpeak NG (GPL-3.0). Run: pip install {PACKAGE}")
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_Synth.argtypes = (
        [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int] + [ctypes.c_uint] * 2 + [ctypes.c_void_p] * 2
    )
    data = espeakng_loader.get_data_path().encode()
    rate = library.espeak_Initialize(_RETRIEVE, 0, data, _PHONEMES | _IPA | _DONT_EXIT)
    if rate <= 0:
        raise RuntimeError(f"eSpeak NG does not start (espeak_Initialize gave {rate}); reinstall it: {PACKAGE}")
    _succeed(library.espeak_SetVoiceByName(_VOICE), "espeak_SetVoiceByName")
    return library, rate


def _succeed(code: int, call: str) -> None:
    if code != 0:
        raise RuntimeError(f"eSpeak NG refused: {call} gave {code}")


def _words(text: str, starts: list[tuple[int, float]], phonemes: list[Span]) -> list[Span]:
    """The text from one word's start to the next, in characters, each with its share of the time."""
    starts = [  # a new word begins at a new time, and not within a number, which is read digit by digit
        each
        for i, each in enumerate(starts)
        if i == 0 or (each[1] > starts[i - 1][1] and not re.match(r"[A-Za-z0-9]{2}", text[each[0] - 2 : each[0]]))
    ]
    cuts = [0, *(position - 1 for position, _ in starts[1:]), len(text)]
    times = [time for _, time in starts] + [phonemes[-1].end + 1e-6]
    words = []
    for k, (begin, after) in enumerate(pairwise(times)):
        tokens = _TOKEN.findall(text[cuts[k] : cuts[k + 1]])
        end = max((p.end for p in phonemes if begin <= p.start < after), default=after)
        edges = np.linspace(begin, end, len(tokens) + 1).tolist()
        words += [Span(text=token, start=a, end=b) for token, (a, b) in zip(tokens, pairwise(edges), strict=True)]
    return words
