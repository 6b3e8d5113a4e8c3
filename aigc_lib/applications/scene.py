"""Virtual reality (虚拟现实) in one file: a generated world all around, sounds with directions, and a game on the beat.

Land and sky are noise on the sphere, the portraits and kites are painted by StyleGAN, the sounds are those of
`sound_effects`, the tune is Irish and its drum generated; trees and whatever sounds are drawn by Twemoji's people. All
of it goes into one HTML file that needs no network: a browser shows it, with the head of `binaural` between the ears.
"""

import base64
import io
import json
import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage
from scipy.signal import resample_poly
from torch import Tensor, nn
from tqdm.auto import tqdm

from aigc_lib import datasets
from aigc_lib.applications import binaural, note_map, panorama
from aigc_lib.applications.panorama import EYE, LIGHTS, Billboard
from aigc_lib.applications.sound_effects import ambience, effect
from aigc_lib.datasets.effects import AMBIENCES, EFFECTS, SAMPLE_RATE
from aigc_lib.datasets.images import emoji_files
from aigc_lib.datasets.notes import play
from aigc_lib.datasets.provenance import info
from aigc_lib.datasets.sources import verify
from aigc_lib.training.checkpoints import load, write_whole
from aigc_lib.trust.exports import exported

# What sounds, and how it looks: Twemoji's key, metres wide, metres above the ground, metres away.
SOUNDING = {
    "fire": ("1f525", 1.3, 0.0, 4.5),
    "chirp": ("1f426", 0.7, 2.6, 6.0),
    "bell": ("1f514", 0.9, 2.2, 7.0),
    "drum": ("1f941", 1.0, 0.0, 5.0),
    "rain": ("1f327", 5.0, 8.0, 16.0),
    "engine": ("1f69c", 2.6, 0.0, 9.0),
}
TREES = ("1f332", "1f333", "1f332")
MUSIC = (6.0, 120.0)  # seconds
TEMPI = (95.0, 150.0)  # quarters a minute of the tune
_AHEAD = math.radians(28)  # to either side: kept free, there the blocks come from
_LOOP = 2.5  # seconds until a sound begins again


