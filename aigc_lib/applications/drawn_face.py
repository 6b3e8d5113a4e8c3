"""A face drawn from numbers: the picture of a presenter for one pose, as vectors, so that it is sharp at every size.

The drawing is an SVG of 400 by 400 units that resvg renders. Nothing in it is random but the colours and the haircut,
which a generator chooses once (`Look`); everything that moves is in `Pose`, and the same pose gives the same pixels.
"""

import importlib.util
import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from aigc_lib.datasets.base import MissingDataPackage, from_bytes
from aigc_lib.datasets.provenance import info
from aigc_lib.datasets.sources import install_command

SIDES = (64, 1080)  # pixels of height and width that can be drawn
SKINS = (("#f6d3b8", "#e6b392"), ("#eebf98", "#d69c70"), ("#d79f70", "#b97e50"), ("#a8714a", "#875534"))
HAIRS = (("#2b2225", "#453539"), ("#5a3825", "#7a5037"), ("#9c6a35", "#bb8748"), ("#3a3f4b", "#545b6b"))
CLOTHES = (("#27496d", "#1d3752"), ("#7a3048", "#5c2336"), ("#2f6b5e", "#235046"), ("#4b4a6b", "#393852"))
WALLS = (("#dbe9f4", "#b9d2e6"), ("#f2e6d8", "#e0cbb2"), ("#e2ecdf", "#c2d6bd"), ("#e9e2f0", "#cfc3df"))
IRISES = ("#5b4a32", "#3f6a8a", "#4e7a56", "#6b4a3a")
CUTS = ("short", "bob", "long")
INSIDE, TEETH, TONGUE = "#4a0f1c", "#fbfbff", "#d9606c"  # of the mouth
LIP, SHINE, SEAM = "#b8574f", "#c77b74", "#7e2f30"  # the seam is the line between closed lips


@dataclass(frozen=True, kw_only=True)
class Mouth:
    """All from 0 to 1."""

    opening: float = 0.0  # between the lips; 0 is closed
    width: float = 0.5  # 0 pursed, 1 spread
    rounding: float = 0.0  # lips pushed forward
    teeth: float = 0.0  # how far the upper row comes into sight
    tongue: float = 0.0  # how far it is raised
    tuck: float = 0.0  # lower lip under the upper teeth, as for f


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Everything that moves."""

    mouth: Mouth = Mouth()
    blink: float = 0.0  # 0 eyes open, 1 shut
    brows: float = 0.0  # -1 down, 1 up
    smile: float = 0.0  # -1 corners of the mouth down, 1 up
    shift: tuple[float, float] = (0.0, 0.0)  # of the head, right and down, in units of 1/400 of the picture
    tilt: float = 0.0  # degrees, clockwise
    turn: float = 0.0  # -1 to the left of the picture, 1 to the right


@dataclass(frozen=True, kw_only=True)
class Look:
    """Colours (light, shaded) and haircut."""

    skin: tuple[str, str]
    hair: tuple[str, str]
    clothes: tuple[str, str]
    wall: tuple[str, str]
    iris: str
    cut: str


def random_look(generator: torch.Generator) -> Look:
    """One of 3,072 looks."""

    def one_of(choices):
        return choices[int(torch.randint(len(choices), (), generator=generator))]

    return Look(
        skin=one_of(SKINS),
        hair=one_of(HAIRS),
        clothes=one_of(CLOTHES),
        wall=one_of(WALLS),
        iris=one_of(IRISES),
        cut=one_of(CUTS),
    )


def draw(look: Look, pose: Pose, size: tuple[int, int] = (320, 320)) -> Tensor:
    """The picture (3, height, width) in [-1, 1].

    Args:
        look: see `random_look`.
        pose: see there; numbers outside of their ranges draw a strange face and no error.
        size: height and width in pixels, `SIDES[0]` to `SIDES[1]` each, odd or even. What is wider or higher than a
            square shows more of the wall.

    Raises:
        ValueError: size.
        MissingDataPackage: resvg-py, which turns vectors into pixels, is not installed.
    """
    height, width = check_size(size)
    from resvg_py import svg_to_bytes

    png = svg_to_bytes(svg_string=svg(look, pose, width / height), width=width, height=height, skip_system_fonts=True)
    pixels = np.array(Image.open(io.BytesIO(bytes(png))).convert("RGB"))
    return from_bytes(torch.from_numpy(pixels).permute(2, 0, 1))


def check_size(size: tuple[int, int]) -> tuple[int, int]:
    """`size` itself; ValueError or MissingDataPackage, as `draw`, before any work is done."""
    if len(size) != 2 or not all(isinstance(side, int) and SIDES[0] <= side <= SIDES[1] for side in size):
        raise ValueError(f"size has to be (height, width) of {SIDES[0]} to {SIDES[1]} pixels each, got {size}")
    if importlib.util.find_spec("resvg_py") is None:
        raise MissingDataPackage(f"drawing needs resvg-py. Run: {install_command(dict(info('avatars').packages))}")
    return size


def svg(look: Look, pose: Pose, aspect: float = 1.0) -> str:
    """The drawing as SVG, `aspect` times as wide as high."""
    width, height = (400 * aspect, 400) if aspect >= 1 else (400, 400 / aspect)
    dx, dy = pose.shift
    features = f'transform="translate({7 * pose.turn:.2f} {0.3 * dy:.2f})"'  # they turn further than the outline
    box = f"{200 - width / 2:.2f} {400 - height:.2f} {width:.2f} {height:.2f}"
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" stroke-linecap="round">
{_definitions(look, pose)}
<rect x="-4000" y="-4000" width="8000" height="8000" fill="url(#wall)"/>
<circle cx="200" cy="180" r="172" fill="{look.wall[1]}" fill-opacity="0.55"/>
<g transform="translate({dx:.2f} {dy:.2f}) rotate({pose.tilt:.3f} 200 290)">{_hair_behind(look)}</g>
{_body(look, dx)}
<g transform="translate({dx:.2f} {dy:.2f}) rotate({pose.tilt:.3f} 200 290)">
{_head(look, pose)}
<g {features}>{_eye(look, pose, 157)}{_eye(look, pose, 243)}{_brows(look, pose)}{_nose(look)}{_mouth(look, pose)}</g>
{_hair_in_front(look, pose)}
</g></svg>"""


