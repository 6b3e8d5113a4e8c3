"""Labels that people see or hear, and the field in a file's metadata, as China's rules for generated content ask.

GB 45438-2025, the mandatory standard that goes with the Measures for Labelling AI-Generated Synthetic Content (in force
since 1 September 2025): letters at least a twentieth of a picture's shorter side, in a film for at least two seconds at
its start; in sound the words, or the Morse code of "AI" as a rhythm; in the metadata a field that has AIGC in its name
and holds JSON. The clauses are taken from reports and from programs that write the field, not from the standard itself.
"""

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

import numpy as np
import soundfile
import torch
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from aigc_lib.datasets.provenance import info
from aigc_lib.datasets.sources import verify
from aigc_lib.training.checkpoints import write_whole

LABEL = "AI 生成 / AI-generated"
LEAST_HEIGHT, LEAST_SECONDS = 0.05, 2.0  # of the shorter side; of a film
DARK = 0.6  # share of the box behind the letters: white on it has a contrast of 5.7 to 1 at least (WCAG 2.2: 4.5)
TONE, DOT = 800.0, 0.08  # Hz; seconds of a dot and of the gap after a sign, a dash lasts three, between letters too
MORSE_AI = (1, 3, 1, 1)  # dots that the four sounds last: A is short long, I is short short
_NAMESPACE = "http://www.tc260.org.cn/ns/AIGC/1.0/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"


def labelled(frames: Tensor, label: str = LABEL) -> Tensor:
    """Pictures (F, 3, H, W) in [-1, 1] with a label in the upper left corner, in lines where one is too long.

    Its capitals are a twentieth of the shorter side high, or 8 pixels, white on a box that darkens what is below.

    Raises:
        ValueError: a label without words, or a picture in which it would not stay whole.
    """
    keep, ink = _label(label, *frames.shape[2:])
    return frames * keep + ink


def labelled_start(chunks: Iterable[Tensor], frame_rate: float, label: str = LABEL) -> Iterator[Tensor]:
    """The chunks (F, 3, H, W) of a film, labelled in its first two seconds."""
    left = int(np.ceil(LEAST_SECONDS * frame_rate)) + 1
    for chunk in chunks:
        n = min(left, len(chunk))
        left -= n
        yield torch.cat([labelled(chunk[:n], label), chunk[n:]]) if n else chunk


@cache
def _label(text: str, height: int, width: int) -> tuple[Tensor, Tensor]:
    """How much of the picture stays, (H, W), and what comes on top, (H, W)."""
    path = str(verify(info("glyphs"))["pylopdf_fonts_zh_cn/NotoSansSC-Regular.otf"])
    capital = ImageFont.truetype(path, 1000).getbbox("I")
    wanted = max(8.0, LEAST_HEIGHT * min(height, width))
    font = ImageFont.truetype(path, np.ceil(1000 * wanted / (capital[3] - capital[1])))
    pad, pitch = 0.4 * font.size, 1.3 * font.size
    lines = []
    for word in text.split():
        for part in [word] if 2 * pad + font.getlength(word) <= width else word.replace("-", "- ").split():
            if lines and 2 * pad + font.getlength(f"{lines[-1]} {part}") <= width:
                lines[-1] += f" {part}"
            else:
                lines.append(part)
    if not lines:
        raise ValueError("a label needs words, got none")
    right, bottom = 2 * pad + max(map(font.getlength, lines)), pad + 0.2 * font.size + pitch * len(lines)
    if right > width or bottom > height:
        raise ValueError(
            f"the label {text!r} needs {right:.0f} x {bottom:.0f} pixels, the picture has {width} x {height}; "
            "enlarge it or shorten the label"
        )
    ground, letters = Image.new("L", (width, height)), Image.new("L", (width, height))
    ImageDraw.Draw(ground).rounded_rectangle((pad, pad, right + pad, bottom), radius=pad, fill=255)
    for i, line in enumerate(lines):
        place = (2 * pad, pad + 0.75 * font.size + i * pitch)
        ImageDraw.Draw(letters).text(place, line, fill=255, font=font, anchor="lm")
    dark, white = (torch.from_numpy(np.array(part)) / 255 for part in (ground, letters))
    return (1 - DARK * dark) * (1 - white), white - (1 - white) * DARK * dark


