"""A reader for the part of ABC notation (2.1) that collections of single-voice tunes use.

Read: keys with modes and accidentals, metres, note lengths, broken rhythm, tuplets, ties, chords, bar lines, changes of
key, metre and unit length on the way. Skipped: slurs, grace notes, ornaments, text, repeats (each part stands once).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

NATURAL = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
SHARPS = "FCGDAEB"  # the order in which a key signature adds sharps; flats come in the reverse order
MODES = {"": 0, "maj": 0, "ion": 0, "mix": -1, "dor": -2, "m": -3, "min": -3, "aeo": -3, "phr": -4, "loc": -5, "lyd": 1}

TOKEN = re.compile(
    r"""
    "[^"]*" | ![^!|\n]*! | \{[^}]*\}                                   # text, ornaments, grace notes: skipped
  | \[(?P<field>[A-Za-z]):(?P<value>[^]]*)\]                           # a change on the way
  | (?P<chord>\[(?:[\^_=]*[A-Ga-g][,']*[\d/]*[-\s]*)+\])(?P<chord_length>[\d/]*)
  | \((?P<tuplet>[2-9])(?::(?P<into>\d?)(?::(?P<over>\d?))?)?
  | (?P<note>[\^_=]*[A-Ga-gz][,']*)(?P<length>[\d/]*)
  | (?P<bar>[|:]+[\d]?|\[\||\|\]|\[\d)
  | (?P<broken>[<>]+)
  | (?P<tie>-)
    """,
    re.VERBOSE,
)

Note = tuple[Fraction, Fraction, int, int]  # onset, duration in quarters, MIDI pitch, voice 0


@dataclass
class Tune:
    """One tune; `metre` like "6/8", `key_signature` in sharps (negative: flats)."""

    number: str
    title: str = ""
    metre: str = "4/4"
    key_signature: int = 0
    notes: list[Note] = field(default_factory=list)
    bars: list[Fraction] = field(default_factory=list)  # where bar lines stand, in quarters


def read_tunes(text: str) -> Iterator[Tune]:
    """The tunes of an ABC file, in order; those without a single note are left out."""
    for block in re.split(r"^(?=X:)", text, flags=re.MULTILINE):
        if block.startswith("X:"):
            tune = _read_tune(block)
            if tune.notes:
                yield tune


def key_signature(text: str) -> int:
    """Sharps of a key such as "G", "Bb", "F#m", "Ador", "E Dorian"; flats are negative.

    Raises:
        ValueError: it is not a key.
    """
    match = re.match(r"\s*([A-G])([#b]?)\s*([A-Za-z]*)", text)
    if match is None:
        raise ValueError(f"expected a key such as 'G' or 'Ador', got {text!r}")
    tonic, accidental, mode = match.groups()
    mode = mode.lower()
    shift = MODES.get(mode if mode == "m" else mode[:3])
    if shift is None:
        raise ValueError(f"unknown mode in the key {text!r}")
    return SHARPS.index(tonic) - 1 + 7 * (accidental == "#") - 7 * (accidental == "b") + shift


class _Reader:
    """State of reading one tune's music."""

    def __init__(self, tune: Tune):
        self.tune = tune
        self.unit: Fraction | None = None  # in quarters
        self.now = Fraction(0)
        self.alterations: dict[tuple[str, int], int] = {}  # (letter, octave) -> semitones, until the next bar line
        self.signature: dict[str, int] = {}
        self.stretch, self.left = Fraction(1), 0  # tuplet: factor, and how many notes it still covers
        self.broken = Fraction(1)  # factor on the next note
        self.tie = False
        self.last: list[int] = []  # positions of the notes that sounded last, for ties and broken rhythm

    def change(self, name: str, value: str) -> None:
        value = value.split("%")[0].strip()
        if name == "K" and value:
            sharps = key_signature(value)
            self.signature = dict.fromkeys(SHARPS[:sharps], 1) if sharps >= 0 else dict.fromkeys(SHARPS[sharps:], -1)
            if not self.tune.notes:
                self.tune.key_signature = sharps
        elif name == "L" and (match := re.match(r"(\d+)/(\d+)", value)):
            self.unit = 4 * Fraction(int(match[1]), int(match[2]))
        elif name == "M" and not self.tune.notes:
            value = {"C": "4/4", "C|": "2/2"}.get(value, value)
            self.tune.metre = value if re.fullmatch(r"\d+/\d+", value) else "none"

    def default_unit(self) -> Fraction:
        """A sixteenth in metres shorter than three quarters of a whole note, otherwise an eighth."""
        metre = self.tune.metre
        return Fraction(1, 4) if metre != "none" and Fraction(metre) < Fraction(3, 4) else Fraction(1, 2)

    def pitch(self, note: str) -> int:
        accidental, letter, marks = re.fullmatch(r"([\^_=]*)([A-Ga-g])([,']*)", note).groups()
        octave = 5 + letter.islower() + marks.count("'") - marks.count(",")
        place = (letter.upper(), octave)
        if accidental:
            self.alterations[place] = accidental.count("^") - accidental.count("_")
        return 12 * octave + NATURAL[place[0]] + self.alterations.get(place, self.signature.get(place[0], 0))

    def add(self, pitches: list[int], length: Fraction) -> None:
        """Sound these pitches together (none: a rest) and move on."""
        length *= (self.unit or self.default_unit()) * self.broken
        self.broken = Fraction(1)
        if self.left:
            length, self.left = length * self.stretch, self.left - 1
        continued = {self.tune.notes[i][2]: i for i in self.last} if self.tie else {}
        self.last = []
        for pitch in pitches:
            if pitch in continued:
                position = continued[pitch]
                onset, duration, _, voice = self.tune.notes[position]
                self.tune.notes[position] = (onset, duration + length, pitch, voice)
            else:
                position = len(self.tune.notes)
                self.tune.notes.append((self.now, length, pitch, 0))
            self.last.append(position)
        self.now += length
        self.tie = False
        self.length = length

    def break_rhythm(self, marks: str) -> None:
        """a>b: the first note takes half of the second's time; ">>" takes three quarters; "<" the other way round."""
        short = Fraction(1, 2 ** len(marks))
        before, self.broken = (2 - short, short) if marks[0] == ">" else (short, 2 - short)
        difference = self.length * (before - 1)
        for i in self.last:
            onset, duration, pitch, voice = self.tune.notes[i]
            self.tune.notes[i] = (onset, duration + difference, pitch, voice)
        self.now += difference

    def music(self, line: str) -> None:
        for token in TOKEN.finditer(line):
            if token["note"]:
                rest = "z" in token["note"]
                self.add([] if rest else [self.pitch(token["note"])], _length(token["length"]))
            elif token["chord"]:
                notes = re.findall(r"([\^_=]*[A-Ga-g][,']*)([\d/]*)", token["chord"])
                length = _length(notes[0][1]) * _length(token["chord_length"])
                self.add([self.pitch(note) for note, _ in notes], length)
                self.tie = "-" in token["chord"]
            elif token["tuplet"]:
                self._tuplet(int(token["tuplet"]), token["into"], token["over"])
            elif token["bar"]:
                self.alterations = {}
                if not token["bar"].startswith("["):
                    self.tune.bars.append(self.now)
            elif token["broken"] and self.tune.notes:
                self.break_rhythm(token["broken"])
            elif token["tie"]:
                self.tie = True
            elif token["field"]:
                self.change(token["field"], token["value"])

    def _tuplet(self, n: int, into: str | None, over: str | None) -> None:
        """(3abc: three notes in the time of two, and so on, as the standard lists them."""
        top, _, _ = self.tune.metre.partition("/")
        compound = top.isdigit() and int(top) % 3 == 0 and int(top) > 3
        usual = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}.get(n, 3 if compound else 2)
        self.stretch, self.left = Fraction(int(into) if into else usual, n), int(over) if over else n


def _length(text: str) -> Fraction:
    """ "3" -> 3, "/" -> 1/2, "3/2" -> 3/2, "//" -> 1/4, "" -> 1."""
    numerator, slash, denominator = text.partition("/")
    if not slash:
        return Fraction(int(numerator or 1))
    below = int(denominator) if denominator.isdigit() else 2 ** (1 + denominator.count("/"))
    return Fraction(int(numerator or 1), below)


def _read_tune(block: str) -> Tune:
    tune = Tune(number="")
    reader = _Reader(tune)
    in_header = True
    for line in block.splitlines():
        name, colon, value = line[:1], line[1:2], line[2:].strip()
        if colon == ":" and name.isalpha():
            if name == "X":
                tune.number = value
            elif name == "T" and not tune.title:
                tune.title = value.strip('" ')
            else:
                reader.change(name, value)
            in_header = in_header and name != "K"
        elif not in_header:
            reader.music(line.split("%")[0])
    return tune
