"""Training a WaveNet on instrument notes, given pitch, instrument and velocity."""

from pathlib import Path
from typing import ClassVar

import soundfile
import torch
from torch import Tensor, nn

from aigc_lib import datasets
from aigc_lib.datasets.notes import INSTRUMENTS, PITCHES, VELOCITIES
from aigc_lib.models.wavenet import WaveNet, WaveNetConfig, mu_law_decode
from aigc_lib.training.recipe import Budget, Context
from aigc_lib.training.recipes.wavenet import WaveNetLearning

RATE = 16_000  # hertz
JUDGED = 24  # held-out notes at most that the evaluation plays


class NotesWaveNet(WaveNetLearning):
    """An example is a whole note of one second, so that the network learns how notes begin and die away."""

    name = "wavenet-notes"
    dataset = "notes"
    condition = "labels"
    samples_suffix = ".wav"
    budgets: ClassVar[dict[str, Budget]] = {
        "smoke": Budget(steps=4, batch_size=1, log_every=1, n_previews=1),
        "laptop": Budget(steps=10, batch_size=2, log_every=1, checkpoint_every=50, n_previews=6),
        "gpu": Budget(steps=30_000, batch_size=16, log_every=100, checkpoint_every=1_000, n_previews=8),
    }

    @classmethod
    def default_config(cls) -> WaveNetConfig:
        return WaveNetConfig(n_classes=(len(PITCHES), len(INSTRUMENTS), len(VELOCITIES)))

    def prepare(self, context: Context, total_steps: int) -> None:
        self.context = context
        self.parts = {name: part.to(context.device) for name, part in self.build(self.config).items()}
        audio, labels = zip(*self.notes("train"), strict=True)
        self.audio, self.labels = torch.cat(audio), torch.cat(labels)
        self.begin()

    @property
    def n_examples(self) -> int:
        return len(self.audio)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.audio[indices], self.labels[indices]

    @classmethod
    def notes(cls, split: str, n: int | None = None) -> list[tuple[Tensor, Tensor]]:
        """`n` notes of a split, spread over all instruments, or all: audio (1, T) and labels (1, 3)."""
        notes = datasets.load(cls.dataset, split)
        n = min(n or len(notes), len(notes))
        chosen = [notes[i * len(notes) // n] for i in range(n)]
        return [(note.audio[None], labels_of(note.pitch, note.instrument, note.velocity)[None]) for note in chosen]

    @staticmethod
    def play(network: WaveNet, labels: Tensor, *, generator: torch.Generator) -> Tensor:
        """Notes of one second, (B, T), for labels (B, 3)."""
        levels = network.generate(RATE, labels=labels, generator=generator)
        return mu_law_decode(levels.cpu(), network.config.n_levels)

    def preview(self) -> Tensor:
        """A held-out note, always from the same labels and random numbers, int16 (1, T)."""
        ((_, labels),) = self.notes("validation", 1)
        sounds = self.play(self.ema.module, labels, generator=torch.Generator().manual_seed(0))
        return (sounds * 32767).round().to(torch.int16)

    def save_preview(self, preview: Tensor, stem: Path) -> None:
        soundfile.write(stem.with_suffix(".wav"), preview.flatten().numpy(), RATE)

    @classmethod
    def sample(cls, parts: dict[str, nn.Module], out: Path, *, n: int, generator: torch.Generator) -> Path:
        """At most `n` notes of the test split, played from their labels, one after another."""
        if out.suffix.lower() not in (".wav", ".flac", ".ogg"):
            raise ValueError(f"sound goes into a .wav, .flac or .ogg file, got {out.name!r}")
        labels = torch.cat([labels for _, labels in cls.notes("test", n)])
        out.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(out, cls.play(parts["model"], labels, generator=generator).flatten().numpy(), RATE)
        return out

    @classmethod
    def evaluate(cls, parts: dict[str, nn.Module], *, n: int, generator: torch.Generator) -> dict[str, float]:
        """Bits a sample; and the share of notes that, played anew, are within half a semitone of what was asked for.

        Only of notes whose pitch `pitch_of` hears in the recording: marimbas and organs have stronger overtones.
        """
        notes = cls.notes("test", min(n, JUDGED))
        recorded, labels = (torch.cat(each) for each in zip(*notes, strict=True))
        asked = torch.tensor(PITCHES)[labels[:, 0]]
        played = cls.play(parts["model"], labels, generator=generator)
        in_tune, heard = (((pitch_of(sounds) - asked).abs() <= 0.5) for sounds in (played, recorded))
        return {
            "bits a sample": cls.bits(parts["model"], notes),
            "in tune": in_tune[heard].float().mean().item(),
        }


def labels_of(pitch: int, instrument: str, velocity: int) -> Tensor:
    """(3,): which pitch, instrument and velocity of those in the data set.

    Raises:
        ValueError: there is none such; the text says which there are.
    """
    for name, value, known in (
        ("pitch", pitch, PITCHES),
        ("instrument", instrument, list(INSTRUMENTS)),
        ("velocity", velocity, VELOCITIES),
    ):
        if value not in known:
            raise ValueError(f"expected as {name} one of {', '.join(map(str, known))}, got {value!r}")
    return torch.tensor([PITCHES.index(pitch), list(INSTRUMENTS).index(instrument), VELOCITIES.index(velocity)])


def pitch_of(sounds: Tensor) -> Tensor:
    """The pitch of notes (B, T) as MIDI numbers (B,): the first strong peak of the autocorrelation.

    Strong is 0.85 of the highest: multiples of a period are as similar as the period itself. Lags are those of 110 to
    1,250 hertz, refined by the parabola through the peak and its neighbours.
    """
    spectrum = torch.fft.rfft(sounds.double(), 2 * sounds.shape[1]).abs().square()
    similar = torch.fft.irfft(spectrum)[:, : RATE // 110 + 2]
    before, here, after = similar[:, :-2], similar[:, 1:-1], similar[:, 2:]
    peaks = (here >= before) & (here > after)
    peaks[:, : RATE // 1250 - 1] = False
    highest = here.where(peaks, -torch.inf).amax(dim=1, keepdim=True)
    peaks &= here >= 0.85 * highest
    lag = peaks.int().argmax(dim=1, keepdim=True)
    left, top, right = (each.gather(1, lag) for each in (before, here, after))
    offset = ((left - right) / (2 * (left - 2 * top + right))).nan_to_num()
    return (69 + 12 * torch.log2(RATE / (lag + 1 + offset) / 440)).squeeze(1)