def _definitions(look: Look, pose: Pose) -> str:
    lids = "".join(f'<clipPath id="eye{x}"><path d="{_eye_shape(x)}"/></clipPath>' for x in (157, 243))
    return f"""<defs>
<linearGradient id="wall" x1="0" y1="0" x2="0" y2="1" gradientUnits="userSpaceOnUse" gradientTransform="scale(1 400)">
<stop offset="0" stop-color="{look.wall[0]}"/><stop offset="1" stop-color="{look.wall[1]}"/></linearGradient>
<radialGradient id="cheek"><stop offset="0" stop-color="#e2726a" stop-opacity="0.32"/>
<stop offset="1" stop-color="#e2726a" stop-opacity="0"/></radialGradient>
<clipPath id="head"><path d="{_head_shape(pose)}"/></clipPath>
<clipPath id="inside"><path d="{_inner_lips(pose)}"/></clipPath>{lids}</defs>"""


def _body(look: Look, dx: float) -> str:
    light, shade = look.clothes
    neck = f"translate({0.5 * dx:.2f} 0)"  # it follows the head a little
    return f"""
<path d="M168 262 L160 306 L200 356 L240 306 L232 262 Z" fill="{look.skin[1]}" transform="{neck}"/>
<path d="M40 420 C44 350 74 330 128 316 L166 302 L200 352 L234 302 L272 316 C326 330 356 350 360 420 Z" fill="{light}"/>
<path d="M166 300 L200 346 L234 300 L246 306 L214 420 L186 420 L154 306 Z" fill="#f7f7f4"/>
<path d="M166 300 L200 348 L180 366 L154 305 Z M234 300 L200 348 L220 366 L246 305 Z" fill="#e3e5e6"/>
<path d="M152 304 L128 316 L150 362 L140 376 L190 420 L192 420 Z
 M248 304 L272 316 L250 362 L260 376 L210 420 L208 420 Z"
 fill="{shade}"/>"""


def _head_shape(pose: Pose) -> str:
    chin = 284 + 14 * pose.mouth.opening  # the jaw follows the mouth
    return (
        f"M200 66 C262 66 290 112 288 168 C287 214 270 244 248 266 C232 {chin - 6:.2f} 216 {chin:.2f} 200 {chin:.2f} "
        f"C184 {chin:.2f} 168 {chin - 6:.2f} 152 266 C130 244 113 214 112 168 C110 112 138 66 200 66 Z"
    )


