"""Lip sync measured on a finished film: how much later the mouth moves than the sound, from nothing but its pixels.

The film is decoded again, so whatever coding, container and player's time stamps add is in the number. The mouth's
opening is the area of colours that only the inside of a mouth has, and knows nothing of the track that was drawn.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import torch
from scipy.signal import resample_poly
from torch import Tensor

from aigc_lib.applications.drawn_face import INSIDE, LIP, SEAM, SHINE, TEETH, TONGUE, Look
from aigc_lib.applications.visemes import CONTACTS, VOWELS, viseme_spans
from aigc_lib.datasets.timed_speech import Span

SEARCH = 0.3  # seconds of delay that are looked for, to both sides
_ALIGNER_RATE = 16_000  # hertz
_HEARD = {  # the aligner's names of sounds that open and shut mouths
    **dict.fromkeys(("P", "B", "M"), "p"),
    **{"AA": "a", "AE": "æ", "AH": "ə", "AO": "o", "AW": "W", "AY": "I", "EH": "e", "ER": "ɝ", "EY": "A"},
    **{"IH": "ɪ", "IY": "i", "OW": "O", "OY": "Y", "UH": "u", "UW": "u"},
}
_MIDDLE, _RADII = (0.61, 0.5), (0.09, 0.125)  # of an ellipse that holds the mouth of a square picture: (rows, columns)


def mouth_opening(frames: Tensor, look: Look) -> Tensor:
    """Share of the picture that shows the inside of the mouth, (F,), from square frames (F, 3, H, W) in [-1, 1].

    A pixel counts if its colour is nearest to that of the inside, the teeth or the tongue, among all that are there.
    """
    n_rows, n_columns = frames.shape[2:]
    if n_rows != n_columns:
        raise ValueError(f"expected square frames, got {n_rows} by {n_columns} pixels")
    place = (torch.arange(n_rows) + 0.5) / n_rows
    down, right = ((place - middle) / radius for middle, radius in zip(_MIDDLE, _RADII, strict=True))
    part = frames[..., down[:, None] ** 2 + right**2 < 1]  # (F, 3, pixels)
    inside = [INSIDE, TEETH, TONGUE]
    colours = torch.tensor([_rgb(colour) for colour in [*inside, LIP, SHINE, SEAM, *look.skin]])
    nearest = torch.cdist(part.mT, colours).argmin(dim=-1)  # (F, pixels)
    return (nearest < len(inside)).float().sum(dim=1) / (n_rows * n_columns)


def _rgb(colour: str) -> list[float]:
    return [int(colour[i : i + 2], 16) / 127.5 - 1 for i in (1, 3, 5)]


def film_sound(path: Path | str) -> tuple[Tensor, int]:
    """The sound of a film, (T,) from its time 0 on, as players present it, and its sample rate.

    Raises:
        ValueError: no sound.
    """
    with av.open(str(path)) as container:
        if not container.streams.audio:
            raise ValueError(f"{path} has no sound")
        stream = container.streams.audio[0]
        frames = [(frame.time, frame.to_ndarray().mean(axis=0)) for frame in container.decode(stream)]
        rate = stream.rate
    sound = np.zeros(round(frames[-1][0] * rate) + len(frames[-1][1]), np.float32)
    for time, samples in frames:
        at = round(time * rate)
        sound[max(at, 0) : at + len(samples)] = samples[max(-at, 0) :]
    return torch.from_numpy(sound), rate


def sound_delay(sound: Tensor, original: Tensor, sample_rate: int) -> float:
    """By how many seconds `sound` comes later than `original`, from their cross-correlation, within `SEARCH`."""
    n = 2 ** int(np.ceil(np.log2(len(sound) + len(original))))
    spectra = np.fft.rfft(sound.numpy(), n) * np.conj(np.fft.rfft(original.numpy(), n))
    reach = round(SEARCH * sample_rate)
    correlation = np.roll(np.fft.irfft(spectra, n), reach)[: 2 * reach + 1]
    return float(correlation.argmax() - reach) / sample_rate


def heard_phonemes(sound: Tensor, sample_rate: int, text: str) -> list[Span]:
    """When the vowels and p, b, m of an English text are heard in a recording (T,): forced alignment by pocketsphinx.

    It knows nothing of how the sound was made. Its steps are 10 ms, and its edges of phonemes are its opinion.

    Raises:
        ValueError: a word is not in its dictionary, or the text is not what is said.
    """
    from pocketsphinx import Decoder

    divisor = math.gcd(sample_rate, _ALIGNER_RATE)
    wave = resample_poly(sound.numpy(), _ALIGNER_RATE // divisor, sample_rate // divisor)
    recording = (np.clip(wave, -1, 1) * 32767).astype(np.int16).tobytes()
    decoder = Decoder(lm=None, samprate=_ALIGNER_RATE, loglevel="FATAL")
    try:
        decoder.set_align_text(" ".join(re.findall(r"[a-z']+", text.lower())))
        for step in (lambda: None, decoder.set_alignment):  # first the words, then the phonemes within them
            step()
            decoder.start_utt()
            decoder.process_raw(recording, full_utt=True)
            decoder.end_utt()
        heard = [
            (p.name, p.start / 100, (p.start + p.duration) / 100) for word in decoder.get_alignment() for p in word
        ]
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{text[:60]!r} cannot be found in the sound: {error}") from error
    return [Span(text=_HEARD[name], start=start, end=end) for name, start, end in heard if name in _HEARD]


def picture_delay(opening: Tensor, frame_rate: float, phonemes: Sequence[Span]) -> float:
    """By how many seconds the mouth opens later in the picture than vowels sound, and closes later than lips touch.

    It is the delay at which the mean opening in the middle of vowels is farthest above that in the middle of p, b and
    m, in steps of a millisecond within `SEARCH`. A frame stands for the middle of the time for which it is shown.

    Raises:
        ValueError: no vowel, or no p, b or m.
    """
    spans = viseme_spans(phonemes)
    open_at = [(s.start + s.end) / 2 for s in spans if s.text in VOWELS]
    shut_at = [(s.start + s.end) / 2 for s in spans if s.text == CONTACTS[0]]
    if not open_at or not shut_at:
        raise ValueError("the delay is measured between vowels and p, b or m: say something that has both")
    delays = np.arange(-1000 * SEARCH, 1000 * SEARCH + 1) / 1000
    contrast = sum(_sampled(opening, frame_rate, time + delays) for time in open_at) / len(open_at)
    contrast = contrast - sum(_sampled(opening, frame_rate, time + delays) for time in shut_at) / len(shut_at)
    return float(delays[contrast.argmax()])


def closure_delays(opening: Tensor, frame_rate: float, phonemes: Sequence[Span]) -> list[float]:
    """For each p, b and m by how many seconds the middle of the shut mouth comes later than that of the phoneme.

    Two of them in a row ("Bob may") are one closure. Shut is below a tenth of the film's widest opening; the run of
    shut frames nearest to the phoneme, within 0.1 s, counts, and NaN stands for none. Pauses, in which the mouth is
    shut for longer, tell nothing and are left out.
    """
    closures: list[tuple[float, float]] = []
    for span in viseme_spans(phonemes):
        if span.text == CONTACTS[0]:
            joined = closures and span.start - closures[-1][1] < 0.08
            start = closures.pop()[0] if joined else span.start
            closures.append((start, span.end))
    shut = np.pad((opening < 0.1 * opening.max()).numpy().astype(int), 1)
    edges = np.flatnonzero(np.diff(shut)).reshape(-1, 2) / frame_rate  # start and end of each run
    edges = edges[edges[:, 1] - edges[:, 0] < 0.2]
    delays = []
    for start, end in closures:
        late = edges.mean(axis=1) - (start + end) / 2
        nearest = late[np.abs(late).argmin()] if len(late) else np.inf
        delays.append(float(nearest) if abs(nearest) < 0.1 else np.nan)
    return delays


def opening_delays(opening: Tensor, frame_rate: float, phonemes: Sequence[Span]) -> list[float]:
    """For each wide vowel (a, æ) by how many seconds the mouth is widest later than the middle of the vowel.

    The peak nearest to the vowel counts, placed between frames by a parabola through three of them; NaN stands for
    none within 0.1 s.
    """
    before, here, after = opening[:-2].numpy(), opening[1:-1].numpy(), opening[2:].numpy()
    peaks = np.flatnonzero((here >= before) & (here > after))
    left, top, right = before[peaks], here[peaks], after[peaks]
    times = (peaks + 1.5 + (left - right) / 2 / (left - 2 * top + right)) / frame_rate
    delays = []
    for span in viseme_spans(phonemes):
        if span.text in ("a", "æ"):
            late = times - (span.start + span.end) / 2
            nearest = late[np.abs(late).argmin()] if len(late) else np.inf
            delays.append(float(nearest) if abs(nearest) < 0.1 else np.nan)
    return delays


def loudness_lag(opening: Tensor, frame_rate: float, sound: Tensor, sample_rate: int) -> tuple[float, float]:
    """Where opening and loudness correlate best, and how well: (seconds that the opening comes later, correlation).

    Loudness is the root of the energy in windows of one frame. Mouths and loudness are only roughly alike (m is loud
    with lips shut), so the place of the best correlation is a coarse measure.
    """
    window = round(sample_rate / frame_rate)
    hop = sample_rate // 1000
    loud = sound.unfold(0, window, hop).square().mean(dim=1).sqrt().numpy()
    times = (np.arange(len(loud)) * hop + window / 2) / sample_rate
    delays = np.arange(-1000 * SEARCH, 1000 * SEARCH + 1) / 1000
    scores = [np.corrcoef(loud, _sampled(opening, frame_rate, times + delay))[0, 1] for delay in delays]
    best = int(np.argmax(scores))
    return float(delays[best]), float(scores[best])


def _sampled(opening: Tensor, frame_rate: float, times: np.ndarray) -> np.ndarray:
    return np.interp(times, (np.arange(len(opening)) + 0.5) / frame_rate, opening.numpy())
