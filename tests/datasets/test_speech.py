"""A corpus of one voice: the same words and noise every time, held-out sentences never spoken in training."""

import pytest
import torch

from aigc_lib.datasets import load, speech
from aigc_lib.datasets.base import SPLITS, MissingDataPackage, stable_hash


@pytest.fixture(scope="module")
def clips():
    return {split: load("speech", split) for split in SPLITS}


def test_every_sentence_is_spoken_once_in_one_split(clips):
    texts = [item.text for data in clips.values() for item in data]
    assert len(set(texts)) == len(texts) == 200


def test_what_is_held_out_here_is_held_out_for_translation(clips):
    for split, data in clips.items():
        assert {item.text for item in data} <= {pair.target for pair in load("zh-en", split)}


def test_audio_is_audible_16_bit_speech_of_a_plausible_length(clips):
    for item in clips["train"]:
        assert item.sample_rate == 24_000
        assert item.audio.dtype == torch.float32
        assert torch.equal(item.audio * 2**15, (item.audio * 2**15).round())
        assert 0.02 < item.audio.abs().max() <= 1
        seconds_a_word = len(item.audio) / item.sample_rate / len(item.text.split())
        assert 0.15 < seconds_a_word < 1.6
        assert item.phonemes


def test_lower_rates_hold_the_same_sound(clips):
    full = clips["test"][0]
    half = load("speech", "test", sample_rate=12_000)[0]
    assert half.text == full.text
    assert abs(len(half.audio) - len(full.audio) / 2) <= 1
    low = torch.fft.rfft(full.audio)[: len(half.audio) // 3].abs()  # below 4 kHz
    torch.testing.assert_close(2 * torch.fft.rfft(half.audio)[: len(low)].abs(), low, atol=0.02 * low.max(), rtol=0)


def test_the_order_of_sentences_does_not_hang_on_their_number():
    fewer, more = ([item.key for item in load("speech", "train", n=n)] for n in (30, 200))
    assert more[: len(fewer)] == fewer
    assert speech.sentences(0)[:30] != speech.sentences(1)[:30]


def test_speaking_again_gives_the_same_samples(clips):
    speak = speech._voice()
    for item in list(clips["test"])[:2]:
        phonemes, audio = speak(item.text, stable_hash("speech", 0, item.text))
        assert phonemes == item.phonemes
        assert torch.equal(torch.from_numpy(speech._to_16_bits(audio) / 2**15).float(), item.audio)


@pytest.mark.slow
def test_a_recogniser_understands_the_sentences(clips):
    """An independent ear: pocketsphinx hears more than half of the words."""
    import pocketsphinx

    decoder = pocketsphinx.Decoder(samprate=16_000, loglevel="FATAL")
    heard = total = 0
    for item in list(load("speech", "test", sample_rate=16_000))[:6]:
        decoder.start_utt()
        decoder.process_raw((item.audio * 32767).short().numpy().tobytes(), full_utt=True)
        decoder.end_utt()
        words = "".join(c for c in item.text.lower() if c.isalpha() or c in " '").split()
        heard += len(set(words) & set(decoder.hyp().hypstr.split() if decoder.hyp() else []))
        total += len(set(words))
    assert heard > total / 2


@pytest.mark.parametrize(
    ("options", "message"),
    [({"n": 10}, "30 to 4000, got 10"), ({"sample_rate": 22_050}, "8000, 12000, 16000, 24000 hertz, got 22050")],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        load("speech", **options)


def test_without_the_voice_the_command_to_install_it_is_named(monkeypatch):
    monkeypatch.setattr(speech.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingDataPackage, match=r"pip install hibari-tts=="):
        speech._voice()
