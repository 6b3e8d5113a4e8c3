"""Music for whoever asks: a tune goes on, a melody gets three voices below it, a rhythm is invented.

What is written can be read (MusicXML, MIDI, a piano roll) and heard (WAV). Two small Transformers do it:
"transformer-tunes" and "transformer-chorales", see `datasets.scores` for how they see music.
"""

import functools
import io
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import soundfile
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from tqdm.auto import tqdm

from aigc_lib import datasets
from aigc_lib.datasets import abc_notation, scores
from aigc_lib.datasets.base import MusicItem, stable_hash
from aigc_lib.datasets.music import VOICES, first_bars, first_voice
from aigc_lib.datasets.notes import play
from aigc_lib.models.sampling import fill_in
from aigc_lib.models.transformer import LanguageModel
from aigc_lib.training.checkpoints import load
from aigc_lib.training.devices import resolve_device
from aigc_lib.training.recipes.transformer_music import harmonise, readable
from aigc_lib.trust.exports import exported

SUFFIXES = (".musicxml", ".mid", ".wav", ".png")
INSTRUMENTS = {"continue": "violin", "harmonise": "organ", "rhythm": "marimba"}
MAX_BARS = 64
# Okabe and Ito's colours, soprano to bass; they differ for colour-blind eyes too.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")


