"""Speech: one synthetic speaker who reads short English sentences."""

import importlib.util
import math

import numpy as np
import torch
from tqdm.auto import tqdm

from aigc_lib.datasets.base import Items, MissingDataPackage, SpeechItem, split_of, stable_hash
from aigc_lib.datasets.cache import prepared
from aigc_lib.datasets.provenance import info
from aigc_lib.datasets.sources import install_command, verify
from aigc_lib.datasets.text import sentence_groups, zh_en_pairs

VOICE_RATE = 24_000
RATES = (8_000, 12_000, 16_000, 24_000)


def speech(split: str, n: int = 200, sample_rate: int = VOICE_RATE, seed: int = 0) -> Items[SpeechItem]:
    """A corpus of one neural voice (hibari "heart"), about 2 seconds a sentence, with text and phonemes.

    The sentences are the English sides of `zh-en`, in an order drawn from the seed, so sentence i of a seed is the same
    whatever `n` is. The split of a sentence is that of its pair there: what is held out for translation is held out
    here. Audio has 16 bits, as a recording would. The same sentence and seed give the same samples on one machine; on
    another CPU they may differ by rounding.

    Args:
        n: how many sentences are spoken for all splits together, 30 to 4,000; about 80, 10 and 10 percent of them are
            in the splits.
        sample_rate: 24,000 hertz is the voice's own; for 8,000, 12,000 and 16,000 it is filtered and resampled.
        seed: another one gives other sentences, and another noise in the breath and the hissing sounds.

    Returns:
        Items whose phonemes are one character each, as the voice's own dictionary writes them.
    """
    if not 30 <= n <= 4000:
        raise ValueError(f"expected n from 30 to 4000, got {n}")
    if sample_rate not in RATES:
        raise ValueError(f"expected a sample rate of {', '.join(map(str, RATES))} hertz, got {sample_rate}")
    entry = info("speech")
    verify(entry)
    chosen = sentences(seed)[:n]
    texts = [text for text, _, _ in chosen]

    def build() -> dict[str, np.ndarray]:
        speak = _voice()
        progress = tqdm(texts, desc="speaking sentences", leave=False)
        spoken = [speak(text, stable_hash("speech", seed, text)) for text in progress]
        audio = [_to_16_bits(wave) for _, wave in spoken]
        return {
            "audio": np.concatenate(audio),
            "lengths": np.array([len(wave) for wave in audio]),
            "phonemes": np.array([phonemes for phonemes, _ in spoken]),
        }

    arrays = prepared(entry, build, seed=seed, texts=stable_hash(*texts))
    waves = np.split(arrays["audio"], np.cumsum(arrays["lengths"])[:-1])
    return Items(
        (
            SpeechItem(
                audio=torch.from_numpy(_resample(wave, sample_rate).astype(np.float32) / 2**15),
                sample_rate=sample_rate,
                text=text,
                phonemes=str(phonemes),
                key=f"{key}/{seed}",
            )
            for (text, key, group), wave, phonemes in zip(chosen, waves, arrays["phonemes"], strict=True)
            if split_of(group) == split
        ),
        info=entry,
        split=split,
    )


def spoken(text: str, sample_rate: int = VOICE_RATE, *, seed: int = 0) -> torch.Tensor:
    """Any English sentence in the voice of the corpus, (T,) float32, of 16 bits.

    Raises:
        ValueError: sample rate.
        MissingDataPackage: the voice is not installed.
    """
    if sample_rate not in RATES:
        raise ValueError(f"expected a sample rate of {', '.join(map(str, RATES))} hertz, got {sample_rate}")
    _, wave = _voice()(text, seed)
    return torch.from_numpy(resampled(wave, sample_rate))


def sentences(seed: int) -> list[tuple[str, str, str]]:
    """(text, key, group) of every different English sentence, in the order of the seed."""
    pairs = zh_en_pairs()
    groups = sentence_groups([(pair.source, pair.target) for pair in pairs])
    unique = {pair.target: (pair.target, pair.key, group) for pair, group in zip(pairs, groups, strict=True)}
    return sorted(unique.values(), key=lambda sentence: stable_hash("order", seed, sentence[0]))


def _voice():
    """A function (text, seed) -> (phonemes, float waveform at 24 kHz)."""
    if importlib.util.find_spec("hibari") is None:
        raise MissingDataPackage(f"speaking needs hibari-tts. Run: {install_command(dict(info('speech').packages))}")
    from hibari import Hibari

    voice = Hibari()  # "heart", the one voice inside the package; others would be downloaded

    def speak(text: str, seed: int) -> tuple[str, np.ndarray]:
        phonemes = " ".join(voice.phonemize(text))
        return phonemes, voice.from_phonemes(phonemes, seed=seed)

    return speak


def resampled(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """What the voice says, (T,) float at 24 kHz, as float32 of 16 bits at one of `RATES`."""
    return _resample(_to_16_bits(wave), sample_rate).astype(np.float32) / 2**15


def _resample(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """16 bits at 24 kHz to 16 bits at the new rate."""
    if sample_rate == VOICE_RATE:
        return wave
    from scipy.signal import resample_poly

    divisor = math.gcd(sample_rate, VOICE_RATE)
    return _to_16_bits(resample_poly(wave / 2**15, sample_rate // divisor, VOICE_RATE // divisor))


def _to_16_bits(wave: np.ndarray) -> np.ndarray:
    """[-1, 1] to int16; clipped where a filter overshoots."""
    return np.clip(np.rint(wave * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
