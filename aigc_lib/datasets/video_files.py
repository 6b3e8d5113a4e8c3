"""Video files: any kind in, in pieces that fit into memory; mp4 out, whole or not at all.

Frames are (F, C, H, W) float32 in [-1, 1]. What is written is h264 with yuv420p and, if there is sound, AAC: what every
browser plays. Frames are taken to last equally long, so a file of variable frame rate is refused and not bent straight.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from statistics import median
from typing import BinaryIO

import av
import numpy as np
import torch
from av.stream import Disposition
from av.video.reformatter import ColorRange, Colorspace
from torch import Tensor

from aigc_lib.datasets.base import from_bytes

RATES = (0.01, 120)  # frames a second that are written: mp4 counts finely enough for them, and screens show them
_RANGE_SLACK = 1e-4  # what resampling and bf16 may add to the ends of [-1, 1]
# How swscale turns RGB into YUV and back. Without SWS_ACCURATE_RND and, for RGB, full chroma it rounds colours down.
_TO_RGB = 0x4 | 0x40000 | 0x2000 | 0x4000  # bicubic between colours, which are stored at half the resolution
_TO_YUV = 0x20 | 0x40000  # a stored colour is the mean of the area that it covers
_CROP = "show {height}x{width} of the picture"  # the comment by which a padded file remembers its odd size


@dataclass(frozen=True, kw_only=True)
class VideoFile:
    """A video file that has been looked through; `chunks` reads it, as often as one likes."""

    path: Path
    height: int  # of the upright picture, in pixels, as `chunks` gives it
    width: int
    frame_rate: float  # frames a second
    n_frames: int

    def chunks(self, n_frames: int = 8) -> Iterator[Tensor]:
        """The frames in order, `n_frames` at a time (the last time perhaps fewer): (≤ n_frames, 3, H, W) in [-1, 1].

        Memory holds one chunk, however long the film is: 11 MB for a frame of 1280 by 720.

        Raises:
            ValueError: n_frames < 1; a frame is damaged, missing, or of another size than the first.
        """
        if n_frames < 1:
            raise ValueError(f"n_frames has to be at least 1, got {n_frames}")
        pictures: list[np.ndarray] = []
        for picture in self._pictures():
            pictures.append(picture)
            if len(pictures) == n_frames:
                yield _to_frames(pictures)
                pictures = []
        if pictures:
            yield _to_frames(pictures)

    def _pictures(self) -> Iterator[np.ndarray]:
        """(H, W, 3) uint8, one by one."""
        done, first = 0, None
        with _opened(self.path) as (container, stream):
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                picture = _upright(frame)
                first = first or picture.shape
                if frame.is_corrupt or picture.shape != first:
                    wrong = "is damaged" if frame.is_corrupt else f"is {_size(picture.shape)}, the first {_size(first)}"
                    raise ValueError(f"{self.path}: frame {done + 1} of {self.n_frames} {wrong}")
                yield picture[: self.height, : self.width]
                done += 1
        if done != self.n_frames:
            raise ValueError(f"{self.path} is damaged: {done} of its {self.n_frames} frames can be read")


def open_video(path: Path | str) -> VideoFile:
    """Look through a video file (the first picture, and the time stamps of all), so that errors come before the work.

    Rotation by quarter turns, as phones write it, is applied; the shape of pixels that are not square is not.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is empty, no video, truncated, without pictures, or of variable frame rate.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no video file at {path}")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")
    with _opened(path) as (container, stream):
        stamps = [p.pts if p.pts is not None else p.dts for p in container.demux(stream) if p.size and not p.is_discard]
        stated, rate, unit, length = stream.frames, stream.average_rate, stream.time_base, stream.duration
        comment = container.metadata.get("comment", "")
    with _opened(path) as (container, stream):
        picture = next((_upright(frame) for frame in container.decode(stream)), None)
    if stated and rate and length:
        stated = min(stated, int(length * unit * rate))  # cut without coding anew, a film keeps hidden frames
    if picture is None or len(stamps) < stated:
        raise ValueError(f"{path} is damaged: it holds {len(stamps)} of {stated or 'its'} frames; get a whole copy")
    height, width = picture.shape[:2]
    if comment in {_CROP.format(height=h, width=w) for h in (height, height - 1) for w in (width, width - 1)}:
        height, width = map(int, comment.split()[1].split("x"))
    if len(stamps) > 1:
        rate = _constant_rate(path, stamps, unit, rate)
    return VideoFile(path=path, height=height, width=width, frame_rate=float(rate), n_frames=len(stamps))