def music(
    task: str,
    out: Path | str,
    *,
    melody: MusicItem | Path | str | None = None,
    metre: str | None = None,
    bars: int = 8,
    temperature: float = 0.9,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> list[Path]:
    """Write a piece of music.

    Args:
        task: "continue" adds bars to a melody; "harmonise" sets alto, tenor and bass under it; "rhythm" needs none.
        out: where to write. With one of the suffixes .musicxml, .mid, .wav and .png (a piano roll) that file alone;
            without a suffix all four.
        melody: a tune, or a file that holds one (.abc, .mid, .musicxml and what else music21 reads); None takes one
            that the models never saw: the opening of an Irish tune, or the soprano of a chorale.
        metre: of a rhythm, one of `scores.METRES` (6/8).
        bars: how many are added or invented, 1 to 64; a harmony is as long as its melody.
        temperature: above 0; 1 is the model's own distribution, lower plays it safe.
        seed: of the draws, and of the choice where no melody is given.
        device: see `training.devices`.
        progress: show a progress bar.

    Returns:
        The files.

    Raises:
        ValueError: an unknown task, metre or suffix, numbers out of range, a melody that is empty, has several voices,
            or is out of the range of its voice; a rhythm with a melody; a model that writes no bars (it is not trained,
            or the temperature is too high).
        FileNotFoundError: no such file of a melody.
    """
    if task not in INSTRUMENTS:
        raise ValueError(f"unknown task {task!r}; there are: {', '.join(INSTRUMENTS)}")
    if not 1 <= bars <= MAX_BARS:
        raise ValueError(f"expected 1 to {MAX_BARS} bars, got {bars}")
    if task == "rhythm" and melody is not None:
        raise ValueError("a rhythm needs no melody; leave it out, or ask to continue it")
    if task != "rhythm" and metre is not None:
        raise ValueError("the metre is the melody's own; ask for one with the task rhythm alone")
    files = _files(Path(out))
    if isinstance(melody, Path | str):
        melody = read_melody(melody)
    place, generator = resolve_device(device), torch.Generator().manual_seed(seed)
    watch = functools.partial(tqdm, desc=task, unit="token", disable=not progress)
    if task == "harmonise":
        melody = melody if melody is not None else first_voice(_held_out("bach", seed))
        model = load("transformer-chorales").to(place)
        piece = harmonised(model, melody, temperature=temperature, generator=generator, watch=watch)
    else:
        model = load("transformer-tunes").to(place)
        how = {"bars": bars, "temperature": temperature, "generator": generator, "watch": watch}
        if task == "continue":
            melody = melody if melody is not None else first_bars(_held_out("oneill", seed), 4)
            piece = continued(model, melody, **how)
        else:
            piece = rhythm(model, metre or "6/8", **how)
    network = "transformer-chorales" if task == "harmonise" else "transformer-tunes"
    given = melody.title if melody else ""
    made = {"task": task, "melody": given, "bars": bars, "temperature": temperature, "seed": seed}
    _write(piece, files, INSTRUMENTS[task], [network], made)
    return files


def harmonised(
    model: LanguageModel, melody: MusicItem, *, temperature: float, generator: torch.Generator, watch=iter
) -> MusicItem:
    """The melody as soprano, with alto, tenor and bass on the grid of eighths.

    Raises:
        ValueError: the melody is empty, or leaves the soprano's range.
    """
    _check(melody, *scores.RANGES[0])
    (notes,) = harmonise(model, [melody], temperature=temperature, generator=generator, watch=watch)
    return replace(melody, notes=notes)


def continued(model: LanguageModel, melody: MusicItem, **how) -> MusicItem:
    """The melody and more bars; for `bars`, `temperature`, `full_bars`, `generator` and `watch` see `rhythm`.

    Raises:
        ValueError: the melody is empty, or has a pitch, duration or metre without a token (`scores.tune_tokens`).
    """
    shift = scores.to_c(melody.key_signature)
    _check(melody, scores.PITCHES[0] - shift, scores.PITCHES[-1] - shift)
    tokens = [*scores.tune_tokens(melody)[:-1], scores.LINE]
    made = _extended(model, tokens, melody.metre, **how)
    notes, lines = scores.tune_notes(made, melody.key_signature)
    return replace(melody, notes=notes, bars=lines)


def rhythm(model: LanguageModel, metre: str, **how) -> MusicItem:
    """Bars of durations; all pitches are 60.

    Args:
        model: "transformer-tunes".
        metre: one of `scores.METRES`.
        bars: how many.
        temperature: of the draws.
        full_bars: keep each bar as long as the metre says (True); otherwise bar lines stand where the model puts them.
        generator: of the draws.
        watch: as in `fill_in`.

    Raises:
        ValueError: an unknown metre, or a model that does not fill the bars.
    """
    start = [*scores.opening(metre, rhythm=True), scores.LINE]
    notes, lines = scores.tune_notes(_extended(model, start, metre, **how))
    return MusicItem(notes=notes, bars=lines, title=f"Rhythm in {metre}", metre=metre, key_signature=0, key="made")


def _extended(
    model: LanguageModel,
    tokens: list[int],
    metre: str,
    *,
    bars: int,
    temperature: float,
    full_bars: bool = True,
    generator: torch.Generator,
    watch=iter,
) -> list[int]:
    """Tokens, which end with a bar line, and more of them until `bars` further bars are there."""
    place, n_given = next(model.parameters()).device, len(tokens)
    after = scores.following_tokens()
    after[:, scores.FIRST_PITCH :] &= tokens[0] == 0  # a tune has pitches, a rhythm hits
    after[:, scores.HIT] &= tokens[0] == 1

    def allowed(before: Tensor) -> Tensor:
        so_far = before[0].tolist()
        mask = after[so_far[-1]]
        return (mask & scores.bar_filling_tokens(so_far, metre) if full_bars else mask)[None]

    while (end := _place_of_line(tokens[n_given:], bars)) is None:
        if len(tokens) - n_given > 64 * bars + 96:
            raise ValueError(f"the model did not fill {bars} bars; lower the temperature or take another seed")
        known = tokens[-model.config.context_length // 2 :]
        row = torch.tensor([known + [0] * 96], device=place)
        free = torch.arange(row.shape[1]) >= len(known)
        how = {"temperature": temperature, "generator": generator, "watch": watch}
        made = fill_in(model, row, free, allowed=allowed, **how)
        tokens = tokens + made[0, len(known) :].tolist()
    return tokens[: n_given + end + 1]


def _place_of_line(tokens: list[int], n: int) -> int | None:
    """Where the n-th bar line stands that does not follow another one at once."""
    lines = [i for i, token in enumerate(tokens) if token == scores.LINE and i and tokens[i - 1] != scores.LINE]
    return lines[n - 1] if len(lines) >= n else None


def read_melody(path: Path | str) -> MusicItem:
    """The highest part of a file of music; of notes that begin together the highest.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it holds no notes, or cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file with a melody at {path}")
    if path.suffix.lower() == ".abc":
        tunes = abc_notation.read_tunes(path.read_text(encoding="utf-8", errors="replace"))
        tune = next(iter(tunes), None)
        rows = [(float(onset), float(length), pitch, 0) for onset, length, pitch, _ in tune.notes] if tune else []
        about = (tune.metre, tune.key_signature, tune.bars, tune.title) if tune else None
    else:
        rows, about = _by_music21(path)
    if not rows:
        raise ValueError(f"{path} holds no notes; expected a melody as ABC, MIDI or MusicXML")
    highest = {onset: row for row in sorted(rows, key=lambda row: row[2]) for onset in [round(row[0], 4)]}
    metre, key_signature, bars, title = about
    return MusicItem(
        notes=torch.tensor([highest[onset] for onset in sorted(highest)]),
        bars=torch.tensor([float(bar) for bar in bars]),
        title=title or path.stem,
        metre=metre,
        key_signature=key_signature,
        key=path.name,
    )


def _by_music21(path: Path):
    import music21

    try:
        score = music21.converter.parse(path)
    except Exception as error:  # it raises whatever its readers happened to run into
        raise ValueError(f"{path} is no music that can be read: {error or type(error).__name__}") from error
    part = score.parts[0] if score.parts else score
    rows = [
        (float(note.getOffsetInHierarchy(part)), float(note.quarterLength), max(p.midi for p in note.pitches), 0)
        for note in part.stripTies().recurse().notes
        if note.pitches and note.quarterLength
    ]
    metre = next((each.ratioString for each in part.recurse().getElementsByClass("TimeSignature")), "4/4")
    sharps = next((each.sharps for each in part.recurse().getElementsByClass("KeySignature")), 0)
    bars = [float(bar.offset) for bar in part.getElementsByClass("Measure") if bar.paddingLeft == 0]
    return rows, (metre, sharps, bars, score.metadata.title if score.metadata else None)


def to_score(piece: MusicItem):
    """A music21 score: one part a voice, with metre and key; an upbeat has rests before it."""
    import music21

    score = music21.stream.Score()
    score.metadata = music21.metadata.Metadata(title=piece.title or "Untitled", composer="made by a model")
    metre = "4/4" if piece.metre == "none" else piece.metre
    upbeat = float(piece.bars[0]) if len(piece.bars) else 0.0
    rest = -upbeat % (4 * float(Fraction(metre)))
    voices = piece.notes[:, 3].unique().int().tolist()
    for voice in voices:
        part = music21.stream.Part(id=VOICES[voice] if len(voices) > 1 else "Melody")
        part.partName = part.id
        part.append([music21.key.KeySignature(piece.key_signature), music21.meter.TimeSignature(metre)])
        for onset, length, pitch, _ in piece.notes[piece.notes[:, 3] == voice].tolist():
            # Thirds and sixths of a quarter are no floats; music21 knows them as fractions.
            onset, length = (Fraction(number).limit_denominator(48) for number in (onset + rest, length))
            part.insert(onset, music21.note.Note(int(pitch), quarterLength=length))
        score.insert(0, part.makeNotation())
    return score


def piano_roll(piece: MusicItem, ax: Axes, *, given: int = 0) -> Axes:
    """Draw the notes as bars over time, one colour a voice, bar lines behind; the first `given` notes are pale."""
    for i, (onset, length, pitch, voice) in enumerate(piece.notes.tolist()):
        ax.barh(
            pitch, length * 0.95, left=onset, height=0.85, color=_COLOURS[int(voice)], alpha=0.4 if i < given else 1.0
        )
    for bar in piece.bars.tolist():
        ax.axvline(bar, color="0.6", linewidth=0.5, zorder=0)
    ax.set(xlabel="time (quarter notes)", ylabel="MIDI pitch")
    return ax


def _write(
    piece: MusicItem, files: list[Path], instrument: str, networks: list[str], parameters: dict[str, object]
) -> None:
    """Each file whole or not at all; all are made before the first is written."""
    made = {file: _CONTENT[file.suffix.lower()](piece, instrument) for file in files}
    for file, content in made.items():
        with exported(file, networks=networks, parameters=parameters) as new:
            new.write_bytes(content)


def _as_notation(kind: str, piece: MusicItem, instrument: str) -> bytes:
    import music21

    score = to_score(piece)
    if kind == "midi":
        return music21.midi.translate.streamToMidiFile(score).writestr()
    return music21.musicxml.m21ToXml.GeneralObjectExporter(score).parse()


def _as_sound(piece: MusicItem, instrument: str) -> bytes:
    file, slow = io.BytesIO(), 0.7 if len(piece.notes[:, 3].unique()) > 1 else 0.45
    soundfile.write(file, play(piece.notes, instrument, 24_000, quarter=slow).numpy(), 24_000, format="WAV")
    return file.getvalue()


def _as_picture(piece: MusicItem, instrument: str) -> bytes:
    figure, file = Figure(figsize=(10, 3.5), layout="constrained"), io.BytesIO()
    piano_roll(piece, figure.subplots()).set_title(piece.title)
    figure.savefig(file, format="png", dpi=120)
    return file.getvalue()


_CONTENT = {
    ".musicxml": functools.partial(_as_notation, "musicxml"),
    ".mid": functools.partial(_as_notation, "midi"),
    ".wav": _as_sound,
    ".png": _as_picture,
}


def _files(out: Path) -> list[Path]:
    if not out.suffix:
        return [out.with_name(out.name + suffix) for suffix in SUFFIXES]
    if out.suffix.lower() not in SUFFIXES:
        raise ValueError(f"music goes into a file that ends in {', '.join(SUFFIXES)} or in nothing, got {out.name!r}")
    return [out]


def _held_out(name: str, seed: int) -> MusicItem:
    items = list(datasets.load(name, "test"))
    items = readable(items) if name == "oneill" else items
    return items[stable_hash("held out", seed) % len(items)]


def _check(melody: MusicItem, low: int, high: int) -> None:
    if not len(melody.notes):
        raise ValueError("expected a melody with at least one note, got none")
    found = melody.notes[:, 2].aminmax()
    if found.min < low or found.max > high:
        raise ValueError(
            f"expected pitches {low} to {high} (MIDI), got {found.min:.0f} to {found.max:.0f}; transpose the melody"
        )
    if (melody.notes[1:, 0] < melody.notes[:-1, 0] + melody.notes[:-1, 1] - 1e-3).any():
        raise ValueError("expected one voice, got notes that overlap; pass the melody alone")
