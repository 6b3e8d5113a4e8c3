"""What all vocoders are trained on and judged by: stretches of speech, each with its log-mel spectrogram."""

import torch
from torch import Tensor

from aigc_lib import datasets
from aigc_lib.datasets.speech import spoken
from aigc_lib.models.mel import MelConfig, check_audio, log_mel

HOUR = 1_800  # sentences of the corpus, about two seconds each; spoken on first use, which takes minutes
HELD_OUT = 200  # so many sentences hold enough to be judged by, and a larger corpus begins with the same
SILENCE = 10 ** (-40 / 20)  # root mean square of a stretch; below it there is nothing to learn but the noise of zero
_MEL = MelConfig()


class Segments:
    """Every stretch of `n_samples` that begins at a frame of an utterance of the speech corpus and is not silent.

    A training example is one such stretch, so `Recipe.n_examples` is `len(segments)` and `Recipe.batch(indices)` is
    `segments.batch(indices)`: the engine's data order draws them, and a resumed run sees the same ones.

    The mel is a cut from that of the whole utterance: its frames at the edges know the sound beyond, as they do when a
    whole utterance is spoken. A loss that compares mels of generated and true segments must take both from the
    segments, with `log_mel(audio)`. Utterances are cut at their ends to a multiple of the hop, less than a frame.

    Args:
        split: "train", "validation" or "test".
        n_samples: length of a stretch, a multiple of the hop.
        config: of the mel; its sample rate is what the corpus is resampled to.
        n_sentences: how many sentences the corpus has, all splits together.

    Raises:
        ValueError: n_samples is no multiple of the hop, or longer than every utterance.
    """

    def __init__(
        self,
        split: str,
        n_samples: int,
        config: MelConfig = _MEL,
        *,
        n_sentences: int = HOUR,
    ) -> None:
        hop = config.hop_length
        if n_samples < hop or n_samples % hop:
            raise ValueError(f"n_samples must be a multiple of the hop of {hop} samples, got {n_samples}")
        self.config, self.n_samples, self.n_frames = config, n_samples, n_samples // hop
        audio, mels, starts, begin = [], [], [], 0
        for sound, _ in utterances(split, config, n_sentences=n_sentences):
            audio.append(sound[0])
            mels.append(log_mel(sound, config)[0])
            powers = sound.view(-1, hop).square().mean(dim=1)
            if len(powers) >= self.n_frames:
                loud = powers.unfold(0, self.n_frames, 1).mean(dim=1).sqrt() >= SILENCE
                starts.append(begin + loud.nonzero().squeeze(1))
            begin += len(powers)
        self._starts = torch.cat(starts) if starts else torch.empty(0, dtype=torch.int64)
        if not len(self._starts):
            raise ValueError(f"no utterance of the {split!r} split has {n_samples} samples of sound")
        self._audio = torch.cat(audio).view(-1, hop)  # (F, hop)
        self._mel = torch.cat(mels, dim=1).T.contiguous()  # (F, M)

    def __len__(self) -> int:
        return len(self._starts)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Stretches at `indices` (B,), each 0 to len − 1: audio (B, n_samples) and mel (B, M, n_samples / hop)."""
        frames = self._starts[indices][:, None] + torch.arange(self.n_frames)  # (B, F)
        return self._audio[frames].flatten(1), self._mel[frames].transpose(1, 2).contiguous()


def utterances(
    split: str,
    config: MelConfig = _MEL,
    *,
    n_sentences: int = HOUR,
) -> list[tuple[Tensor, str]]:
    """Whole sentences of a split: audio (1, T), cut at its end to a multiple of the hop, and text."""
    found = []
    for item in datasets.load("speech", split, n=n_sentences, sample_rate=config.sample_rate):
        audio = item.audio[None, : len(item.audio) // config.hop_length * config.hop_length]
        check_audio(audio, item.sample_rate, config)
        found.append((audio, item.text))
    return found


def say(text: str, config: MelConfig = _MEL, *, seed: int = 0) -> Tensor:
    """A sentence of anybody's own in the voice of the corpus, (1, T) with T a multiple of the hop.

    Its `log_mel` is what the vocoders are asked to speak: the voice stands in for the front half of text to speech.

    Args:
        text: English.
        seed: of the noise in the breath and the hissing sounds.

    Raises:
        ValueError: there is nothing to say in the text.
        ModuleNotFoundError: hibari-tts is not installed.
    """
    if not any(letter.isalpha() for letter in text):
        raise ValueError(f"expected an English sentence, got {text!r}")
    wave = spoken(text, config.sample_rate, seed=seed)
    audio = wave[None, : len(wave) // config.hop_length * config.hop_length]
    check_audio(audio, config.sample_rate, config)
    return audio