def _head(look: Look, pose: Pose) -> str:
    light, shade = look.skin
    ears = "".join(
        f'<ellipse cx="{x}" cy="186" rx="13" ry="22" fill="{light}"/>'
        f'<path d="M{x - 3 * s} 174 q{7 * s} 12 {s} 24" fill="none" stroke="{shade}" stroke-width="4"/>'
        for x, s in ((112 - 3 * pose.turn, -1), (288 - 3 * pose.turn, 1))
    )
    cheeks = "".join(f'<circle cx="{x + 6 * pose.turn:.2f}" cy="222" r="25" fill="url(#cheek)"/>' for x in (148, 252))
    fringe = "M100 60 H300 V128 Q250 112 200 120 Q150 112 100 128 Z"  # the shadow of the hair
    return f"""{ears}<path d="{_head_shape(pose)}" fill="{light}"/>
<g clip-path="url(#head)"><path d="{fringe}" fill="{shade}" fill-opacity="0.55"/>
{cheeks}</g>"""


def _eye_shape(x: float) -> str:
    return f"M{x - 22} 180 C{x - 14} 160 {x + 14} 160 {x + 22} 180 C{x + 13} 194 {x - 13} 194 {x - 22} 180 Z"


def _eye(look: Look, pose: Pose, x: float) -> str:
    """White, iris, pupil and a spot of light, and over them the lid; a smile lifts the lower lid."""
    shut = min(1.0, 0.12 + 0.88 * pose.blink)
    edge = 163 + 26 * shut  # middle of the lid's edge
    side = 180 + 4 * shut
    low = 191 - 5 * max(pose.smile, 0.0) * (1 - pose.blink)
    lid = f"M{x - 23} {side:.2f} C{x - 13} {edge:.2f} {x + 13} {edge:.2f} {x + 23} {side:.2f}"
    gaze = 2.5 * pose.turn
    return f"""<g clip-path="url(#eye{x})"><rect x="{x - 24}" y="156" width="48" height="44" fill="#fdfdfd"/>
<rect x="{x - 24}" y="156" width="48" height="16" fill="#c9cdd6" fill-opacity="0.6"/>
<circle cx="{x + gaze:.2f}" cy="178" r="12.5" fill="{look.iris}"/>
<circle cx="{x + gaze:.2f}" cy="178" r="6" fill="#15110f"/>
<circle cx="{x + gaze + 4:.2f}" cy="173" r="3" fill="#fff"/>
<path d="M{x - 24} 200 V{low:.2f} Q{x} {low + 8:.2f} {x + 24} {low:.2f} V200 Z" fill="{look.skin[0]}"/>
<path d="{lid} V150 H{x - 23} Z" fill="{look.skin[1]}"/></g>
<path d="{lid}" fill="none" stroke="#2a1c1a" stroke-width="4"/>"""


def _brows(look: Look, pose: Pose) -> str:
    y, inner = 148 - 7 * pose.brows, 2 - 4 * pose.brows  # lowered brows lean inwards
    paths = (
        f"M132 {y + 3:.2f} Q152 {y - 11:.2f} 179 {y + inner:.2f} M268 {y + 3:.2f} Q248 {y - 11:.2f} 221 {y + inner:.2f}"
    )
    return f'<path d="{paths}" fill="none" stroke="{look.hair[0]}" stroke-width="7"/>'


def _nose(look: Look) -> str:
    line = "M203 176 C210 198 218 208 210 216 Q200 223 189 215"
    return f'<path d="{line}" fill="none" stroke="{look.skin[1]}" stroke-width="4.5" stroke-linejoin="round"/>'


def _corners(pose: Pose) -> tuple[float, float, float, float]:
    """Half width of the inner mouth, height of its corners, and how far the lips' middles go up and down."""
    mouth = pose.mouth
    half = 23 + 16 * mouth.width - 8 * mouth.rounding + 4 * max(pose.smile, 0.0)
    return half, 240 - 9 * pose.smile, 8 * mouth.opening, 30 * mouth.opening - 1.5 * mouth.tuck


