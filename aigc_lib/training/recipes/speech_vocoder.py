"""What all vocoders have in common: their data, and how they are averaged, heard and judged."""

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import soundfile
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from aigc_lib.metrics.audio import speech_quality
from aigc_lib.models.mel import MelConfig, log_mel
from aigc_lib.training.averaging import averaging
from aigc_lib.training.recipe import Context, Recipe
from aigc_lib.training.recipes.vocoder import HELD_OUT, HOUR, Segments, utterances

MEL = MelConfig()
JUDGED = 16  # held-out sentences at most that the evaluation speaks: recognising them takes its time


class SpeechVocoder(Recipe):
    """A recipe on segments of one voice; a subclass says what its networks are, how they learn and how they speak.

    The learning rate stays where it is once it has risen, and what speaks is an average over the training: a run can be
    continued with more `--steps` at any time, and is good to listen to at any time.
    """

    dataset = "speech"
    samples_suffix = ".wav"
    n_samples: ClassVar[int] = 8192  # of a training segment: half a second
    n_sentences: ClassVar[int] = HOUR
    rise: ClassVar[int] = 100  # steps until the learning rate is what it says

    @staticmethod
    @abstractmethod
    def speak(network: nn.Module, mel: Tensor, *, generator: torch.Generator) -> Tensor:
        """Audio (B, F · hop) in [-1, 1] of the network that is shipped, for mel (B, M, F)."""

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        if (self.config.hop_length, self.config.n_mels) != (MEL.hop_length, MEL.n_mels):
            raise ValueError(
                f"the corpus has {MEL.n_mels} bins and {MEL.hop_length} samples a frame, "
                f"got {self.config.n_mels} and {self.config.hop_length}"
            )

    def prepare(self, context: Context, total_steps: int) -> None:
        self.context = context
        self.parts = {name: part.to(context.device) for name, part in self.build(self.config).items()}
        self.ema = AveragedModel(self.parts[self.main_part], multi_avg_fn=averaging(0.999))
        self.segments = Segments("train", self.n_samples, MEL, n_sentences=self.n_sentences)
        self.shown = self.sentences("validation")[0]

    def start(self, optimisers: dict[str, Optimizer]) -> None:
        """Keep the optimisers; their learning rates rise for the first steps and stay there."""
        self.optimisers = optimisers
        self.schedulers = {
            name: LambdaLR(optimiser, lambda step: min((step + 1) / self.rise, 1))
            for name, optimiser in optimisers.items()
        }

    @property
    def n_examples(self) -> int:
        return len(self.segments)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.segments.batch(indices)

    @classmethod
    def sentences(cls, split: str) -> list[tuple[Tensor, Tensor, str]]:
        """Audio (1, T), mel (1, M, F) and text of the first sentences of a split."""
        spoken = utterances(split, MEL, n_sentences=min(cls.n_sentences, HELD_OUT))
        return [(audio, log_mel(audio, MEL), text) for audio, text in spoken]

    def preview(self) -> Tensor:
        """One held-out sentence, always from the same mel and noise, int16 (1, T)."""
        network, mel = self.inference_parts()[self.main_part], self.shown[1].to(self.context.device)
        spoken = self.speak(network, mel, generator=torch.Generator().manual_seed(0))
        return (spoken.cpu() * 32767).round().to(torch.int16)

    def save_preview(self, preview: Tensor, stem: Path) -> None:
        soundfile.write(stem.with_suffix(".wav"), preview[0].numpy(), MEL.sample_rate)

    @classmethod
    def sample(cls, parts: dict[str, nn.Module], out: Path, *, n: int, generator: torch.Generator) -> Path:
        """At most `n` sentences of the test split, spoken from their mels, a fifth of a second between them."""
        if out.suffix.lower() not in (".wav", ".flac", ".ogg"):
            raise ValueError(f"sound goes into a .wav, .flac or .ogg file, got {out.name!r}")
        spoken = cls._spoken(parts, [mel for _, mel, _ in cls.sentences("test")[:n]], generator)
        pause = torch.zeros(MEL.sample_rate // 5)
        out.parent.mkdir(parents=True, exist_ok=True)
        joined = torch.cat([part for audio in spoken for part in (audio[0], pause)][:-1])
        soundfile.write(out, joined.numpy(), MEL.sample_rate)
        return out

    @classmethod
    def evaluate(cls, parts: dict[str, nn.Module], *, n: int, generator: torch.Generator) -> dict[str, float]:
        """`metrics.audio.speech_quality` of at most 16 test sentences, spoken from the mels of the recordings."""
        truth, mels, texts = zip(*cls.sentences("test")[: min(n, JUDGED)], strict=True)
        return speech_quality(cls._spoken(parts, mels, generator), truth, texts, MEL)

    @classmethod
    def _spoken(cls, parts: dict[str, nn.Module], mels: list[Tensor], generator: torch.Generator) -> list[Tensor]:
        network = parts[cls.main_part]
        place = next(network.parameters()).device
        return [cls.speak(network, mel.to(place), generator=generator).cpu() for mel in mels]
