"""Where the shots of a film end, hard cuts (硬切) and dissolves (叠化), and which moments of them are worth showing.

Shots are found in thumbnails of the frames. Say that x_s is the last frame of the old shot alone and x_e the first of
the new one. Then every frame between is a mixture, x_t ≈ (1 − a) x_s + a x_e, whose share a is best where

    a_t = ⟨x_t − x_s, x_e − x_s⟩ / ‖x_e − x_s‖²

and grows evenly from 0 to 1. Motion gives itself away: a moved picture is no mixture of what was there before and
after, and it has moved before s and goes on after e. A flash comes back. So every pair (s, e) gets the sum of what is
not explained, relative to ‖x_e − x_s‖², and the best pairs that do not overlap are the changes. A cut is e = s + 1.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aigc_lib.datasets.cut_films import Change

THUMBNAIL = (9, 16)
LENGTHS = (1, 7, 9, 11, 13, 15, 17, 19, 21, 23, 26, 29, 32)  # e − s: 1 is a cut, the others dissolves
# Set on films of the training photographs alone (seeds 100 to 105 of `cut_film`), for the best F1.
_MOST = 0.6  # of the squared distance may stay unexplained
_LEAST = {"cut": 0.15, "dissolve": 0.25}  # root mean squared distance in [-1, 1] between two shots
_MIXTURE = 4  # weight of what is no mixture, and once more of a share that does not grow evenly, beside motion
_BLOCK = 4096  # frames that are compared at a time

LONG = 2.0  # seconds that a clip lasts, about
SHORT = 0.5  # the least, at the beginning and the end of music
_CROSSING = 1e6  # what it costs to show a change of the source inside a clip: more than any score can bring


def thumbnails(frames: Tensor) -> Tensor:
    """(F, 3 · 9 · 16) uint8, of frames (F, 3, H, W) in [-1, 1]: 432 bytes a frame, 78 MB for two hours."""
    small = F.adaptive_avg_pool2d(frames, THUMBNAIL).flatten(1)
    return ((small + 1) * 127.5).round().to(torch.uint8)


def find_changes(thumbs: Tensor) -> list[Change]:
    """The cuts and dissolves of a film in order, from (F, N) uint8 as `thumbnails` makes them.

    Not looked for are shots shorter than three frames, wipes, and dissolves of less than 6 or more than 31 frames.
    """
    scored: list[tuple[float, int, int]] = []
    for length in LENGTHS:
        wrong = torch.cat([_unexplained(part, length) for part in _blocks(thumbs, length)])  # entry s
        for s in (wrong[: max(0, len(thumbs) - length)] < _MOST).nonzero().flatten().tolist():
            scored.append((wrong[s].item(), s, length))
    changes: list[Change] = []
    taken = torch.zeros(len(thumbs) + 1, dtype=torch.bool)
    for _, s, length in sorted(scored):
        if not taken[s : s + length + 1].any():
            taken[max(0, s - 1) : s + length + 2] = True
            changes.append(Change(s + 1, s + length))
    return sorted(changes)


def _blocks(thumbs: Tensor, length: int) -> Iterator[Tensor]:
    """Pieces of the film in [-1, 1] that overlap by what one pair needs on both sides."""
    reach = _reach(length)
    padded = torch.cat([thumbs[:1].expand(reach, -1), thumbs, thumbs[-1:].expand(reach + length, -1)])
    for start in range(0, len(thumbs), _BLOCK):
        yield padded[start : start + _BLOCK + 2 * reach + length].float() / 127.5 - 1


def _reach(length: int) -> int:
    """Frames before and after in which there must not be much motion."""
    return 2 if length == 1 else 6


def _unexplained(x: Tensor, length: int) -> Tensor:
    """(n,): of each pair s and s + length, what speaks against a change; infinite where they are too much alike."""
    reach = _reach(length)
    n = len(x) - 2 * reach - length
    old, new = x[reach : reach + n], x[reach + length :][:n]
    step = new - old
    far = _mean_square(step).clamp(min=1e-8)
    wrong = torch.maximum(*(_mean_square(old - x[reach - k :][:n]) for k in (1, reach)))
    wrong += torch.maximum(*(_mean_square(new - x[reach + length + k :][:n]) for k in (1, reach)))
    for k in range(1, length):
        here = x[reach + k :][:n] - old
        share = (here * step).mean(dim=1) / far
        rest = _mean_square(here - share[:, None] * step)
        wrong += _MIXTURE * (rest + _MIXTURE * far * (share - k / length) ** 2) / length
    least = _LEAST["cut" if length == 1 else "dissolve"]
    return torch.where(far > least**2, wrong / far, torch.inf)


def _mean_square(x: Tensor) -> Tensor:
    return x.square().mean(dim=1)


# --- what to show ----------------------------------------------------------------------------------------------------


def liveliness(thumbs: Tensor, energy: Tensor | None, changes: Sequence[Change]) -> Tensor:
    """(F,) float64: motion and loudness of each frame, each in deviations from its own mean over the film, added.

    Args:
        thumbs: (F, N) uint8 of `thumbnails`; motion is the mean difference from the frame before, and across a change
            of shot the median of the film.
        energy: (F,), the mean square of the sound during each frame; None for a silent film.
    """
    parts = [thumbs[i : i + _BLOCK + 1].short() for i in range(0, len(thumbs) - 1, _BLOCK)]
    motion = torch.cat([part.diff(dim=0).abs().double().mean(dim=1) for part in parts])
    motion = torch.cat([motion[:1], motion])
    for change in changes:
        motion[change.start : change.end + 1] = motion.median()
    level = torch.zeros_like(motion) if energy is None else 10 * torch.log10(energy.double() + 1e-6)
    return _standard(motion) + _standard(level)


def _standard(values: Tensor) -> Tensor:
    return (values - values.mean()) / values.std(correction=0).clamp(min=1e-9)


def choose(score: Tensor, lengths: Sequence[int], changes: Sequence[Change] = (), *, overlap: int = 0) -> list[int]:
    """Where clips of given lengths begin in the source so that the sum of the scores of their frames is largest.

    The clips keep their order and share no frame. As few as possible contain a change of shot; among all such choices
    the sum decides. With V_i(t) the most that clips i to n can bring if they begin at frame t or later,

        V_i(t) = max over s ≥ t of  score of clip i at s + V_{i+1}(s + length_i + overlap).

    Args:
        score: (F,) of the source's frames.
        lengths: of the clips, in frames.
        overlap: frames that each clip but the last goes on under the next one.

    Returns:
        The first frame of each clip.

    Raises:
        ValueError: the source has fewer frames than the clips need.
    """
    needs = [length + overlap for length in lengths[:-1]] + [lengths[-1]]
    n = len(score)
    if sum(needs) > n:
        raise ValueError(
            f"the clips need {sum(needs)} frames, transitions included, and the film has {n}; "
            "ask for fewer seconds, or for cuts"
        )
    marks = np.zeros(n + 1)
    for change in changes:
        marks[change.start : change.end + 1] = 1
    marks, sums = marks.cumsum(), np.concatenate([[0.0], score.double().numpy().cumsum()])
    best, later = [], np.zeros(n + 1)
    for length, need in zip(lengths[::-1], needs[::-1], strict=True):
        s = np.arange(n - need + 1)
        crossing = marks[s + need - 1] > marks[s]
        value = sums[s + length] - sums[s] - _CROSSING * crossing + later[s + need]
        # The first of the best at or after each frame: a running maximum from the end, and where it was reached.
        later = np.full(n + 1, -np.inf)
        later[s] = np.maximum.accumulate(value[::-1])[::-1]
        reached = np.where(value == later[s], s, n)
        best.append(np.minimum.accumulate(reached[::-1])[::-1].astype(np.int32))
    starts, t = [], 0
    for first, need in zip(best[::-1], needs, strict=True):
        starts.append(int(first[t]))
        t = starts[-1] + need
    return starts


def even_cuts(n_frames: int, frame_rate: float) -> list[int]:
    """Where a film of n frames is cut into clips of about two seconds."""
    n_clips = max(1, round(n_frames / frame_rate / LONG))
    return [round(i * n_frames / n_clips) for i in range(1, n_clips)]
