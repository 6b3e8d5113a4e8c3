"""A virtual presenter: a text becomes speech, and the speech moves a drawn face, in an mp4 file with subtitles.

Nobody is imitated: the voice is one of a package, and the face is a drawing whose colours the seed chooses. The film
says in its corner, from the first to the last frame, that it was generated.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from aigc_lib.applications.drawn_face import Look, Pose, check_size, draw, random_look
from aigc_lib.applications.subtitles import RULES, break_lines, burn_in
from aigc_lib.applications.visemes import VOWELS, MouthTrack, visemes
from aigc_lib.datasets import mandarin, timed_speech
from aigc_lib.datasets.timed_speech import Span, TimedSpeech
from aigc_lib.datasets.video_files import write_video
from aigc_lib.trust.exports import exported
from aigc_lib.trust.labels import labelled

FRAME_RATE = 25
LABELS = {"en": "AI-generated", "zh": "AI 生成"}
VOICES: dict[str, Callable[[str, int], TimedSpeech]] = {
    "en": lambda text, seed: timed_speech.speak(text, seed=seed),
    "zh": lambda text, seed: mandarin.speak(text),
}
PACKAGES = {"en": "hibari-tts", "zh": "espeakng-loader"}  # of the voices
EXPRESSIONS = {  # smile, brows
    "neutral": (0.1, 0.0),
    "happy": (0.75, 0.25),
    "serious": (-0.2, -0.6),
}
# 26 blinks a minute in conversation: A. R. Bentivoglio et al., "Analysis of blink rate patterns in normal subjects",
# Movement Disorders 12 (1997). That the times between them are log-normal, and how wide, is a choice of this course.
BLINK_INTERVAL = 60 / 26  # seconds, the mean
BLINK_SPREAD = 0.5  # standard deviation of the interval's logarithm
_CLOSING, _SHUT, _OPENING = 0.08, 0.04, 0.12  # seconds; lids close faster than they open
_NOD, _NOD_DISTANCE = 0.3, 0.7  # seconds: how long a nod takes, and the least from one to the next
_QUIET = 0.3  # seconds after the last sound, in which the mouth shuts


def presenter(
    text: str,
    out: Path | str,
    *,
    language: str = "en",
    expression: str = "neutral",
    size: tuple[int, int] = (320, 320),
    seed: int = 0,
    subtitles: bool = True,
    progress: bool = True,
) -> Path:
    """Write a film in which a drawn presenter says a text.

    Frames are drawn and written one by one, so only the sound (90 kB a second) grows with the text. `out` appears when
    it is complete; stopped before, it is what it was.

    Args:
        text: of any length, in the language.
        out: a path ending in .mp4: 25 frames a second, h264 with AAC sound.
        language: "en", or "zh" if the package of its voice is installed.
        expression: "neutral", "happy" or "serious".
        size: height and width in pixels, 64 to 1080 each, odd or even.
        seed: of the looks, the blinks, the head's motion, and the breath in the English voice.
        subtitles: put captions into the picture. No file of captions is put beside it: players load such files
            unasked, and would show every caption twice. `subtitles.write_subtitles` makes one.
        progress: show a progress bar.

    Returns:
        `out`, as a path.

    Raises:
        ValueError: nothing in the text can be said, or another language, expression, size or ending.
        MissingDataPackage: of the voice, the fonts, or resvg-py.
    """
    if language not in VOICES:
        raise ValueError(f"unknown language {language!r}; there are: {', '.join(VOICES)}")
    if expression not in EXPRESSIONS:
        raise ValueError(f"unknown expression {expression!r}; there are: {', '.join(EXPRESSIONS)}")
    if Path(out).suffix.lower() != ".mp4":
        raise ValueError(f"videos go into a file that ends in .mp4, got {Path(out).name!r}")
    check_size(size)
    said = VOICES[language](text, seed)
    captions = break_lines(said.words, rules=RULES[language]) if subtitles else []
    seconds = max(len(said.audio) / said.sample_rate, said.phonemes[-1].end + _QUIET)
    n_frames = math.ceil(seconds * FRAME_RATE)
    sound = F.pad(said.audio, (0, round(n_frames / FRAME_RATE * said.sample_rate) - len(said.audio)))
    generator = torch.Generator().manual_seed(seed)
    look = random_look(generator)

    def frames() -> Iterator[Tensor]:
        for i, pose in enumerate(poses(said, n_frames, expression=expression, generator=generator)):
            frame = labelled(draw(look, pose, size)[None], LABELS[language])
            yield burn_in(frame, captions, FRAME_RATE, first_frame=i)

    bar = tqdm(frames(), total=n_frames, desc="presenter", unit="frame", disable=not progress)
    voice = PACKAGES[language]
    made = {"text": text, "expression": expression, "seed": seed}
    with exported(out, packages={voice: version(voice)}, parameters=made) as film:
        write_video(film, bar, FRAME_RATE, sound=sound, sample_rate=said.sample_rate)
    return Path(out)


def look_of(seed: int) -> Look:
    """How the presenter of this seed looks."""
    return random_look(torch.Generator().manual_seed(seed))


def poses(
    said: TimedSpeech, n_frames: int, *, expression: str = "neutral", generator: torch.Generator
) -> Iterator[Pose]:
    """The face in each frame, at the middle of the time for which it is shown.

    Args:
        said: gives the mouth, and the stresses on which the head nods and the brows rise (viewers take stress from the
            upper face: M. Swerts, E. Krahmer, "Facial expression and prosodic prominence", 2008).
        expression: a key of `EXPRESSIONS`.
        generator: of blinks and of the head's slow motion.
    """
    smile, brows = EXPRESSIONS[expression]
    mouth = MouthTrack(said.phonemes)
    blinks = np.array(blink_times(n_frames / FRAME_RATE, generator))
    nods = np.array(stresses(said.phonemes))
    sway = [_noise(generator) for _ in range(4)]
    for i in range(n_frames):
        time = (i + 0.5) / FRAME_RATE
        shape = mouth(time)
        nod = float(np.cos(np.pi * np.clip((time - nods) / _NOD, -0.5, 0.5)).max(initial=0.0)) ** 2
        right, down, tilt, turn = (noise(time) for noise in sway)
        yield Pose(
            mouth=shape,
            blink=float(np.max(_lids(time - blinks), initial=0.0)),
            brows=brows + 0.6 * nod,
            smile=smile * (1 - 0.6 * shape.rounding),
            shift=(3.0 * right, 2.0 * down + 4.0 * nod),
            tilt=1.2 * tilt,
            turn=0.4 * turn,
        )


def blink_times(duration: float, generator: torch.Generator) -> list[float]:
    """When blinks begin, in seconds: the intervals are log-normal with mean `BLINK_INTERVAL`."""
    times: list[float] = []
    now = BLINK_INTERVAL * float(torch.rand((), generator=generator))
    while now < duration:
        times.append(now)
        normal = float(torch.randn((), generator=generator))
        now += BLINK_INTERVAL * math.exp(BLINK_SPREAD * normal - BLINK_SPREAD**2 / 2)
    return times


def stresses(phonemes: Sequence[Span]) -> list[float]:
    """Middles of the vowels on which a speaker would nod: with main stress, longer than the median of these, apart."""
    stressed = [p for p in phonemes if "ˈ" in p.text and set(visemes(p.text)) & set(VOWELS)]
    usual = np.median([p.end - p.start for p in stressed]) if stressed else 0.0
    times: list[float] = []
    for phoneme in stressed:
        middle = (phoneme.start + phoneme.end) / 2
        if phoneme.end - phoneme.start >= usual and (not times or middle - times[-1] >= _NOD_DISTANCE):
            times.append(middle)
    return times


def _lids(since: np.ndarray) -> np.ndarray:
    """How far the lids are closed so many seconds after a blink began."""
    return np.interp(since, np.cumsum([0.0, _CLOSING, _SHUT, _OPENING]), [0.0, 1.0, 1.0, 0.0])


def _noise(generator: torch.Generator) -> Callable[[float], float]:
    """A smooth function of time, mostly within ±1.5: eight sines of 0.1 to 0.6 Hz with random phases."""
    draws = torch.rand(2, 8, generator=generator, dtype=torch.float64).numpy()
    frequencies, phases = 2 * np.pi * (0.1 + 0.5 * draws[0]), 2 * np.pi * draws[1]
    return lambda time: float(np.sin(frequencies * time + phases).sum()) / 2
