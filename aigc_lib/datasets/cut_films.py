"""Films that were cut by rule, so that every cut and dissolve in them is known: for measuring shot detection."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Change(NamedTuple):
    """From one shot to the next. Frames before `start` show the old one alone, from `end` on the new one alone."""

    start: int
    end: int  # = start for a cut, whose first frame of the new shot it is

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2

    @property
    def kind(self) -> str:
        return "dissolve" if self.end > self.start else "cut"


def cut_film(
    pictures: Sequence[Tensor],
    clips: Sequence[Tensor],
    n_shots: int,
    *,
    size: tuple[int, int] = (72, 128),
    generator: torch.Generator,
) -> tuple[Tensor, list[Change]]:
    """Shots of 20 to 44 frames, half of them joined by cuts, half by dissolves of 6 to 20 frames.

    Nothing in a shot stands still. Over a picture a camera pans by up to a third of the width, zooms by up to a quarter
    and trembles; a large thing, a piece of another picture, crosses half of these shots; exposure drifts; and one shot
    in four has a flash of one frame, which is no cut. A clip moves by itself and takes part as it is.

    Args:
        pictures: at least two, (3, H, W) in [-1, 1], larger than `size`. Neighbours in the film are different ones.
        clips: real shots (F ≥ 36, 3, H, W), seen forth and back; every fourth shot or so is a stretch of one.
        n_shots: of the film, at least 1.

    Returns:
        Frames (F, 3, *size) in [-1, 1], and the changes in order.
    """
    film, changes, last = torch.empty(0, 3, *size), [], -1
    fades = [int(_uniform(generator, 6, 21)) if _uniform(generator) < 0.5 else 0 for _ in range(n_shots - 1)] + [0]
    for fade_in, fade_out in zip([0, *fades], fades, strict=False):
        n = fade_in + int(_uniform(generator, 20, 45)) + fade_out
        choices = [k for k in range(len(pictures) + len(clips)) if k != last]
        weights = torch.tensor([1.0 if k < len(pictures) else len(pictures) / 3 / len(clips) for k in choices])
        last = choices[torch.multinomial(weights, 1, generator=generator).item()]
        if last < len(pictures):
            shot = _moved(pictures[last], pictures[last - 1], n, size, generator)
        else:
            there_and_back = torch.cat([clips[last - len(pictures)], clips[last - len(pictures)].flip(0)])
            start = int(_uniform(generator, 0, max(0, len(there_and_back) - n)))
            shot = F.interpolate(there_and_back[start : start + n], size, mode="bilinear", antialias=True)
        kept = len(film) - fade_in
        if len(film):
            changes.append(Change(kept, len(film)))
        share = ((torch.arange(fade_in) + 1) / (fade_in + 1)).view(-1, 1, 1, 1)
        mixed = (1 - share) * film[kept:] + share * shot[:fade_in]
        film = torch.cat([film[:kept], mixed, shot[fade_in:]])
    return film.clamp(-1, 1), changes


def _uniform(generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()


def _moved(picture: Tensor, other: Tensor, n: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """(n, 3, *size): a camera that moves over a picture."""
    t = torch.linspace(-0.5, 0.5, n)
    width = _uniform(generator, 0.35, 0.6)  # of what is seen, as a share of the picture's
    scale = width * (1 + t * _uniform(generator, -0.25, 0.25))
    centre = torch.stack(
        [_uniform(generator, -0.25, 0.25) + t * width * _uniform(generator, -0.66, 0.66) for _ in "xy"]
    )
    centre = centre + 0.004 * torch.randn(2, n, generator=generator)
    shot = _seen(picture, centre, scale, size)
    if _uniform(generator) < 0.5:
        top, half = int(size[0] * _uniform(generator, 0, 0.5)), size[0] // 2
        thing = F.interpolate(other[None, :, :200, :200], (half, half), mode="bilinear", antialias=True)[0]
        for k, left in enumerate(torch.linspace(-half, size[1], n).int().tolist()):
            seen = slice(max(0, left), min(size[1], left + half))
            shot[k, :, top : top + half, seen] = thing[:, :, seen.start - left : seen.stop - left]
    light = 1 + t * _uniform(generator, -0.2, 0.2)
    if _uniform(generator) < 0.25:
        light[int(_uniform(generator, 0.3, 0.7) * n)] = 1.6
    return ((shot + 1) * light.view(-1, 1, 1, 1) - 1).clamp(-1, 1)


def _seen(picture: Tensor, centre: Tensor, scale: Tensor, size: tuple[int, int]) -> Tensor:
    """Windows of a picture: centre (2, n) and half-width (n,) as shares of the picture's half-width."""
    height, width = picture.shape[1:]
    n = len(scale)
    square = width / height * size[0] / size[1]  # so that pixels stay square
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = scale, scale * square, centre.T
    grid = F.affine_grid(theta, [n, 3, *size], align_corners=False)
    shrunk = F.interpolate(picture[None], scale_factor=min(1.0, 2.5 * size[1] / width), mode="bilinear", antialias=True)
    return F.grid_sample(shrunk.expand(n, -1, -1, -1), grid, padding_mode="reflection", align_corners=False)