def scene(
    out: Path | str,
    *,
    light: str = "dusk",
    sounds: Sequence[str] = ("fire", "chirp", "bell"),
    music: Path | str | None = None,
    seconds: float = 24.0,
    level: str = "normal",
    height: int = 1536,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Write a world that a browser shows from the disk, and beside it the note map of its game, as .json.

    Args:
        out: a path ending in .html.
        light: "day", "dusk" or "night".
        sounds: kinds of `SOUNDING`, none twice; they stand around the viewer.
        music: a sound file of 6 to 120 seconds to play to; None makes a tune with a drum.
        seconds: how long that tune is, 6 to 120.
        level: of the game: "easy", "normal" or "expert".
        height: of the panorama in pixels, even, 64 to 2,048; it is twice as wide.
        seed: of everything random.
        progress: show a progress bar.

    Returns:
        `out`, as a path. Stopped before the end, neither file is written.

    Raises:
        ValueError: another suffix, an unknown light, sound or level, sizes out of range, music without a beat.
        FileNotFoundError: no such music, or a trained network is missing.
        MissingDataPackage: of Twemoji or of the instruments.
        CheckpointError: `out` cannot be written.
    """
    out = Path(out)
    if out.suffix.lower() != ".html":
        raise ValueError(f"a scene goes into a file that ends in .html, got {out.name!r}")
    if light not in LIGHTS:
        raise ValueError(f"unknown light {light!r}; there are: {', '.join(LIGHTS)}")
    if wrong := [kind for kind in sounds if kind not in SOUNDING]:
        raise ValueError(f"unknown sound {wrong[0]!r}; there are: {', '.join(SOUNDING)}")
    if len(set(sounds)) < len(sounds):
        raise ValueError(f"each sound may be there once, got {', '.join(sounds)}")
    if music is None and not MUSIC[0] <= seconds <= MUSIC[1]:
        raise ValueError(f"the tune lasts {MUSIC[0]:g} to {MUSIC[1]:g} seconds, got {seconds:g}")
    rays = panorama.directions(height)
    generator = torch.Generator().manual_seed(seed)
    with tqdm(total=4, desc="scene", disable=not progress) as bar:
        effects = load("stylegan-effects")
        if music is not None:
            audio, rate = read_music(music)
        else:
            audio, rate = tune_with_drum(effects, seconds, generator=generator)[0], SAMPLE_RATE
        game = note_map.note_map(audio, rate, level=level, generator=generator)
        bar.update()
        heard = {kind: sound_of(effects, kind, generator=generator) for kind in sounds}
        bar.update()
        picture = panorama.landscape(rays, LIGHTS[light], seed=seed)
        things = furnish(picture, rays, light, sounds, generator=generator)
        bar.update()
        for thing in things:
            if thing["kind"] in heard:
                thing["sound"] = _flac(heard[thing["kind"]], SAMPLE_RATE)
        content = {
            "panorama": _data_uri("image/webp", _webp(picture)),
            "things": things,
            "music": _flac(audio, rate),
            "map": game,
            "head": {"radius": binaural.HEAD, "speed": binaural.SPEED},
            "credits": f"Trees and things that sound: {info('emoji').attribution} ({info('emoji').licence})",
        }
        page = page_of(content)
        write_whole(out.with_suffix(".json"), json.dumps(game, indent=1).encode())
        made = {"light": light, "sounds": list(sounds), "level": level, "seed": seed}
        with exported(out, networks=["stylegan-effects"], parameters=made) as file:
            file.write_text(page, encoding="utf-8")
        bar.update()
    return out


def page_of(content: dict) -> str:
    """The viewer with its content: one file that asks for no other."""
    viewer = resources.files("aigc_lib.applications").joinpath("viewer.html").read_text(encoding="utf-8")
    # "<" could end the script element that holds the data.
    return viewer.replace("/*CONTENT*/null", json.dumps(content).replace("<", "\\u003c"))


# --- what is seen ----------------------------------------------------------------------------------------------------


def furnish(
    picture: Tensor, rays: Tensor, light: str, sounds: Sequence[str], *, generator: torch.Generator
) -> list[dict]:
    """Draw trees, portraits, kites and what sounds into a landscape (3, H, W).

    Returns:
        Of what is worth a look: kind, name, azimuth and elevation (radians), distance (metres).
    """

    def even(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=generator).item()

    twemoji = emoji_files(verify(info("emoji")).values())
    faces = load("stylegan-avatars").sample(4, truncation=0.7, generator=generator)
    # Of 24 kites the five that are neither crumbs nor sheets.
    kites = map(cut_out, load("stylegan-emoji").sample(24, truncation=0.6, generator=generator))
    kites = sorted(kites, key=lambda kite: abs(kite[3].mean() - 0.55))[:5]
    # Around the viewer, clockwise from ahead: sounds and portraits in turn, each in a sector of its own.
    names = [("portrait", i) for i in range(len(faces))]
    for i, kind in enumerate(sounds):
        names.insert(2 * i, (kind, i))
    sector = 2 * (math.pi - _AHEAD) / len(names)
    standing = []  # picture, metres wide, metres above the ground, azimuth, metres away, kind
    for i, (kind, k) in enumerate(names):
        azimuth = _AHEAD + (i + 0.5 + even(-0.2, 0.2)) * sector
        if kind == "portrait":
            standing.append((portrait(faces[k]), 1.3, 0.0, azimuth, even(4, 6), "portrait"))
        else:
            key, width, above, away = SOUNDING[kind]
            standing.append((_drawn(twemoji[key]), width, above, azimuth, away, kind))
    for i in range(60):
        azimuth = even(_AHEAD, 2 * math.pi - _AHEAD)
        standing.append((_drawn(twemoji[TREES[i % len(TREES)]]), even(3, 5.5), -0.1, azimuth, even(13, 60), "tree"))
    for kite in kites:
        standing.append((kite, even(2, 3), even(6, 14), even(_AHEAD, 2 * math.pi - _AHEAD), even(14, 26), "kite"))

    colours = LIGHTS[light]
    tint, haze = (torch.tensor(colour).view(3, 1, 1) for colour in (colours.tint, colours.horizon))
    things = []
    for sprite, width, above, azimuth, away, kind in sorted(standing, key=lambda each: -each[4]):
        tall = width * sprite.shape[1] / sprite.shape[2]
        elevation = math.atan2(above + tall / 2 - EYE, away)
        reach = math.hypot(away, above + tall / 2 - EYE)
        if above < 1:
            panorama.put_shadow(picture, rays, azimuth, away, 0.45 * width)
        shown = sprite[:3] if kind == "fire" else sprite[:3] * tint
        shown = torch.lerp(haze, shown, math.exp(-away / 90))
        board = Billboard(
            picture=torch.cat([shown, sprite[3:]]), azimuth=azimuth, elevation=elevation, width=width / reach
        )
        panorama.put(picture, rays, board)
        if kind in SOUNDING or kind == "portrait":
            name = f"{kind} {(EFFECTS | AMBIENCES | {'portrait': '肖像'})[kind]}"
            place = {"azimuth": round(math.remainder(azimuth, 2 * math.pi), 4), "elevation": round(elevation, 4)}
            things.append({"kind": kind, "name": name, "distance": round(reach, 2)} | place)
    return sorted(things, key=lambda thing: thing["azimuth"])


def cut_out(image: Tensor) -> Tensor:
    """(3, H, W) in [-1, 1] on white → (4, 4H, 4W): clear where it is white as far as the edge."""
    colour = (image.clamp(-1, 1) + 1) / 2
    areas, _ = ndimage.label((colour.amin(dim=0) > 0.85).numpy())
    border = np.concatenate([areas[0], areas[-1], areas[:, 0], areas[:, -1]])
    clear = torch.from_numpy(np.isin(areas, border[border > 0]))
    layers = torch.cat([colour, ~clear[None]])
    return layers.repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)


def portrait(image: Tensor) -> Tensor:
    """(3, H, W) in [-1, 1] → (4, …): a picture in a frame, on a post."""
    face = ((image.clamp(-1, 1) + 1) / 2).repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
    h, w = face.shape[1:]
    edge = w // 14
    wood = torch.tensor([0.36, 0.23, 0.13]).view(3, 1, 1)
    board = torch.zeros(4, h + 2 * edge + h // 2, w + 2 * edge)
    board[:3] = wood
    board[3, : h + 2 * edge] = 1
    board[3, :, w // 2 : w // 2 + 2 * edge] = 1
    board[:3, edge : edge + h, edge : edge + w] = face
    return board


def _drawn(path: Path) -> Tensor:
    """(4, 72, 72) of a PNG of Twemoji."""
    pixels = np.asarray(Image.open(path).convert("RGBA"), dtype=np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1) / 255


# --- what is heard ---------------------------------------------------------------------------------------------------


def sound_of(network: nn.Module, kind: str, *, generator: torch.Generator) -> Tensor:
    """(40,000,): an ambience without a seam, or an effect and silence, to be played round and round."""
    if kind in AMBIENCES:
        return ambience(network, kind, _LOOP, generator=generator)
    made = effect(network, kind, 0.9, generator=generator)
    return F.pad(made, (0, round(_LOOP * SAMPLE_RATE) - len(made)))


def tune_with_drum(network: nn.Module, seconds: float, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """An Irish tune in quarters, a generated drum on each of its beats, and a softer step between two.

    Returns:
        (T,) at 16,000 hertz, and the seconds (N,) at which the beats are, as far as they were drummed.
    """
    tunes = datasets.load("oneill")
    straight = [i for i in range(len(tunes)) if tunes[i].metre in ("4/4", "2/4")]
    tune = tunes[straight[int(torch.randint(len(straight), (), generator=generator))]]
    quarter = 60 / (TEMPI[0] + (TEMPI[1] - TEMPI[0]) * torch.rand((), generator=generator).item())
    # What comes before the first bar line is an upbeat (弱起): beats are counted from that line.
    beats = (tune.bars[0] % 1 + torch.arange(math.floor(seconds / quarter) - 1)) * quarter
    length = math.ceil(tune.notes[:, :2].sum(dim=1).max().item())  # quarters, until it begins again
    again = [tune.notes + torch.tensor([start, 0, 0, 0]) for start in range(0, len(beats), length)]
    notes = torch.cat(again)
    melody = play(notes[notes[:, 0] < len(beats)], "marimba", SAMPLE_RATE, quarter=quarter)
    audio = F.pad(melody, (0, max(0, round(seconds * SAMPLE_RATE) - len(melody))))[: round(seconds * SAMPLE_RATE)]
    audio = 0.6 * audio
    for kind, gain, late in (("drum", 0.8, 0.0), ("step", 0.25, 0.5)):
        stroke = gain * effect(network, kind, 0.3, generator=generator)
        stroke = stroke[(stroke.abs() > 0.1 * gain).nonzero()[0, 0] :]  # begins at once
        for start in ((beats + late * quarter) * SAMPLE_RATE).round().long().tolist():
            audio[start : start + len(stroke)] += stroke[: len(audio) - start]
    return audio * (0.9 / audio.abs().max()), beats


def read_music(path: Path | str) -> tuple[Tensor, int]:
    """A sound file as mono, (T,), at most 48,000 hertz.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no sound file, or not 6 to 120 seconds long.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no sound file at {path}")
    try:
        sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{path} is no sound file that can be read ({error}); wav, flac, ogg and mp3 can") from error
    if not MUSIC[0] <= len(sound) / rate <= MUSIC[1]:
        raise ValueError(f"music lasts {MUSIC[0]:g} to {MUSIC[1]:g} seconds, {path} lasts {len(sound) / rate:.1f}")
    if rate > 48_000:
        sound, rate = resample_poly(sound, 48_000, rate, axis=0), 48_000
    return torch.from_numpy(sound.mean(axis=1)).clamp(-1, 1), rate


def _flac(audio: Tensor, rate: int) -> str:
    file = io.BytesIO()
    soundfile.write(file, audio.numpy(), rate, format="FLAC", subtype="PCM_16")
    return _data_uri("audio/flac", file.getvalue())


def _webp(picture: Tensor) -> bytes:
    file = io.BytesIO()
    pixels = (picture * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(file, format="WEBP", quality=88)
    return file.getvalue()


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
