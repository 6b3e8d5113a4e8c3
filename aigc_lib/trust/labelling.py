"""All four marks of generated content in one file: what people see or hear, metadata, an invisible mark, credentials.

The order is forced: the label changes pixels or samples and so does the mark, which is therefore put over the label;
the field changes the file; Content Credentials hash all of it and come last.
"""

import secrets
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from aigc_lib.trust import labels, marks
from aigc_lib.trust.exports import exported

ROOM = 0.8  # a sound's largest sample before it is marked, for the mark makes some louder


def label_file(
    path: Path | str, out: Path | str, *, text: str = labels.LABEL, number: int | None = None, mark: bool = True
) -> int:
    """Write a labelled, marked and signed copy of a .png picture or of a .wav sound, which are the kinds that hold all.

    A picture gets the words `text`, a sound the rhythm of `labels.announced` before it. Sounds are written with 16 bits
    and made softer, all channels alike, if they exceed 0.8. The field names `number` as what was produced.

    Args:
        path: an RGB, grey or palette picture with 8 bits and no transparency, with room for the words; or a sound.
            To carry a mark, a picture needs 128 pixels a side and texture, a sound about five seconds and 16,000 to
            48,000 Hz.
        out: with the same ending; may be `path`.
        number: 32 bits that the field and the invisible mark say; random if None.
        mark: False for what cannot carry a mark, such as a sheet of small digits.

    Returns:
        The number.

    Raises:
        FileNotFoundError: no such file.
        ValueError: other kinds or endings, or a picture or sound that cannot carry the words or the mark.
    """
    path, out = Path(path), Path(out)
    ending = path.suffix.lower()
    if ending not in (".png", ".wav"):
        raise ValueError(
            f"a label, a field and a mark fit into .png and .wav files, got {path.name!r}; convert it first"
        )
    if out.suffix.lower() != ending:
        raise ValueError(f"a labelled {ending} file stays one, got {out.name!r} to write")
    number = secrets.randbits(32) if number is None else number
    made = {"label": text if ending == ".png" else "Morse code of AI", "number": f"{number:08x}", "marked": mark}
    try:
        if ending == ".png":
            picture = _labelled_picture(path, text)
        else:
            sound, rate = _labelled_sound(path)
    except (UnidentifiedImageError, soundfile.LibsndfileError) as error:
        if not path.exists():
            raise FileNotFoundError(f"no file {path}") from error
        raise ValueError(f"{path} cannot be read as {ending}: {error}") from error
    if mark:
        try:
            if ending == ".png":
                picture = marks.mark_picture(picture, number)
            else:
                sound = np.stack([marks.mark_sound(channel, rate, number) for channel in sound.T], axis=1)
        except ValueError as error:
            raise ValueError(f"{error}; with mark=False (--no-mark) {path.name} is labelled without one") from error
    with exported(out, parameters=made, source_type=None, edited=path) as file:
        if ending == ".png":
            Image.fromarray(picture).save(file)
        else:
            soundfile.write(file, sound, rate, "PCM_16")
        labels.write_field(file, file, labels.field(f"{number:08x}"))
    return number


def _labelled_picture(path: Path, text: str) -> NDArray:
    """(H, W, 3), uint8."""
    with Image.open(path) as image:
        if image.mode not in ("RGB", "L", "P", "1") or "transparency" in image.info:
            raise ValueError(
                f"expected 8 bits a colour and no transparency, got mode {image.mode} in {path.name}; flatten it first"
            )
        pixels = torch.from_numpy(np.array(image.convert("RGB")))
    seen = labels.labelled(pixels.permute(2, 0, 1)[None] / 127.5 - 1, text)[0].permute(1, 2, 0)
    return ((seen + 1) * 127.5).round().clamp(0, 255).byte().numpy()


def _labelled_sound(path: Path) -> tuple[NDArray, int]:
    """(T, channels), float64, and the sample rate."""
    audio, rate = soundfile.read(path, always_2d=True)
    audio = audio * min(1.0, ROOM / max(np.abs(audio).max(initial=0), ROOM))
    return np.stack([labels.announced(torch.from_numpy(channel), rate).numpy() for channel in audio.T], axis=1), rate
