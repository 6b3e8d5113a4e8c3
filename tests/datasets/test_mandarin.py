"""Mandarin with times; only where the package of the voice is installed."""

import importlib.util
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, sosfiltfilt

from aigc_lib.datasets import mandarin
from aigc_lib.datasets.base import MissingDataPackage

TEXT = "“爸爸”说：2024年我们用AI…… 好吗？"
needs_voice = pytest.mark.skipif(not mandarin.installed(), reason="espeakng-loader is not installed")


@needs_voice
def test_characters_come_in_order_with_their_punctuation():
    said = mandarin.speak(TEXT)
    expected = ["“爸", "爸”", "说：", "2024", "年", "我", "们", "用", "AI……", "好", "吗？"]
    assert [word.text for word in said.words] == expected
    for spans in (said.words, said.phonemes):
        assert all(span.start < span.end for span in spans)
        assert all(first.end <= second.start + 1e-6 for first, second in pairwise(spans))
    assert said.words[-1].end <= len(said.audio) / said.sample_rate
    assert said.sample_rate == 22_050
    assert 0.1 < said.audio.abs().max() <= 1


@needs_voice
def test_the_same_text_said_again_takes_as_long():
    first, again = mandarin.speak("你好"), mandarin.speak("你好")
    assert [p.text for p in first.phonemes] == [p.text for p in again.phonemes]
    assert [p.start for p in first.phonemes] == pytest.approx([p.start for p in again.phonemes], abs=2e-3)


@needs_voice
@given(st.text(alphabet="你好世界人工智能，。 \nab1", min_size=1, max_size=12))
@settings(deadline=None, max_examples=30)
def test_nothing_of_a_text_is_lost(text):
    if not any(character.isalnum() for character in text):
        return
    words = mandarin.speak(text).words
    said = "".join(word.text for word in words)
    assert [c for c in said if c.isalnum()] == [c for c in text if c.isalnum()]


@needs_voice
def test_hissing_is_heard_when_the_times_say_so():
    """Energy above 4.5 kHz in 10 ms steps, against the middles of the s and x of this sentence."""
    said = mandarin.speak("他上山去采石头，西安的小学生想说十四。")
    high = sosfiltfilt(butter(4, 4500, "high", fs=said.sample_rate, output="sos"), said.audio.numpy())
    level = np.convolve(high**2, np.ones(220) / 220, "same")
    hissing = [p for p in said.phonemes if p.text in ("s", "s.", "ɕ")]
    vowels = [p for p in said.phonemes if "ɑ" in p.text]
    at = [level[round((p.start + p.end) / 2 * said.sample_rate)] for p in hissing + vowels]
    assert len(hissing) > 5
    assert np.median(at[: len(hissing)]) > 3 * np.median(at[len(hissing) :])


@needs_voice
@pytest.mark.parametrize("text", ["", "  \n", "，。？", "???"])
def test_what_cannot_be_said_is_an_error(text):
    with pytest.raises(ValueError, match="can be said in Mandarin"):
        mandarin.speak(text)


def test_a_text_may_not_hide_its_end():
    with pytest.raises(ValueError, match="NUL"):
        mandarin.speak("你\0好")


def test_a_missing_voice_says_how_to_get_it(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "espeakng_loader" else found(name))
    mandarin._library.cache_clear()
    with pytest.raises(MissingDataPackage, match="pip install espeakng-loader"):
        mandarin.speak("你好")
