"""A landscape all around: a picture of every direction, made by noise on the sphere, with pictures standing in it.

Axis letters: H, W rows and columns of an equirectangular picture (等距柱状投影), W = 2H: a column is an azimuth, a row
an elevation. Directions are unit vectors, x to the right, y up, z ahead. Ahead is the middle of the picture; azimuths
(radians) grow to the right, elevations upwards.

Nothing is painted on the flat picture: colours are functions of the direction, so left and right edge meet and each
pole is one point, by construction. The noise follows K. Perlin, "An image synthesizer", SIGGRAPH 1985; the curve
between its lattice points is that of "Improving noise", SIGGRAPH 2002.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_PERIOD = 32
# Each octave is turned against the one before, lest the lattice shows: a rotation about (1, 1, 1) by 0.7 radians.
_TURN = torch.linalg.matrix_exp(torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) * (0.7 / math.sqrt(3)))
EYE = 1.6  # metres above the ground
HEIGHTS = (64, 2048)
_RIDGES = ((0.19, 0.10, 2.0), (0.10, 0.07, 4.5), (0.06, 0.035, 9.0))  # far to near: elevation, its range, bends


@dataclass(frozen=True, kw_only=True)
class Light:
    """Colours of an hour of the day, RGB in [0, 1]."""

    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    cloud: tuple[float, float, float]
    sun: tuple[float, float, float]
    hill: tuple[float, float, float]
    grass: tuple[float, float, float]
    tint: tuple[float, float, float]  # of what stands in the light
    height: float  # of sun or moon, radians above the horizon
    stars: int


LIGHTS = {
    "day": Light(
        zenith=(0.16, 0.40, 0.80), horizon=(0.76, 0.87, 0.95), cloud=(1.0, 1.0, 1.0), sun=(1.0, 0.97, 0.85),
        hill=(0.23, 0.37, 0.36), grass=(0.33, 0.50, 0.20), tint=(1.0, 1.0, 1.0), height=0.75, stars=0,
    ),
    "dusk": Light(
        zenith=(0.15, 0.15, 0.40), horizon=(0.99, 0.66, 0.42), cloud=(0.97, 0.50, 0.46), sun=(1.0, 0.88, 0.58),
        hill=(0.23, 0.16, 0.33), grass=(0.37, 0.39, 0.24), tint=(0.88, 0.70, 0.66), height=0.30, stars=40,
    ),
    "night": Light(
        zenith=(0.015, 0.025, 0.09), horizon=(0.13, 0.20, 0.36), cloud=(0.19, 0.24, 0.38), sun=(0.93, 0.95, 1.0),
        hill=(0.035, 0.06, 0.12), grass=(0.08, 0.13, 0.15), tint=(0.40, 0.47, 0.66), height=0.60, stars=400,
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Billboard:
    """A flat picture that faces the viewer."""

    picture: Tensor  # (4, h, w) RGB and opacity in [0, 1], not multiplied
    azimuth: float  # of its middle
    elevation: float
    width: float  # of its plane at distance 1: twice the tangent of half the angle that it fills


def direction(azimuth: float, elevation: float) -> Tensor:
    """(3,) float64 unit vector."""
    across = math.cos(elevation)
    vector = [across * math.sin(azimuth), math.sin(elevation), across * math.cos(azimuth)]
    return torch.tensor(vector, dtype=torch.float64)


def directions(height: int) -> Tensor:
    """(3, H, 2H) float64, of the middles of all pixels.

    Raises:
        ValueError: height not even, or not 64 to 2,048.
    """
    if height % 2 or not HEIGHTS[0] <= height <= HEIGHTS[1]:
        raise ValueError(f"a panorama has an even height of {HEIGHTS[0]} to {HEIGHTS[1]:,} pixels, got {height}")
    step = math.pi / height
    azimuth = (torch.arange(2 * height, dtype=torch.float64) + 0.5) * step - math.pi
    elevation = (math.pi / 2 - (torch.arange(height, dtype=torch.float64) + 0.5) * step)[:, None]
    across = elevation.cos()
    return torch.stack([across * azimuth.sin(), elevation.sin().expand(-1, 2 * height), across * azimuth.cos()])


class Noise:
    """A random smooth function of space: normal numbers on a lattice that repeats after 32, and a curve in between."""

    def __init__(self, generator: torch.Generator):
        lattice = torch.randn(1, 1, _PERIOD, _PERIOD, _PERIOD, generator=generator)
        self.lattice = F.pad(lattice, (0, 1) * 3, mode="circular")

    def __call__(self, points: Tensor, octaves: int, finest: Tensor | float = 0.0) -> Tensor:
        """(3, …) → (…): octaves twice as fine and half as strong each; what is finer than `finest` (…) is left out."""
        total = torch.zeros(points.shape[1:])
        for octave in range(octaves):
            seen = torch.as_tensor(2 - 2 * finest * 2**octave).clamp(0, 1)  # gone where a pixel is a cell wide
            cell = points.floor()
            inside = points - cell
            curve = inside**3 * (inside * (inside * 6 - 15) + 10)
            grid = ((cell % _PERIOD + curve) * (2 / _PERIOD) - 1).float().flatten(1).T[None, None, None]
            found = F.grid_sample(self.lattice, grid, align_corners=True).view(points.shape[1:])
            total += 0.5**octave * seen * found
            points = 2 * torch.einsum("ij,j...->i...", _TURN.to(points), points) + 3.7
        return total


def landscape(rays: Tensor, light: Light, *, seed: int) -> Tensor:
    """Sky with clouds and a sun or moon, three ranges of hills, and a meadow.

    Args:
        rays: (3, H, W) directions, all of a column of one azimuth (where the hills' edges are looked up).
        light: colours.
        seed: another one is another landscape.

    Returns:
        (3, H, W) float32 in [0, 1].
    """
    generator = torch.Generator().manual_seed(seed)
    noise = Noise(generator)
    colours = (light.zenith, light.horizon, light.cloud, light.sun, light.hill, light.grass)
    zenith, horizon, cloud, sun, hill, grass = (torch.tensor(colour).view(3, 1, 1) for colour in colours)
    up = rays[1].float()
    elevation, pixel = up.asin(), math.pi / rays.shape[1]

    picture = torch.lerp(horizon, zenith, up.clamp(min=0) ** 0.6)
    if light.stars:
        stars = F.normalize(torch.randn(light.stars, 3, generator=generator), dim=1)
        nearest = torch.stack([(stars @ row.float()).amax(dim=0) for row in rays.unbind(dim=1)])
        picture = picture + 0.9 * torch.exp((nearest - 1) / (0.3 * max(pixel, 0.003)) ** 2) * (up > 0)
    place = direction((torch.rand((), generator=generator).item() * 0.8 + 0.25) * math.pi, light.height)
    towards = torch.einsum("i,ihw->hw", place, rays).float().clamp(-1, 1)
    picture = torch.lerp(picture, sun.expand_as(picture), 0.55 * torch.exp((towards - 1) * 9))
    disc = ((towards.acos() - 0.035) / -pixel + 0.5).clamp(0, 1)
    picture = torch.lerp(picture, sun.expand_as(picture), disc)

    # Clouds lie on a shell: seen flat, they are drawn out towards the horizon, and thin out there.
    half = rays.shape[1] // 2
    above = rays[:, :half].float()
    height = above[1] + 0.22
    cover = ((noise(above / height * 0.9 + 7, 5, finest=0.9 * pixel / height) + 0.1) * 0.9).clamp(0, 1)
    cover = cover * cover * (3 - 2 * cover) * (above[1] / 0.12).clamp(0, 1)
    thick = noise(above / height * 0.9 + 7.25, 3, finest=0.9 * pixel / height)  # a little beside: light and shade
    lit = torch.lerp(cloud, sun, 0.35 * torch.exp((towards[:half] - 1) * 3)) * (0.93 - 0.07 * thick)
    picture[:, :half] = torch.lerp(picture[:, :half], lit, 0.85 * cover)

    column = F.normalize(rays[:, rays.shape[1] // 2] * torch.tensor([[1.0], [0.0], [1.0]]), dim=0)  # (3, W), level
    for i, (middle, spread, bends) in enumerate(_RIDGES):
        edge = (middle + spread * noise(column * bends + 13 * i, 5)).clamp(min=0.004)
        inside = ((edge - elevation) / pixel + 0.5).clamp(0, 1)
        haze = torch.lerp(horizon, hill, 0.3 + 0.22 * i)
        picture = torch.lerp(picture, torch.lerp(haze, horizon, 0.35 * (1 - elevation / edge).clamp(0, 1)), inside)

    reach = EYE / -rays[1, half:].float()  # metres to where a ray meets the ground
    ground = rays[:, half:].float() * reach
    finest = pixel * reach**2 / EYE  # metres of ground that a pixel covers
    tufts = 0.20 * noise(ground * 5.0, 5, finest=5.0 * finest) + 0.14 * noise(ground * 0.15, 3, finest=0.15 * finest)
    meadow = grass * (1 + tufts) * (0.75 + 0.25 * (reach / 6).clamp(max=1))
    picture[:, half:] = torch.lerp(meadow, torch.lerp(horizon, hill, 0.55), 1 - torch.exp(-reach / 90))
    return picture.clamp(0, 1)


def put(panorama: Tensor, rays: Tensor, billboard: Billboard) -> None:
    """Draw a billboard into a panorama (3, H, W) by gnomonic projection (球心投影): a camera sees it flat."""
    ahead, right, up = axes(billboard.azimuth, billboard.elevation)
    h, w = billboard.picture.shape[1:]
    tall = billboard.width * h / w
    reach = math.atan(math.hypot(billboard.width, tall) / 2) + math.pi / rays.shape[1]
    rows = (rays[1, :, 0].asin() - billboard.elevation).abs() <= reach
    depth, x, y = (torch.einsum("i,ihw->hw", axis, rays[:, rows]) for axis in (ahead, right, up))
    hit = (depth > 0) & (x.abs() < depth * billboard.width) & (y.abs() < depth * tall)
    grid = torch.stack([2 * x[hit] / (depth[hit] * billboard.width), -2 * y[hit] / (depth[hit] * tall)], dim=-1).float()
    colour, opacity = billboard.picture[:3], billboard.picture[3:]
    layers = torch.cat([colour * opacity, opacity])[None]  # multiplied, so that what is clear lends no colour
    # Where a pixel of the panorama covers several of the picture, the picture is averaged first.
    coarse = math.floor(w * math.pi / rays.shape[1] / billboard.width)
    layers = F.avg_pool2d(layers, coarse, ceil_mode=True) if coarse > 1 else layers
    found = F.grid_sample(layers, grid[None, None], align_corners=False)[0, :, 0]  # beyond its edge it is clear
    band = panorama[:, rows]
    band[:, hit] = band[:, hit] * (1 - found[3:]) + found[:3]
    panorama[:, rows] = band


def put_shadow(panorama: Tensor, rays: Tensor, azimuth: float, away: float, radius: float) -> None:
    """Draw a soft shadow on the ground of a panorama (3, H, W), `away` metres from the viewer, so many metres wide."""
    half = rays.shape[1] // 2
    ground = (rays[[0, 2], half:] * (EYE / -rays[1:2, half:])).float()  # (2, H / 2, W)
    middle = away * direction(azimuth, 0.0)[[0, 2], None, None].float()
    panorama[:, half:] *= 1 - 0.55 * torch.exp(-((ground - middle) / radius).square().sum(dim=0))


def axes(azimuth: float, elevation: float) -> Tensor:
    """(3, 3) float64: ahead, right and up of somebody who looks there with a level head."""
    ahead = direction(azimuth, elevation)
    right = direction(azimuth + math.pi / 2, 0.0)
    return torch.stack([ahead, right, torch.linalg.cross(ahead, right)])


def view(panorama: Tensor, azimuth: float, elevation: float, width: float, size: tuple[int, int]) -> Tensor:
    """What a camera sees: the panorama (3, H, W) on a plane at distance 1 that is `width` wide, (3, *size) pixels."""
    ahead, right, up = axes(azimuth, elevation)
    h, w = size
    x = ((torch.arange(w, dtype=torch.float64) + 0.5) / w - 0.5) * width
    y = (0.5 - (torch.arange(h, dtype=torch.float64) + 0.5) / h) * width * h / w
    ray = ahead[:, None, None] + right[:, None, None] * x + up[:, None, None] * y[:, None]
    ray = ray / ray.norm(dim=0)
    column = torch.atan2(ray[0], ray[2]) / math.pi  # -1 to 1, edge to edge
    row = -2 * ray[1].clamp(-1, 1).asin() / math.pi
    # One column of the other edge on either side: between the last column and the first there is no gap.
    wide = F.pad(panorama[None], (1, 1, 0, 0), mode="circular")
    grid = torch.stack([column * panorama.shape[2] / wide.shape[3], row], dim=-1)[None].to(panorama)
    return F.grid_sample(wide, grid, padding_mode="border", align_corners=False)[0]


class Seam(NamedTuple):
    """What is seen where left and right edge meet and at the poles, beside the largest that is seen anywhere inside."""

    jump: float  # mean over the rows of the difference between neighbouring columns
    largest_jump: float
    bend: float  # the same of the second difference, which shows a kink where values meet
    largest_bend: float
    pole: float  # largest difference along the first and the last row, whose pixels are at most a pixel apart
    largest_step: float  # largest difference from one row to the next


def seam_of(panorama: Tensor) -> Seam:
    """Measure a panorama (3, H, W): the mean over channels and rows for the seam, the worst pixel for the poles."""
    first = panorama.roll(-1, dims=2) - panorama  # entry W − 1 crosses the seam
    second = first - first.roll(1, dims=2)  # entries W − 1 and 0 are centred beside it
    jumps, bends = (each.abs().mean(dim=(0, 1)) for each in (first, second))
    ends = panorama[:, [0, -1]]
    pole = (ends.amax(dim=2) - ends.amin(dim=2)).max()
    step = panorama.diff(dim=1).abs().max()
    return Seam(
        *(value.item() for value in (jumps[-1], jumps[:-1].max(), bends[[-1, 0]].max(), bends[1:-1].max(), pole, step))
    )
