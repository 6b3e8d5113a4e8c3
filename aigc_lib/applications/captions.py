"""Captions for a recording or a film: what is said when, in lines, as a file, a track, or in the picture."""

import heapq
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from statistics import median

import av
import numpy as np
import torch
from av.stream import Disposition
from torch import Tensor
from tqdm.auto import tqdm

from aigc_lib.applications import recognition
from aigc_lib.applications.subtitles import CHINESE, ENGLISH, RULES, Caption, break_lines, burn_in, write_subtitles
from aigc_lib.datasets.timed_speech import Span
from aigc_lib.datasets.video_files import open_video, sound_blocks, write_video
from aigc_lib.training.checkpoints import load
from aigc_lib.trust.exports import exported
from aigc_lib.trust.provenance import ENHANCED

# What goes from one container into mp4 without coding anew, and is played there.
_PICTURES = {"h264", "hevc", "av1", "vp9", "mpeg4"}
_SOUNDS = {"aac", "mp3", "opus", "flac", "ac3", "eac3", "alac"}
_LOST = 1.0  # second between two ways to time the same word, in the median: one of them is wrong
_LANGUAGES = {"en": "eng", "zh": "zho"}  # as ISO 639-2 and mp4 call them


def captions(
    source: Path | str,
    out: Path | str,
    *,
    language: str = "en",
    recogniser: str | Callable[[Tensor], str] = "pocketsphinx",
    transcript: str | None = None,
    translate: bool = False,
    burn: bool = False,
    progress: bool = True,
) -> list[Caption]:
    """Caption what is said in a sound file or a film.

    The sound is in memory at 16 kHz (230 MB an hour), the frames of a film are not. `out` appears when it is complete;
    stopped before, it is what it was.

    Args:
        source: any sound file, or any film with sound; its first sound stream is heard.
        out: .srt or .vtt for a file of captions; .mp4 for the film with a track of captions that players can switch on
            (pictures and sound as they are, if mp4 can hold them). Browsers do not show such tracks: give them a .vtt.
        language: "en" or "zh"; for Chinese there is no recogniser here, so it needs a transcript.
        recogniser: "pocketsphinx", "whisper", or what makes English text of (T,) at 16 kHz in place of them.
        transcript: what is said; then only its times come from the sound. English is aligned to some hundredths of a
            second, or spread with a warning, if noise is too loud for that; Chinese is spread over the stretches of
            speech, to some tenths.
        translate: an English line below each Chinese one, by the course's small Transformer; see `bilingual`.
        burn: the captions go into the pictures of the .mp4 (which are coded anew), not into a track.
        progress: show progress bars.

    Returns:
        The captions that were written.

    Raises:
        FileNotFoundError, ValueError: the source cannot be read or has no sound, no speech was found in it, a language,
            recogniser or ending is unknown, or what is asked for does not go together; the message says which.
        ModuleNotFoundError: a package is not installed; the message says which.
    """
    source, out = Path(source), Path(out)
    _check(source, out, language, transcript, translate, burn)
    if isinstance(recogniser, str) and transcript is None:
        recogniser = recognition.recogniser(recogniser)
    sound = read_sound(source)
    words = timed_words(sound, recogniser, language=language, transcript=transcript, progress=progress)
    if not words:
        raise ValueError(f"no speech was found in {source}; nothing was written")
    made = bilingual(words) if translate else break_lines(words, rules=RULES[language])
    networks = ["transformer-zh-en"] if translate else []
    how = {"language": language, "recognised": transcript is None, "translated": translate}
    if out.suffix.lower() == ".mp4":
        with exported(out, networks=networks, parameters=how, source_type=ENHANCED, edited=source) as film:
            _write_film(source, film, made, language, burn, progress)
    else:
        with exported(out, networks=networks, parameters=how | {"of": source.name}) as file:
            write_subtitles(made, file)
    return made


def _check(source: Path, out: Path, language: str, transcript: str | None, translate: bool, burn: bool) -> None:
    if language not in RULES:
        raise ValueError(f"unknown language {language!r}; captions are made in {' and '.join(RULES)}")
    if language == "zh" and transcript is None:
        raise ValueError("there is no recogniser of Chinese here; pass what is said as transcript")
    if transcript is not None and not any(map(str.isalpha, transcript)):
        raise ValueError(f"the transcript has no words: {transcript[:60]!r}")
    if translate and language != "zh":
        raise ValueError('the translator was trained from Chinese to English alone; pass language="zh"')
    if out.suffix.lower() not in (".srt", ".vtt", ".mp4"):
        raise ValueError(f"captions go into a file that ends in .srt, .vtt or .mp4, got {out.name!r}")
    if burn and out.suffix.lower() != ".mp4":
        raise ValueError(f"captions in the pictures make a film that ends in .mp4, got {out.name!r}")
    if not source.is_file():
        raise FileNotFoundError(f"no sound or film at {source}")


