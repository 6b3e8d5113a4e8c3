"""Speech with times: the times are those by which the sound was built."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, sosfiltfilt

from aigc_lib.datasets.speech import VOICE_RATE, spoken
from aigc_lib.datasets.timed_speech import STEP, Span, speak

SENTENCE = "The cat sat on the mat."
WORDS = ("stop", "seven", "photograph", "bees", "window", "thirty", "yes")


def test_the_sound_is_bit_for_bit_that_of_the_corpus():
    assert torch.equal(speak(SENTENCE, seed=3).audio, spoken(SENTENCE, seed=3))


def test_words_and_phonemes_come_in_order_inside_the_sound():
    said = speak(SENTENCE)
    assert [word.text for word in said.words] == ["The", "cat", "sat", "on", "the", "mat."]
    for spans in (said.words, said.phonemes):
        assert all(span.start < span.end for span in spans)
        assert all(first.end <= second.start + 1e-9 for first, second in pairwise(spans))
    assert said.words[0].start >= 0
    assert said.words[-1].end <= len(said.audio) / said.sample_rate


def test_every_phoneme_lies_in_a_word():
    said = speak("Seven bees, please!")
    for phoneme in said.phonemes:
        assert any(word.start - 1e-9 <= phoneme.start and phoneme.end <= word.end + 1e-9 for word in said.words)


def test_between_sentences_it_is_quiet_where_the_times_say_so():
    said = speak("Stop. Go on.")
    stop, go = said.words[0], said.words[1]
    assert go.start - stop.end > 0.2
    quiet = said.audio[round((stop.end + 0.1) * VOICE_RATE) : round((go.start - 0.1) * VOICE_RATE)]
    loud = said.audio[round(stop.start * VOICE_RATE) : round(stop.end * VOICE_RATE)]
    assert quiet.square().mean() < 0.001 * loud.square().mean()


def test_a_vowel_sounds_within_its_times():
    """Independent of the network's own opinion: the loudest 25 ms of "car" lie in its vowel, give or take one step."""
    said = speak("Car.")
    vowel = next(p for p in said.phonemes if "ɑ" in p.text)
    energy = said.audio.unfold(0, 600, 600).square().mean(dim=1)
    assert vowel.start - STEP <= (int(energy.argmax()) + 0.5) * STEP <= vowel.end + STEP


def test_hissing_starts_and_ends_when_the_times_say_so():
    """Independent of the network: energy above 4.5 kHz crosses the middle between hiss and vowel, in decibels."""
    late = []
    for text in ("I see a lesser face.", "A classy icy essay.", "We saw a lacy sofa.", "You assume he is a sissy."):
        said = speak(text)
        high = sosfiltfilt(butter(4, 4500, "high", fs=VOICE_RATE, output="sos"), said.audio.numpy())
        level = 10 * np.log10(np.convolve(high**2, np.hanning(240) / 120, "same") + 1e-10)
        for hiss in (p for p in said.phonemes[1:-1] if p.text == "s"):
            peak = round((hiss.start + hiss.end) / 2 * VOICE_RATE)
            around = level[peak - 3600 : peak + 3600]  # 150 ms to each side
            edges = np.flatnonzero(np.diff((around > (around.max() + np.percentile(around, 15)) / 2).astype(int)))
            for edge, time in ((edges[edges < 3600].max(), hiss.start), (edges[edges >= 3600].min(), hiss.end)):
                late.append((edge - 3600 + peak) / VOICE_RATE - time)
    assert len(late) >= 16
    assert abs(np.median(late)) < 0.015
    assert np.median(np.abs(late)) < 0.025


def test_a_phoneme_before_a_pause_ends_where_it_is_no_longer_heard():
    """ "Go." is over long before the pause that the network counts in; pauses last a quarter of a second."""
    said = speak("Go. Go.")
    first, second = said.words
    assert second.start - first.end > 0.4
    assert first.end - first.start < 0.45


def test_what_belongs_together_on_the_page_is_one_word():
    said = speak('It cost $1,250 in New-York, "really"!')
    assert [word.text for word in said.words] == ["It", "cost", "$1,250", "in", "New-York,", '"really"!']


def test_a_long_sentence_is_said_whole():
    said = speak("word " * 150)
    assert [word.text for word in said.words] == ["word"] * 150


@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=4), speed=st.sampled_from([0.5, 1.0, 2.0]))
@settings(max_examples=8, deadline=None)
def test_words_come_back_as_they_were_written(words, speed):
    said = speak(" ".join(words) + ".", speed=speed)
    assert [word.text.rstrip(".") for word in said.words] == words


def test_slower_takes_longer():
    assert speak(SENTENCE, speed=0.5).words[-1].end > 1.5 * speak(SENTENCE, speed=1.0).words[-1].end


def test_resampled_speech_lasts_as_long():
    said = speak(SENTENCE, 16_000)
    assert abs(len(said.audio) / 16_000 - len(speak(SENTENCE).audio) / VOICE_RATE) < 1e-3


@pytest.mark.parametrize("text", ["", "  ", "?!", "你好"])
def test_what_cannot_be_said_is_an_error(text):
    with pytest.raises(ValueError, match="can be said in English"):
        speak(text)


@pytest.mark.parametrize(("options", "message"), [({"sample_rate": 44_100}, "sample rate"), ({"speed": 3.0}, "speed")])
def test_bad_numbers_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        speak(SENTENCE, **options)


def test_a_span_is_what_was_said_and_when():
    assert Span(text="a", start=0.0, end=1.0).end == 1.0