def _constant_rate(path: Path, stamps: list[int | None], unit: Fraction, stated: Fraction | None) -> Fraction:
    """Frames a second; ValueError unless all steps between time stamps are alike, up to the rounding of the stamps."""
    if None in stamps:
        raise ValueError(f"{path} has no time stamps; put it into a container that has: ffmpeg -i IN -c copy OUT.mp4")
    stamps = sorted(stamps)
    steps = [after - before for before, after in pairwise(stamps)]
    usual = median(steps)
    odd = next((i for i, step in enumerate(steps) if abs(step - usual) > max(1, usual / 4)), None)
    if odd is not None:
        raise ValueError(
            f"{path} has a variable frame rate: frame {odd + 1} lasts {float(steps[odd] * unit):.4f} s, "
            f"others {float(usual * unit):.4f} s; make it constant: ffmpeg -i IN -fps_mode cfr -r 25 OUT.mp4"
        )
    measured = len(steps) / ((stamps[-1] - stamps[0]) * unit)
    return stated if stated and abs(stated / measured - 1) < 0.01 else measured


def sound_blocks(path: Path | str, sample_rate: int) -> Iterator[np.ndarray]:
    """The first sound stream of any file, piece by piece: (T,) float32 in [-1, 1], mono; nothing if it has no sound.

    Of a film, the first sample is that of the moment when the first picture appears.

    Raises:
        ValueError: the file is damaged, or its sound holds NaN or infinity.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                return
            moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
            begin = (moving[0].start_time or 0) * moving[0].time_base if moving else None
            to_mono = av.AudioResampler(format="flt", layout="mono", rate=sample_rate)
            early = None  # samples before the first picture, to be left out
            for frame in chain(container.decode(container.streams.audio[0]), [None]):
                if early is None and frame is not None:
                    early = round((begin - (frame.time or 0)) * sample_rate) if moving else 0
                    if early < 0:
                        yield np.zeros(-early, np.float32)
                for part in to_mono.resample(frame):
                    block = part.to_ndarray()[0]
                    if not np.isfinite(block).all():
                        raise ValueError(f"the sound of {path} holds NaN or infinity")
                    yield block[max(0, early) :].clip(-1, 1)
                    early = max(0, early - len(block))
    except av.error.FFmpegError as error:
        raise ValueError(f"{path} is damaged or no sound: {error.strerror or error}") from error


@contextlib.contextmanager
def _opened(path: Path):
    """The container and its first stream of moving pictures (the cover of a song is none)."""
    try:
        with av.open(str(path)) as container:
            streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
            if not streams:
                kinds = ", ".join(stream.type for stream in container.streams) or "nothing"
                raise ValueError(f"{path} holds no video, only {kinds}")
            yield container, streams[0]
    except av.error.FFmpegError as error:
        raise ValueError(f"{path} is damaged or no video: {error.strerror or error}") from error


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """(H, W, 3) uint8 RGB. Where the file does not say which matrix its colours need, high definition has BT.709."""
    guess = Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601
    matrix = frame.colorspace if frame.colorspace in list(Colorspace) else guess
    picture = frame.to_ndarray(format="rgb24", src_colorspace=matrix, interpolation=_TO_RGB)
    return np.rot90(picture, frame.rotation // 90)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} by {shape[1]} pixels (height by width)"


def _to_frames(pictures: list[np.ndarray]) -> Tensor:
    return from_bytes(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous())


def enlarged(frames: Tensor, side: int = 256) -> Tensor:
    """Small frames (..., H, W), every pixel repeated so often that the longer side comes close to `side`.

    Shown small, a film of 32 pixels is a stamp, and h264 with its halved colours blurs it.
    """
    factor = max(1, side // max(frames.shape[-2:]))
    return frames.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)


def write_video(
    target: Path | str | BinaryIO,
    frames: Tensor | Iterable[Tensor],
    frame_rate: float,
    *,
    sound: Tensor | None = None,
    sample_rate: int | None = None,
) -> None:
    """Write an mp4 file that every browser plays: h264, yuv420p, BT.709, with AAC sound if there is any.

    h264 needs even sides: an odd one has its last row or column repeated, and `open_video` cuts it off again. A file
    appears only when it is complete; whatever stops the writing, Ctrl-C too, leaves what was there before.

    Args:
        target: a path ending in .mp4, whose folder is made if need be, or a binary file.
        frames: (F, C, H, W) float in [-1, 1], C 1 or 3, or several such in order, so that a film need not be in memory.
        frame_rate: 0.01 to 120 frames a second.
        sound: (T,) float in [-1, 1], as long as the frames up to the length of one.
        sample_rate: of the sound, 8,000 to 48,000 Hz.

    Raises:
        ValueError: another shape, type or rate, no frames, not finite or out of range (nothing is clipped), frames of
            different sizes, sound that is longer or shorter than the frames.
        OSError: the file cannot be written.
    """
    if not RATES[0] <= frame_rate <= RATES[1]:
        raise ValueError(f"frame_rate has to be {RATES[0]} to {RATES[1]} frames a second, got {frame_rate}")
    if sound is not None:
        _check_sound(sound, sample_rate)
    chunks = [frames] if isinstance(frames, Tensor) else frames
    if not isinstance(target, Path | str):
        _encode(target, chunks, frame_rate, sound, sample_rate)
        return
    path = Path(target)
    if path.suffix.lower() != ".mp4":
        raise ValueError(f"videos go into a file that ends in .mp4, got {path.name!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w+b") as file:
            _encode(file, chunks, frame_rate, sound, sample_rate)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _encode(
    file: BinaryIO, chunks: Iterable[Tensor], frame_rate: float, sound: Tensor | None, sample_rate: int | None
) -> None:
    rate = Fraction(frame_rate).limit_denominator(1001)  # 29.97… is 30000/1001
    size, written, heard = None, 0, 0  # (H, W), frames, samples
    with av.open(file, "w", format="mp4") as container:
        picture_stream = container.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "medium"})
        sound_stream = container.add_stream("aac", rate=sample_rate, layout="mono") if sound is not None else None
        for chunk in chunks:
            pixels = _to_pixels(chunk)  # (F, H, W, 3)
            if size is None:
                size = pixels.shape[1:3]
                _describe(container, picture_stream, *size)
            if pixels.shape[1:3] != size:
                raise ValueError(f"frames have to be of one size: first {_size(size)}, then {_size(pixels.shape[1:])}")
            for picture in np.pad(pixels, ((0, 0), (0, size[0] % 2), (0, size[1] % 2), (0, 0)), mode="edge"):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, interpolation=_TO_YUV)
                container.mux(picture_stream.encode(frame))
            written += len(pixels)
            if sound is not None:  # beside its pictures, so that neither has to wait in memory for the other
                until = round(written / frame_rate * sample_rate)
                _encode_sound(container, sound_stream, sound[heard:until], sample_rate, heard)
                heard = until
        if size is None:
            raise ValueError("there are no frames to write")
        if sound is not None and abs(len(sound) / sample_rate - written / frame_rate) > 1 / frame_rate:
            lengths = f"{len(sound) / sample_rate:.2f} s of sound and {written / frame_rate:.2f} s of frames"
            raise ValueError(f"sound has to last as long as the frames, got {lengths}; cut it, or add silence")
        for stream in filter(None, (picture_stream, sound_stream)):
            container.mux(stream.encode(None))


def _describe(container: av.container.OutputContainer, stream: av.VideoStream, height: int, width: int) -> None:
    stream.height, stream.width = height + height % 2, width + width % 2
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.colorspace = context.color_primaries = context.color_trc = Colorspace.ITU709  # 1 is BT.709 for all three
    context.color_range = ColorRange.MPEG
    if height % 2 or width % 2:
        container.metadata["comment"] = _CROP.format(height=height, width=width)


def _encode_sound(
    container: av.container.OutputContainer, stream: av.AudioStream, sound: Tensor, sample_rate: int, start: int
) -> None:
    if len(sound):
        samples = sound.detach().cpu().float().numpy()[None]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = sample_rate, start, Fraction(1, sample_rate)
        container.mux(stream.encode(frame))


def _to_pixels(frames: Tensor) -> np.ndarray:
    """(F, H, W, 3) uint8."""
    if frames.ndim != 4 or frames.shape[1] not in (1, 3) or not frames.numel() or not frames.is_floating_point():
        raise ValueError(f"expected float frames (F ≥ 1, 1 or 3, H, W), got {tuple(frames.shape)}, {frames.dtype}")
    frames = frames.detach().cpu().float()
    low, high = frames.aminmax()
    if not (low >= -1 - _RANGE_SLACK and high <= 1 + _RANGE_SLACK):  # NaN is neither
        raise ValueError(f"frames have to be finite and in [-1, 1], got [{low:.4g}, {high:.4g}]; clamp or rescale them")
    pixels = ((frames.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy()


def _check_sound(sound: Tensor, sample_rate: int | None) -> None:
    if sound.ndim != 1 or not len(sound) or not sound.is_floating_point():
        raise ValueError(f"expected float sound (T ≥ 1,), got {tuple(sound.shape)}, {sound.dtype}")
    if not sound.abs().max() <= 1:
        raise ValueError(f"sound has to be finite and in [-1, 1], got up to {sound.abs().max():.4g}; scale it")
    if sample_rate is None or not 8_000 <= sample_rate <= 48_000:
        raise ValueError(f"sample_rate has to be 8,000 to 48,000 Hz, got {sample_rate}")