def read_sound(path: Path | str) -> Tensor:
    """The first sound stream of any file, (T,) at 16 kHz in [-1, 1]; of a film, second 0 is that of the first picture.

    Raises:
        ValueError: the file is damaged or holds no sound.
    """
    blocks = list(sound_blocks(path, recognition.RATE))
    if not blocks:
        raise ValueError(f"{path} has no sound to be captioned")
    return torch.from_numpy(np.concatenate(blocks))


def timed_words(
    sound: Tensor,
    recogniser: Callable[[Tensor], str] | None,
    *,
    language: str = "en",
    transcript: str | None = None,
    progress: bool = False,
) -> list[Span]:
    """The words said in (T,) at 16 kHz and their times; empty if nobody speaks. Arguments as of `captions`."""
    stretches = recognition.voice_activity(sound)
    if transcript is not None and stretches:
        coarse = recognition.spread(transcript, stretches)
        return coarse if language == "zh" else _trusted(sound, transcript, coarse, stretches)
    words: list[Span] = []
    for stretch in tqdm(stretches, desc="listening", unit="stretch", disable=not progress):
        text = recogniser(_part(sound, stretch))
        try:
            words += _aligned(sound, text, stretch) if text else []
        except ValueError:  # recognised in noise, but not found again
            words += recognition.spread(text, [stretch])
    return words


