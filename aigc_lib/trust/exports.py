"""Every file that the course makes for people leaves through here: with Content Credentials, or with a word that not.

`exported` is the way out, `verify` the way to look at what came back.
"""

import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from aigc_lib.datasets.base import MissingDataPackage
from aigc_lib.training.checkpoints import record_of
from aigc_lib.trust import marks, provenance
from aigc_lib.trust.provenance import GENERATED, Credentials

PICTURES, SOUNDS = (".png", ".webp", ".gif", ".jpg", ".jpeg"), (".wav", ".flac", ".ogg", ".mp3")


@contextmanager
def exported(
    out: Path | str,
    *,
    networks: Iterable[str] = (),
    packages: Mapping[str, str] | None = None,
    parameters: Mapping[str, Any] | None = None,
    source_type: str | None = GENERATED,
    edited: Path | str | None = None,
) -> Iterator[Path]:
    """Where to write a file, so that it appears at `out` complete and signed; stopped before, `out` stays what it was.

        with exported("film.mp4", networks=["stylegan-avatars"], parameters={"seed": 0}) as file:
            write_video(file, frames, 25)

    Without c2pa-python the file appears unsigned, and one line on standard error says so and what to install.

    Args:
        out: the folder is made if need be. An ending that `provenance` does not know is written unsigned, with a line.
        networks: names of shipped checkpoints, to be named with the digests of their weights.
        packages: other software or data that made it, name -> version.
        parameters, source_type, edited: see `provenance.sign`.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: what was written is not of its kind.
        OSError, CheckpointError: `out` cannot be written.
    """
    out = Path(out)
    ingredients = {name: f"sha256:{record_of(name)['sha256']}" for name in networks} | dict(packages or {})
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        file = Path(folder) / out.name
        yield file
        made = {"parameters": parameters, "source_type": source_type, "edited": edited}
        try:
            if out.suffix.lower() not in (*provenance.FORMATS, *provenance.BESIDE):
                raise MissingDataPackage(f"nothing signs {out.suffix or 'files without an ending'} here")
            provenance.sign(file, out, ingredients=ingredients, **made)
        except MissingDataPackage as reason:
            file.replace(out)
            provenance.sidecar(out).unlink(missing_ok=True)  # of another file that was there
            print(f"{out} carries no Content Credentials. {reason}", file=sys.stderr)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What can be said of a file."""

    text: str  # "valid", "tampered", "absent", or "invisible mark found, credentials stripped"
    credentials: Credentials
    mark: marks.Mark

    @property
    def verified(self) -> bool:
        return self.credentials.state == "valid"


STRIPPED = "invisible mark found, credentials stripped"
MEANING = {
    "valid": "that it is what was signed; not who signed it, for the certificate is on no trust list",
    "tampered": "that it was changed or damaged after it was signed",
    "absent": "nothing: it never had credentials or lost them, and no mark of this installation was found",
    STRIPPED: "that what this installation marked is in it, or was copied into it",
}


def verify(path: Path | str) -> Verdict:
    """Whether a file is what was signed; if it has no credentials, whether it holds this installation's mark.

    A mark is looked for in pictures and sounds, not in films.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a folder, or an ending that has no credentials here.
        MissingDataPackage: c2pa-python or cryptography is not installed.
    """
    path = Path(path)
    found = provenance.read(path)
    mark = _mark(path) if found.state == "absent" else marks.Mark()
    return Verdict(text=STRIPPED if mark.found else found.state, credentials=found, mark=mark)


def _mark(path: Path) -> marks.Mark:
    """What is not a picture or a sound that can be read has no mark."""
    try:
        if path.suffix.lower() in PICTURES:
            return marks.find_in_picture(np.asarray(Image.open(path).convert("RGB")))
        if path.suffix.lower() in SOUNDS:
            audio, rate = soundfile.read(path, always_2d=True)
            return marks.find_in_sound(audio.mean(axis=1).clip(-1, 1), rate)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, soundfile.LibsndfileError):
        pass
    return marks.Mark()
