"""Cut a film down to its liveliest moments, on the beat of music if one likes, and write down what was done.

Nothing here is generated: shots are detected, clips are the optimum of a sum, colours go through a linear map. What
comes out is a film, and beside it an edit decision list (剪辑决策表) in the form of CMX 3600, which editing programs
read: which frames of the source went where, so that everything can be changed again.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from aigc_lib.applications.beats import tempo_and_beats
from aigc_lib.applications.shots import LONG, SHORT, choose, even_cuts, find_changes, liveliness, thumbnails
from aigc_lib.datasets.video_files import VideoFile, open_video, sound_blocks, write_video
from aigc_lib.training.checkpoints import write_whole
from aigc_lib.trust.exports import exported

TRANSITIONS = ("cut", "dissolve", "wipe")
SAMPLE_RATE = 48_000
_FADE = 0.4  # seconds of a dissolve or wipe
_SOFT = 96  # samples, 2 ms, in which sound fades at a hard cut: it would click
_RIDGE = 1e-4  # added to the variance of colours, in [-1, 1]: a black frame has none


class Clip(NamedTuple):
    """A line of the edit decision list, in frames."""

    start: int  # in the source
    length: int  # until the next clip begins
    record: int  # where it begins in the new film
    fade: int  # how long the clip before goes on under it; 0 is a cut


def edit(
    source: Path | str,
    out: Path | str,
    *,
    seconds: float,
    music: Path | str | None = None,
    match_colours: bool = False,
    transition: str = "cut",
    progress: bool = True,
) -> list[Clip]:
    """Write the liveliest moments of a film, in their order, and an edit decision list beside it (the same name, .edl).

    The film is read twice, frame by frame, so it may be long: 0.5 kB a frame and 4 B a frame and clip are kept. Both
    files appear when they are complete; stopped before, they are what they were.

    Args:
        source: any video file of constant frame rate. Its sound, if any, is mixed down to one channel.
        out: a path ending in .mp4, another file than the source.
        seconds: how long the new film is, to the frame; clips last about two.
        music: a file with sound, at least as long, to be heard from its beginning in place of the film's own; clips
            then begin on its beats, to the nearest frame (with transitions: have their middle there).
        match_colours: give all clips the mean and covariance of colour that they have on average.
        transition: "cut", "dissolve" or "wipe", from clip to clip; 0.4 s.
        progress: show progress bars.

    Returns:
        The clips, as the list holds them.

    Raises:
        FileNotFoundError, ValueError: a file cannot be read, is silent where a beat is needed, or too short; `seconds`
            does not fit the film; `out` or the transition is none of those above.
    """
    source, out = Path(source), Path(out)
    if transition not in TRANSITIONS:
        raise ValueError(f"unknown transition {transition!r}; there are {', '.join(TRANSITIONS)}")
    if out.suffix.lower() != ".mp4" or out.resolve() == source.resolve():
        raise ValueError(f"the film goes into a file of its own that ends in .mp4, got {out.name!r}")
    video = open_video(source)
    if video.n_frames < 2:
        raise ValueError(f"{source} has a single frame; there is nothing to cut")
    n, rate = round(seconds * video.frame_rate) if math.isfinite(seconds) else 0, video.frame_rate
    if not 2 <= n <= video.n_frames:
        raise ValueError(
            f"expected a length of 2 to {video.n_frames} frames ({video.n_frames / rate:.2f} s, the whole film), "
            f"got {n} frames ({seconds:g} s)"
        )
    track = None if music is None else _read_music(music, n / rate)
    cuts = even_cuts(n, rate) if track is None else beat_cuts(track, SAMPLE_RATE, n, rate)
    thumbs, moments = _look(video, progress)
    changes = find_changes(thumbs)
    score = liveliness(thumbs, _energy(source, video), changes)
    shortest = min(end - begin for begin, end in zip([0, *cuts], [*cuts, n], strict=True))
    fade = 0 if transition == "cut" else min(max(1, round(_FADE * rate)), shortest)
    ends = [*(cut - fade // 2 for cut in cuts), n]  # a transition has its middle where the cut would be
    lengths = [end - begin for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
    starts = choose(score, lengths, changes, overlap=fade)
    clips = [
        Clip(start, length, sum(lengths[:i]), fade if i else 0)
        for i, (start, length) in enumerate(zip(starts, lengths, strict=True))
    ]
    maps = _colour_maps(moments, clips) if match_colours else None
    sound = _sound(source, clips, rate) if track is None else _faded(track[: round(n / rate * SAMPLE_RATE)])
    frames = tqdm(_frames(video, clips, transition, maps), total=n, desc="writing", unit="frame", disable=not progress)
    made = {"seconds": seconds, "transition": transition, "match colours": match_colours}
    with exported(out, parameters=made, source_type=None, edited=source) as film:  # cut and joined: nothing is made
        write_video(film, frames, rate, sound=sound, sample_rate=None if sound is None else SAMPLE_RATE)
    channel = "V" if track is not None or sound is None else "B"
    text = decision_list(clips, source.name, rate, transition, channel, None if music is None else Path(music).name)
    write_whole(out.with_suffix(".edl"), text.encode())
    return clips


def beat_cuts(music: Tensor, sample_rate: int, n_frames: int, frame_rate: float) -> list[int]:
    """Frames of a film of n frames nearest to every k-th beat of (T,) music; k beats take about two seconds."""
    tempo, beats = tempo_and_beats(music, sample_rate)
    usable = [b for b in beats.tolist() if SHORT <= b <= n_frames / frame_rate - SHORT]
    frames = {round(beat * frame_rate) for beat in usable[:: max(1, round(LONG * tempo / 60))]}
    return sorted(frames & set(range(1, n_frames)))


# --- colour ----------------------------------------------------------------------------------------------------------


def colour_map(
    mean: Tensor, covariance: Tensor, target_mean: Tensor, target_covariance: Tensor
) -> tuple[Tensor, Tensor]:
    """The linear map that gives colours a wanted mean and covariance, and moves them least in the mean square.

    Monge's map between Gaussians (Pitié and Kokaram 2007, "The linear Monge-Kantorovitch linear colour mapping for
    example-based colour transfer", CVMP): with S the covariance and T the target,

        A = S^(−1/2) (S^(1/2) T S^(1/2))^(1/2) S^(−1/2),   x ↦ A x + b,   b = target mean − A mean.

    Args:
        mean, target_mean: (3,).
        covariance, target_covariance: (3, 3), symmetric and positive definite.

    Returns:
        A, (3, 3), symmetric, and b, (3,).
    """
    root = _power(covariance, 0.5)
    inverse = _power(covariance, -0.5)
    matrix = inverse @ _power(root @ target_covariance @ root, 0.5) @ inverse
    return matrix, target_mean - matrix @ mean


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """Of a symmetric positive matrix."""
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    return vectors @ torch.diag(values.clamp(min=1e-12) ** exponent) @ vectors.mT


def _colour_maps(moments: Tensor, clips: Sequence[Clip]) -> list[tuple[Tensor, Tensor]]:
    """For each clip, the map to the average of all; moments are (F, 3, 4): second ones, and the mean."""
    means, covariances = [], []
    for clip in clips:
        mean = moments[clip.start : clip.start + clip.length].double().mean(dim=0)
        means.append(mean[:, 3])
        covariances.append(mean[:, :3] - torch.outer(mean[:, 3], mean[:, 3]) + _RIDGE * torch.eye(3))
    target = torch.stack(means).mean(dim=0), torch.stack(covariances).mean(dim=0)
    return [
        tuple(each.float() for each in colour_map(mean, covariance, *target))
        for mean, covariance in zip(means, covariances, strict=True)
    ]


# --- reading and writing ---------------------------------------------------------------------------------------------


def _look(video: VideoFile, progress: bool) -> tuple[Tensor, Tensor]:
    """Thumbnails (F, N) and moments of colour (F, 3, 4) of all frames."""
    thumbs, moments, step = [], [], max(1, video.height // 180)
    with tqdm(total=video.n_frames, desc="looking", unit="frame", disable=not progress) as bar:
        for frames in video.chunks(8):
            thumbs.append(thumbnails(frames))
            colours = frames[:, :, ::step, ::step].flatten(2)  # (F, 3, P)
            with_one = torch.cat([colours, torch.ones_like(colours[:, :1])], dim=1)
            moments.append(colours @ with_one.mT / colours.shape[2])
            bar.update(len(frames))
    return torch.cat(thumbs), torch.cat(moments)


def _energy(source: Path, video: VideoFile) -> Tensor | None:
    """(F,) mean square of the sound during each frame."""
    total, position = np.zeros(video.n_frames), 0
    for block in sound_blocks(source, SAMPLE_RATE):
        frame = ((position + np.arange(len(block))) * (video.frame_rate / SAMPLE_RATE)).astype(int)
        total += np.bincount(frame, block.astype(float) ** 2, len(total))[: len(total)]
        position += len(block)
    return torch.from_numpy(total * video.frame_rate / SAMPLE_RATE) if position else None


def _read_music(path: Path | str, seconds: float) -> Tensor:
    if not Path(path).is_file():
        raise FileNotFoundError(f"no music at {path}")
    music = torch.from_numpy(np.concatenate([np.zeros(0, np.float32), *sound_blocks(path, SAMPLE_RATE)]))
    if len(music) < round(seconds * SAMPLE_RATE):
        raise ValueError(
            f"{path} holds {len(music) / SAMPLE_RATE:.2f} s of sound, and the film is to last {seconds:.2f} s"
        )
    return music


def _faded(sound: Tensor) -> Tensor:
    """The last half second grows silent."""
    n = min(len(sound), SAMPLE_RATE // 2)
    return torch.cat([sound[: len(sound) - n], sound[len(sound) - n :] * torch.linspace(1, 0, n)])


def _sound(source: Path, clips: Sequence[Clip], rate: float) -> Tensor | None:
    """What is heard in the clips, each from the sample of its first frame on; None if the film is silent."""

    def at(frame: int) -> int:
        return round(frame / rate * SAMPLE_RATE)

    fades = [*(clip.fade for clip in clips[1:]), 0]
    parts = [torch.zeros(at(clip.length + fade)) for clip, fade in zip(clips, fades, strict=True)]
    position = 0
    for block in sound_blocks(source, SAMPLE_RATE):
        for clip, part in zip(clips, parts, strict=True):
            first, last = max(position, at(clip.start)), min(position + len(block), at(clip.start) + len(part))
            if first < last:
                heard = torch.from_numpy(block[first - position : last - position])
                part[first - at(clip.start) : last - at(clip.start)] = heard
        position += len(block)
    if not position:
        return None
    film = torch.zeros(at(sum(clip.length for clip in clips)))
    for clip, fade, part in zip(clips, fades, parts, strict=True):
        into, out = (min(at(n) or _SOFT, len(part)) for n in (clip.fade, fade))
        part[:into] *= _rise(into)
        part[len(part) - out :] *= _rise(out).flip(0)
        here = film[at(clip.record) :][: len(part)]
        here += part[: len(here)]
    return film.clamp(-1, 1)


def _rise(n: int) -> Tensor:
    """Weights (n,) whose squares and those of their mirror image add up to one."""
    return torch.sin(math.pi / 2 * (torch.arange(n) + 0.5) / n)


def _frames(
    video: VideoFile, clips: Sequence[Clip], transition: str, maps: Sequence[tuple[Tensor, Tensor]] | None
) -> Iterator[Tensor]:
    """All frames of the new film in order, (1, 3, H, W) each."""
    fades = [*(clip.fade for clip in clips[1:]), 0]
    i, before, going_on = 0, [], []
    for t, frame in enumerate(video.chunks(1)):
        k = t - clips[i].start
        if k < 0:
            continue
        if maps:
            matrix, offset = maps[i]
            frame = (torch.einsum("ij,bjhw->bihw", matrix, frame) + offset.view(3, 1, 1)).clamp(-1, 1)
        if k >= clips[i].length:
            going_on.append(frame)
        else:
            yield mix(before[k], frame, (k + 1) / (len(before) + 1), transition) if k < len(before) else frame
        if k == clips[i].length + fades[i] - 1:
            i, before, going_on = i + 1, going_on, []
            if i == len(clips):
                return


def mix(first: Tensor, second: Tensor, share: float, transition: str) -> Tensor:
    """A frame between two (B, C, H, W): share 0 to 1 of the second, in every pixel, or from the left for a wipe."""
    if transition == "dissolve":
        return torch.lerp(first, second, share)
    width = first.shape[-1]
    covered = (share * width - torch.arange(width)).clamp(0, 1)  # the pixel on the edge is mixed
    return torch.lerp(first, second, covered)


def decision_list(
    clips: Sequence[Clip], name: str, frame_rate: float, transition: str, channel: str, music: str | None = None
) -> str:
    """The clips as text in the form of CMX 3600.

    A line has the number of the event, the reel (AX: none), the channel (V picture, A sound, B both), C for a cut, D
    or W001 for a dissolve or wipe and its frames, and four time codes, the ends exclusive: in and out of the source, in
    and out of the new film. A transition has two lines: where the clip before was left, and what comes in.

    Args:
        name: of the source's file.
        frame_rate: time codes count frames without dropping any, as many a second as the rate rounded.
        transition: one of `TRANSITIONS`.
        music: name of the file that is heard, if it is another.
    """
    base = max(1, round(frame_rate))

    def code(frame: int) -> str:
        seconds, frames = divmod(frame, base)
        return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{frames:02d}"

    def line(event: int, channel: str, kind: str, fade: int, *frames: int) -> str:
        length = f"{fade:03d}" if fade else "   "
        return f"{event:03d}  {'AX':<8} {channel:<5} {kind:<4} {length} {' '.join(map(code, frames))}"

    lines = [f"TITLE: {name}", "FCM: NON-DROP FRAME", f"* FRAME RATE: {frame_rate:g}"]
    for i, clip in enumerate(clips):
        where = (clip.start, clip.start + clip.length, clip.record, clip.record + clip.length)
        if clip.fade:
            left = clips[i - 1].start + clips[i - 1].length
            kind = "D" if transition == "dissolve" else "W001"
            lines.append(line(i + 1, channel, "C", 0, left, left, clip.record, clip.record))
            lines += [line(i + 1, channel, kind, clip.fade, *where), f"* FROM CLIP NAME: {name}"]
            lines.append(f"* TO CLIP NAME: {name}")
        else:
            lines += [line(i + 1, channel, "C", 0, *where), f"* FROM CLIP NAME: {name}"]
    if music:
        end = clips[-1].record + clips[-1].length
        lines += [line(len(clips) + 1, "A", "C", 0, 0, end, 0, end), f"* FROM CLIP NAME: {music}"]
    return "\n".join(lines) + "\n"