def _inner_lips(pose: Pose) -> str:
    half, y, up, down = _corners(pose)
    bend = 5 * pose.smile  # a smiling mouth hangs through
    x, top, bottom = 0.55 * half, y + bend - 4 / 3 * up, y + bend + 4 / 3 * max(down, -up)
    return (
        f"M{200 - half:.2f} {y:.2f} C{200 - x:.2f} {top:.2f} {200 + x:.2f} {top:.2f} {200 + half:.2f} {y:.2f} "
        f"C{200 + x:.2f} {bottom:.2f} {200 - x:.2f} {bottom:.2f} {200 - half:.2f} {y:.2f} Z"
    )


def _mouth(look: Look, pose: Pose) -> str:
    half, y, up, down = _corners(pose)
    mouth, bend = pose.mouth, 5 * pose.smile
    upper, lower = 7 + 3 * mouth.rounding, 9.5 + 3 * mouth.rounding - 4 * mouth.tuck  # thickness of the lips
    wide, x, middle = half + 3, 0.5 * half, y + bend
    low = middle + max(down, -up) + lower  # lower edge of the lower lip
    top, bottom = middle - 4 / 3 * (up + upper), middle + 4 / 3 * (low - middle)
    bow = middle - up - upper + 2.5
    lips = (
        f"M{200 - wide:.2f} {y:.2f} C{200 - x:.2f} {top:.2f} {200 - 0.3 * x:.2f} {top - 1:.2f} 200 {bow:.2f} "
        f"C{200 + 0.3 * x:.2f} {top - 1:.2f} {200 + x:.2f} {top:.2f} {200 + wide:.2f} {y:.2f} "
        f"C{200 + x:.2f} {bottom:.2f} {200 - x:.2f} {bottom:.2f} {200 - wide:.2f} {y:.2f} Z"
    )
    row = middle - up - 3 + 11 * mouth.teeth  # lower edge of the upper teeth; at 0 behind the lip
    tip = middle + down - 6 * mouth.opening - (0.45 * (up + down) + 2) * mouth.tongue  # upper edge of the tongue
    return f"""<path d="{lips}" fill="{LIP}"/>
<path d="M{200 - 0.3 * half:.2f} {low - 0.5 * lower:.2f} q{0.3 * half:.2f} 3 {0.6 * half:.2f} 0" fill="none"
 stroke="{SHINE}" stroke-width="3"/>
<path d="{_inner_lips(pose)}" fill="{INSIDE}" stroke="{SEAM}" stroke-width="2"/>
<g clip-path="url(#inside)"><ellipse cx="200" cy="{tip + 14:.2f}" rx="{0.6 * half:.2f}" ry="14" fill="{TONGUE}"/>
<rect x="{200 - 0.8 * half:.2f}" y="{row - 18:.2f}" width="{1.6 * half:.2f}" height="18" rx="5" fill="{TEETH}"/></g>
<path d="M186 {low + 7:.2f} q14 5 28 0" fill="none" stroke="{look.skin[1]}" stroke-width="3.5"/>"""


def _hair_behind(look: Look) -> str:
    shape = {
        "short": "M104 176 C84 60 316 60 296 176 L288 200 L112 200 Z",
        "bob": "M96 168 C84 40 316 40 304 168 C310 226 304 254 290 270 L110 270 C96 254 90 226 96 168 Z",
        "long": "M94 168 C80 36 320 36 306 168 C312 250 318 310 326 352 L74 352 C82 310 88 250 94 168 Z",
    }[look.cut]
    return f'<path d="{shape}" fill="{look.hair[0]}"/>'


def _hair_in_front(look: Look, pose: Pose) -> str:
    x = 4 * pose.turn
    fringe = {
        "short": f"M106 172 C96 92 140 44 204 46 C268 48 306 92 294 172 C290 138 278 120 262 110 "
        f"C226 116 {176 + x:.2f} 108 {152 + x:.2f} 96 C132 112 112 136 106 172 Z",
        "bob": "M100 188 C88 84 140 40 202 42 C264 40 312 84 300 188 C292 150 284 134 272 122 "
        "C240 126 160 126 128 122 C116 134 108 150 100 188 Z",
        "long": f"M98 190 C88 84 140 38 200 40 C262 38 312 84 302 190 C298 146 262 112 {214 + x:.2f} 82 "
        f"C{190 + x:.2f} 112 120 128 98 190 Z",
    }[look.cut]
    return f"""<path d="{fringe}" fill="{look.hair[0]}"/>
<path d="M136 84 C160 58 214 52 244 68" fill="none" stroke="{look.hair[1]}" stroke-width="9" stroke-opacity="0.8"/>"""