def _trusted(sound: Tensor, transcript: str, coarse: list[Span], stretches: list[recognition.Stretch]) -> list[Span]:
    """Words aligned, or as they were spread: among other voices an aligner gets lost by seconds (3.2 s in the median,
    six of them 20 dB below the speaker) where spreading stays within 0.4 s for 95 % of words."""
    try:
        aligned = _aligned(sound, transcript, (stretches[0][0], stretches[-1][1]))
        same = (coarse[i * len(coarse) // len(aligned)] for i in range(len(aligned)))
        apart = median(abs(one.start - other.start) for one, other in zip(aligned, same, strict=True))
        if apart < _LOST:
            return aligned
        reason = f"alignment and voice activity differ by {apart:.1f} s"
    except ValueError as error:
        reason = str(error)
    warnings.warn(f"{reason}; the words of the transcript are spread evenly over the voice", stacklevel=4)
    return coarse


def _part(sound: Tensor, stretch: recognition.Stretch) -> Tensor:
    return sound[round(stretch[0] * recognition.RATE) : round(stretch[1] * recognition.RATE)]


def _aligned(sound: Tensor, text: str, stretch: recognition.Stretch) -> list[Span]:
    spans = recognition.align(_part(sound, stretch), text)
    return [Span(text=each.text, start=stretch[0] + each.start, end=stretch[0] + each.end) for each in spans]


def bilingual(words: Sequence[Span]) -> list[Caption]:
    """Chinese captions of one line, each with its English below, by the course's "transformer-zh-en".

    Every line is translated by itself. The network has seen 3,400 textbook sentences of about nine characters, and
    answers anything at all with fluent English: read chapter 6 before anybody reads its captions.
    """
    from aigc_lib.training.recipes.transformer_zh_en import ChineseEnglish

    above = break_lines(words, rules=replace(CHINESE, n_lines=1))
    sources = [list(caption.lines[0]) for caption in above]
    below = map(ChineseEnglish.joined, ChineseEnglish.answers(load("transformer-zh-en"), sources))
    return [
        replace(caption, lines=(*caption.lines, *textwrap.wrap(english, ENGLISH.width)))
        for caption, english in zip(above, below, strict=True)
    ]


def _write_film(source: Path, out: Path, made: Sequence[Caption], language: str, burn: bool, progress: bool) -> None:
    """Into `out`, in a folder of its own."""
    pictures = source
    if burn:
        pictures = out.with_name("pictures.mp4")
        video = open_video(source)
        chunks = (burn_in(chunk, made, video.frame_rate, i) for i, chunk in enumerate(video.chunks(1)))
        bar = tqdm(chunks, total=video.n_frames, desc="writing", unit="frame", disable=not progress)
        write_video(pictures, bar, video.frame_rate)
    try:
        join(pictures, source, out, [] if burn else made, language)
    except av.error.FFmpegError as error:
        raise ValueError(f"{source} cannot be put into an mp4 file: {error.strerror or error}") from error


def join(pictures: Path, source: Path, whole: Path, made: Sequence[Caption] = (), language: str = "en") -> None:
    """Write a film of the pictures of one file, the sound of another and a track; all begin when their pictures do.

    Sound is copied as it is where mp4 can hold it. A source without any makes a silent film.

    Raises:
        ValueError: no pictures, or such as mp4 cannot hold.
        FFmpegError: a file cannot be read, or what it holds not be put into mp4.
    """
    with av.open(str(pictures)) as seen, av.open(str(source)) as heard, av.open(str(whole), "w") as film:
        shown, zero = _pictures(seen), _pictures(heard)
        if shown is None:
            raise ValueError(f"{source} has no pictures; write its captions into an .srt or .vtt file")
        if shown.codec_context.name not in _PICTURES:
            raise ValueError(f"mp4 cannot hold {shown.codec_context.name} pictures as they are; pass burn=True")
        film.metadata.update(seen.metadata)
        streams = [_copied(seen, shown, film.add_stream_from_template(shown), _begin(shown))]
        for sound in heard.streams.audio[:1]:
            if sound.codec_context.name in _SOUNDS:
                streams.append(_copied(heard, sound, film.add_stream_from_template(sound), _begin(zero)))
            else:
                streams.append(_coded_anew(heard, sound, film, _begin(zero)))
        if made:
            track = film.add_mux_stream("mov_text")
            track.metadata["language"] = _LANGUAGES[language]
            streams.append(_track(made, track))
        for packet in heapq.merge(*streams, key=lambda packet: packet.dts * packet.time_base):
            film.mux(packet)


def _pictures(container: av.container.InputContainer) -> av.VideoStream | None:
    """The first stream of moving pictures; the cover of a song is none."""
    moving = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    return moving[0] if moving else None


def _begin(stream: av.VideoStream) -> Fraction:
    """Seconds on the clock of the file."""
    return (stream.start_time or 0) * stream.time_base


def _copied(container, stream, target, begin: Fraction) -> Iterator[av.Packet]:
    waiting: list[av.Packet] = []  # Matroska does not say when its first packets are to be decoded
    for packet in container.demux(stream):
        if not packet.size:
            continue
        waiting.append(packet)
        if packet.dts is not None:
            for k, each in enumerate(reversed(waiting)):
                each.dts = packet.dts - k * max(1, packet.duration or 0)
            yield from (_moved(each, target, begin) for each in waiting)
            waiting.clear()
    if waiting:
        raise ValueError(f"{container.name} has no time stamps; put it into a container that has, such as .mkv")


def _moved(packet: av.Packet, target, begin: Fraction) -> av.Packet:
    shift = round(begin / packet.time_base)
    packet.pts, packet.dts = (packet.dts if packet.pts is None else packet.pts) - shift, packet.dts - shift
    packet.stream = target
    return packet


def _coded_anew(container, stream, film, begin: Fraction) -> Iterator[av.Packet]:
    """Sound that mp4 does not hold, such as that of a wav file in a film, as AAC of one or two channels."""
    rate, layout = min(stream.rate, 48_000), "mono" if stream.channels == 1 else "stereo"
    target = film.add_stream("aac", rate=rate, layout=layout)

    def packets() -> Iterator[av.Packet]:
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate, frame_size=1024)
        for frame in chain(container.decode(stream), [None]):
            for part in resampler.resample(frame):
                yield from target.encode(part)
        yield from target.encode(None)

    return (_moved(packet, target, begin) for packet in packets())


def _track(made: Sequence[Caption], track) -> Iterator[av.Packet]:
    for caption in made:
        text = "\n".join(caption.lines).encode()
        packet = av.Packet(len(text).to_bytes(2, "big") + text)  # as a sample of 3GPP timed text begins
        packet.stream, packet.time_base = track, Fraction(1, 1000)
        packet.pts = packet.dts = round(1000 * caption.start)
        packet.duration = max(1, round(1000 * caption.end) - packet.pts)
        yield packet
