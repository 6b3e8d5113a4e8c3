"""Sound and video in a notebook: a player, and beside it a still for readers who see the page without playing.

The bytes travel in the notebook: sound as 16-bit FLAC, which every browser plays and which loses nothing, video as
h264 in mp4 with yuv420p, the one format that all browsers show.
"""

import io
import math
from html import escape

import numpy as np
import soundfile
import torch
from matplotlib.axes import Axes

from aigc_lib.datasets.video_files import enlarged, write_video
from aigc_lib.teaching import figures

_RATES = (4_000, 96_000)  # Hz; what browsers play
_FLOOR_DB = -80.0
_STYLE = "display:block;max-width:100%;margin:0.3em 0"


def audio(samples: torch.Tensor, sample_rate: int, caption: str, alt: str) -> None:
    """Display a player and the spectrogram of one channel.

    Args:
        samples: (T,) float in [-1, 1]; T ≥ 64.
        sample_rate: Hz, 4,000 to 96,000.
        caption: what to listen for, and what to see.
        alt: what is heard and what the spectrogram shows.

    Raises:
        ValueError: another shape, too short, outside [-1, 1] (nothing is clipped), not finite, or another rate.
    """
    figures.require_texts(caption, alt)
    sound = _sound(samples)
    if not _RATES[0] <= sample_rate <= _RATES[1]:
        raise ValueError(f"sample_rate has to be {_RATES[0]:,} to {_RATES[1]:,} Hz, got {sample_rate}")
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, int(sample_rate), format="FLAC", subtype="PCM_16")
    source, label = figures.data_uri(buffer.getvalue(), "audio/flac"), escape(alt)
    player = f'<audio controls title="{label}" aria-label="{label}" style="{_STYLE}" src="{source}"></audio>'
    still = figures.png(spectrogram(samples, sample_rate).figure, crop=True)
    figures.show_html(player + figures.picture_html(still, f"Spectrogram: {alt}"), caption)


def spectrogram(samples: torch.Tensor, sample_rate: int, ax: Axes | None = None) -> Axes:
    """Draw the spectrogram of (T,) samples: decibels below the loudest point, windows of about 30 ms.

    Raises:
        ValueError: see `audio`.
    """
    sound = torch.from_numpy(_sound(samples)).float()
    size = min(2 ** round(math.log2(0.03 * sample_rate)), 2 ** int(math.log2(len(sound))))
    hop = size // 4
    # No padding at the ends: mirrored samples would show clicks that are not in the sound.
    spectrum = torch.stft(sound, size, hop, window=torch.hann_window(size), center=False, return_complex=True).abs()
    decibels = 20 * (spectrum / spectrum.max().clamp(min=1e-10)).clamp(min=10 ** (_FLOOR_DB / 20)).log10()
    if ax is None:
        _, ax = figures.figure(height=2.4)
    first, last = (size - hop) / 2, (size + hop) / 2 + hop * (spectrum.shape[1] - 1)  # edges of the columns, samples
    extent = (first / sample_rate, last / sample_rate, 0, sample_rate / 2_000)
    picture = ax.imshow(
        decibels.numpy(), origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=_FLOOR_DB, vmax=0
    )
    ax.set(xlabel="time (s)", ylabel="frequency (kHz)", xlim=(0, len(sound) / sample_rate))
    ax.grid(False)
    ax.figure.colorbar(picture, ax=ax, label="dB", pad=0.01)
    return ax


def video(
    frames: torch.Tensor,
    frame_rate: float,
    caption: str,
    alt: str,
    *,
    sound: torch.Tensor | None = None,
    sample_rate: int | None = None,
) -> None:
    """Display a video and a film strip of it; without sound it loops.

    Small frames are enlarged by whole factors (nearest neighbour) to about 256 pixels. h264 needs even sides: an odd
    one has its last row or column repeated.

    Args:
        frames: (F, C, H, W) float in [-1, 1], C 1 or 3.
        frame_rate: frames a second, 0.01 to 120.
        caption: what to see.
        alt: what the video shows.
        sound: (T,) float in [-1, 1], as long as the frames.
        sample_rate: of the sound, 8,000 to 48,000 Hz.

    Raises:
        ValueError: another shape, no frames, outside [-1, 1], not finite, another rate, or sound of another length.
    """
    figures.require_texts(caption, alt)
    film = encode_video(frames, frame_rate, sound=sound, sample_rate=sample_rate)
    source, label = figures.data_uri(film, "video/mp4"), escape(alt)
    silent = "" if sound is not None else " loop muted"
    attributes = f'controls{silent} playsinline title="{label}" aria-label="{label}"'
    player = f'<video {attributes} style="{_STYLE}" src="{source}"></video>'
    still = figures.png(film_strip(frames).figure, crop=True)
    figures.show_html(player + figures.picture_html(still, f"Film strip: {alt}"), caption)


def encode_video(
    frames: torch.Tensor, frame_rate: float, *, sound: torch.Tensor | None = None, sample_rate: int | None = None
) -> bytes:
    """The mp4 file that `video` shows. Arguments and errors as there."""
    buffer = io.BytesIO()
    write_video(buffer, enlarged(frames), frame_rate, sound=sound, sample_rate=sample_rate)
    return buffer.getvalue()


def film_strip(frames: torch.Tensor, n: int = 6) -> Axes:
    """Draw `n` frames of (F, C, H, W), from the first to the last in equal steps, numbered from 1, into a new figure.

    Fewer than `n` frames are all shown. Raises ValueError for bad frames (see `video`) and n < 1.
    """
    if n < 1:
        raise ValueError(f"n has to be at least 1, got {n}")
    chosen = torch.linspace(0, len(frames) - 1, min(n, len(frames))).round().long()
    ax = figures.image_grid(frames[chosen], n_columns=len(chosen))
    step = (ax.get_images()[0].get_array().shape[1] + 1) / len(chosen)
    for i, frame in enumerate(chosen.tolist()):
        ax.text((i + 0.5) * step, -0.04 * step, f"{frame + 1}", ha="center", va="bottom", fontsize=8)
    return ax


def _sound(samples: torch.Tensor) -> np.ndarray:
    if samples.ndim != 1 or len(samples) < 64 or not samples.is_floating_point():
        raise ValueError(f"samples have to be float (T,) with T ≥ 64, got {tuple(samples.shape)}, {samples.dtype}")
    sound = samples.detach().cpu().double().numpy()
    if not np.isfinite(sound).all() or np.abs(sound).max() > 1:
        raise ValueError(f"samples have to be finite and in [-1, 1], got up to {np.abs(sound).max():.4g}; scale them")
    return sound
