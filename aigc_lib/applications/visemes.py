"""From phonemes to mouth shapes: a viseme (视位) for every sound, and a smooth track through them.

Sounds that look alike share a viseme, as in the table of MPEG-4 facial animation (ISO/IEC 14496-2), of which these are
a refinement. Neighbours blend by dominance functions (M. Cohen, D. Massaro, "Modeling coarticulation in synthetic
visual speech", 1993), with two differences: distance counts from the edges of a phoneme and not from its middle, so
that a change is half done where the sound changes, and lips that have to touch do, for at least one frame.
"""

import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from aigc_lib.applications.drawn_face import Mouth
from aigc_lib.datasets.timed_speech import Span

DECAY = 25.0  # 1/seconds: the dominance of a neighbour 40 ms away is 1/e
_FIELDS = ("opening", "teeth", "tongue", "tuck", "width", "rounding")
_HELD = 4  # of these, the first four belong to the lips' contact; the last two may come from the neighbours
_CONTACT = 0.04  # seconds a contact lasts at least: one frame at 25 frames a second
_RELEASE = 0.05  # seconds in which it is made, and undone
_NEVER = 1e9  # seconds
_PAUSE = 0.15  # seconds without a sound after which the mouth rests

# viseme: shape, dominance
VISEMES: dict[str, tuple[Mouth, float]] = {
    "rest": (Mouth(), 1.0),
    "p b m": (Mouth(width=0.45), 1.0),
    "f v": (Mouth(opening=0.2, teeth=1.0, tuck=1.0), 1.0),
    "th": (Mouth(opening=0.24, teeth=0.55, tongue=1.0), 0.8),
    "t d n": (Mouth(opening=0.22, width=0.55, teeth=0.7, tongue=0.5), 0.5),
    "l": (Mouth(opening=0.34, teeth=0.4, tongue=0.9), 0.7),
    "s z": (Mouth(opening=0.14, width=0.68, teeth=1.0), 0.8),
    "sh": (Mouth(opening=0.2, width=0.2, rounding=0.6, teeth=1.0), 0.9),
    "k g h": (Mouth(opening=0.26, teeth=0.3), 0.3),
    "r": (Mouth(opening=0.24, width=0.3, rounding=0.45, teeth=0.4), 0.7),
    "w u": (Mouth(opening=0.2, width=0.0, rounding=1.0), 1.0),
    "i": (Mouth(opening=0.27, width=0.9, teeth=0.8), 1.0),
    "ɪ": (Mouth(opening=0.34, width=0.65, teeth=0.6), 0.9),
    "e": (Mouth(opening=0.5, width=0.68, teeth=0.6, tongue=0.2), 1.0),
    "a": (Mouth(opening=0.9, width=0.5, teeth=0.5), 1.0),
    "æ": (Mouth(opening=0.75, width=0.75, teeth=0.6, tongue=0.1), 1.0),
    "ə": (Mouth(opening=0.4, width=0.5, teeth=0.4), 0.8),
    "o": (Mouth(opening=0.6, width=0.2, rounding=0.7, teeth=0.1), 1.0),
    "y": (Mouth(opening=0.18, width=0.1, rounding=0.9), 1.0),
}
CONTACTS = ("p b m", "f v")
VOWELS = ("i", "ɪ", "e", "a", "æ", "ə", "o", "w u", "y")

_SIGNS = {  # every sign that the English and the Mandarin voice write for a sound
    "p b m": "pbm",
    "f v": "fv",
    "th": "θð",
    "t d n": "tdnTɾ",
    "l": "lɫ",
    "s z": "sz",
    "sh": "ʃʒʧʤɕʂʐ",
    "k g h": "kɡgŋhxχʔ",
    "r": "ɹrɻɚɝɜ",
    "w u": "wuʊ",
    "i": "ij",
    "ɪ": "ɪᵻɨ",
    "e": "eɛ",
    "a": "aɑ",
    "æ": "æ",
    "ə": "əᵊɐʌɤ",
    "o": "oɔɒ",
    "y": "yɥ",
}
_VISEME_OF = {sign: viseme for viseme, signs in _SIGNS.items() for sign in signs}
_DIPHTHONGS = {"A": "eɪ", "I": "aɪ", "O": "oʊ", "W": "aʊ", "Y": "ɔɪ", "Q": "əʊ"}  # one sign each in the English voice


def visemes(phoneme: str) -> list[str]:
    """The visemes of a phoneme in order; a diphthong has two. Marks of stress, length and tone have none."""
    signs = "".join(_DIPHTHONGS.get(sign, sign) for sign in unicodedata.normalize("NFD", phoneme))
    return [_VISEME_OF[sign] for sign in signs if sign in _VISEME_OF]


def viseme_spans(phonemes: Sequence[Span]) -> list[Span]:
    """One span a viseme, in order; phonemes of several share their time equally. `text` is a key of `VISEMES`."""
    spans = []
    for phoneme in phonemes:
        names = visemes(phoneme.text)
        edges = np.linspace(phoneme.start, phoneme.end, len(names) + 1).tolist()
        spans += [Span(text=name, start=a, end=b) for name, (a, b) in zip(names, pairwise(edges), strict=True)]
    return spans


class MouthTrack:
    """The mouth at any time: `track(seconds) -> Mouth`.

    A shape is the mean of the targets T_i, weighted by their dominances D_i(t) = α_i exp(−DECAY · d_i(t)), where d_i is
    how far t lies outside of phoneme i. Before, after and between the sounds, if there is time, the mouth rests.

    Args:
        phonemes: in order of time, as `speak` gives them.
    """

    def __init__(self, phonemes: Sequence[Span]) -> None:
        spans = viseme_spans(phonemes)
        starts = [span.start for span in spans] + [_NEVER]
        ends = [-_NEVER] + [span.end for span in spans]
        rests = [  # the mouth closes soon after a sound, and opens a little before the next
            Span(text="rest", start=end + 0.05, end=start - 0.08)
            for end, start in zip(ends, starts, strict=True)
            if start - end > _PAUSE
        ]
        spans = sorted(spans + rests, key=lambda span: span.start)
        self._starts = [span.start for span in spans]
        self._ends = np.array([span.end for span in spans])
        shapes = [VISEMES[span.text] for span in spans]
        self._targets = np.array([[getattr(mouth, field) for field in _FIELDS] for mouth, _ in shapes])  # (N, 6)
        self._weights = np.array([weight for _, weight in shapes])
        self._contact = np.array([span.text in CONTACTS for span in spans])

    def __call__(self, time: float) -> Mouth:
        place = bisect_right(self._starts, time)
        near = slice(max(0, place - 8), place + 8)
        starts, ends, targets = np.array(self._starts[near]), self._ends[near], self._targets[near]
        outside = np.maximum(np.maximum(starts - time, time - ends), 0.0)
        dominance = self._weights[near] * np.exp(-DECAY * outside)
        shape = dominance @ targets / dominance.sum()
        half = np.maximum(ends - starts, _CONTACT) / 2
        away = np.clip((np.abs(time - (starts + ends) / 2) - half) / _RELEASE, 0.0, 1.0)
        held = np.where(self._contact[near], np.cos(np.pi / 2 * away) ** 2, 0.0)
        for i in np.argsort(held):  # the one that is fully made has the last word
            shape[:_HELD] += held[i] * (targets[i, :_HELD] - shape[:_HELD])
        return Mouth(**dict(zip(_FIELDS, shape.tolist(), strict=True)))