def announced(audio: Tensor, sample_rate: int) -> Tensor:
    """(T,) in [-1, 1] with the rhythm short long, short short before it, 1.36 s, half as loud as can be."""
    silence, parts = torch.zeros(round(DOT * sample_rate)), []
    for dots in MORSE_AI:
        time = torch.arange(round(dots * DOT * sample_rate)) / sample_rate
        edge = (torch.minimum(time, dots * DOT - time) / 0.005).clamp(0, 1)  # no clicks
        parts += [0.5 * edge * torch.sin(2 * torch.pi * TONE * time), silence]
        parts += [silence] * 2 if dots == 3 else []  # the end of a letter
    return torch.cat([*parts, silence, silence, silence, silence, audio])


def field(produce_id: str, *, producer: str = "AIGC course", label: str = "1") -> dict[str, str]:
    """The field for content that is ("1"), may be ("2") or is suspected to be ("3") generated.

    The names are those of the standard; what is reserved, and what whoever spreads it has to fill in, stays empty.
    """
    if label not in ("1", "2", "3"):
        raise ValueError(f'the label is "1" (generated), "2" (possibly) or "3" (suspected), got {label!r}')
    return {
        **{"Label": label, "ContentProducer": producer, "ProduceID": produce_id, "ReservedCode1": ""},
        **{"ContentPropagator": "", "PropagateID": "", "ReservedCode2": ""},
    }


def write_field(path: Path | str, out: Path | str, content: Mapping[str, str]) -> None:
    """Write a copy of a .png (in XMP) or .wav (as the INFO chunk's comment) with the field. Sign it afterwards.

    Raises:
        ValueError: another ending, or not such a file.
    """
    path, text, file = Path(path), json.dumps(dict(content), ensure_ascii=False), io.BytesIO()
    try:
        if path.suffix.lower() == ".png":
            described = f'<rdf:Description rdf:about="" xmlns:TC260="{_NAMESPACE}" TC260:AIGC={quoteattr(text)}/>'
            packet = (
                f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}">{described}</rdf:RDF></x:xmpmeta>'
            )
            chunks = PngImagePlugin.PngInfo()
            chunks.add_itxt("XML:com.adobe.xmp", packet)
            Image.open(path).save(file, format="png", pnginfo=chunks)
        elif path.suffix.lower() == ".wav":
            audio, rate = soundfile.read(path, dtype="int16", always_2d=True)
            with soundfile.SoundFile(file, "w", rate, audio.shape[1], "PCM_16", format="WAV") as new:
                new.comment = json.dumps({"AIGC": dict(content)})
                new.write(audio)
        else:
            raise ValueError(f"the field is written into .png and .wav files here, got {path.name!r}")
    except (UnidentifiedImageError, soundfile.LibsndfileError) as error:
        raise ValueError(f"{path} cannot be read as {path.suffix}: {error}") from error
    write_whole(Path(out), file.getvalue())


def read_field(path: Path | str) -> dict[str, str] | None:
    """The field of a .png or .wav file; None if there is none that can be read."""
    path = Path(path)
    try:
        if path.suffix.lower() == ".png":
            packet = Image.open(path).info.get("XML:com.adobe.xmp", "")
            name = f"{{{_NAMESPACE}}}AIGC"
            found = (each.get(name) for each in ElementTree.fromstring(packet).iter() if each.get(name))
            return json.loads(next(found))
        with soundfile.SoundFile(path) as sound:
            return json.loads(sound.comment)["AIGC"]
    except (OSError, ValueError, KeyError, TypeError, StopIteration, ElementTree.ParseError, soundfile.LibsndfileError):
        return None
