"""The meter, on made mouths whose delay is known, and on a film of the presenter."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lib.applications import lip_sync
from aigc_lib.applications.drawn_face import Mouth, Pose, draw, random_look
from aigc_lib.datasets.timed_speech import Span, speak
from aigc_lib.datasets.video_files import write_video

RATE, FRAME_RATE = 16_000, 25
SAYING = [("a", 0.5), ("b", 0.7), ("æ", 0.9), ("p", 1.15), ("a", 1.3), ("m", 1.5), ("i", 1.7)]
PHONEMES = [Span(text=text, start=start, end=start + 0.06) for text, start in SAYING]


def opening_of(phonemes, delay, n_frames=60):
    """A mouth that is widest in the middle of each vowel, and shut in the middle of each p, b and m, `delay` later."""
    times = [0.0, *((p.start + p.end) / 2 + delay for p in phonemes), 10.0]
    height = [0.0, *(0.0 if p.text in "pbm" else 0.01 for p in phonemes), 0.0]
    return torch.tensor(np.interp((np.arange(n_frames) + 0.5) / FRAME_RATE, times, height)).float()


@given(st.floats(-0.2, 0.2))
@settings(deadline=None, max_examples=30)
def test_a_delay_of_the_picture_is_measured_to_half_a_frame(delay):
    assert lip_sync.picture_delay(opening_of(PHONEMES, delay), FRAME_RATE, PHONEMES) == pytest.approx(delay, abs=0.02)


@given(st.floats(-0.05, 0.05))
@settings(deadline=None, max_examples=30)
def test_peaks_and_closures_are_found_where_they_are(delay):
    opening = opening_of(PHONEMES, delay)
    assert np.nanmedian(lip_sync.opening_delays(opening, FRAME_RATE, PHONEMES)) == pytest.approx(delay, abs=0.025)
    shut = (opening > 0.004) * opening
    assert np.nanmedian(lip_sync.closure_delays(shut, FRAME_RATE, PHONEMES)) == pytest.approx(delay, abs=0.025)


def test_a_mouth_that_stays_open_closes_for_nothing():
    assert all(np.isnan(lip_sync.closure_delays(torch.ones(60), FRAME_RATE, PHONEMES)))


@pytest.mark.parametrize("phonemes", [PHONEMES[:1], PHONEMES[1:2], []])
def test_without_vowels_and_closures_there_is_no_measure(phonemes):
    with pytest.raises(ValueError, match=r"vowels and p, b or m"):
        lip_sync.picture_delay(torch.ones(60), FRAME_RATE, phonemes)


def test_the_opening_is_an_area_that_colours_of_skin_do_not_change():
    for seed in range(4):
        look = random_look(torch.Generator().manual_seed(seed))
        poses = [Pose(mouth=Mouth(opening=step / 4, teeth=0.5), shift=(3.0, 2.0), turn=-0.4) for step in range(5)]
        area = lip_sync.mouth_opening(torch.stack([draw(look, pose) for pose in poses]), look)
        assert area[0] < 0.0005
        assert (area.diff() > 0.001).all()


def test_only_square_pictures_are_measured():
    with pytest.raises(ValueError, match="square frames, got 64 by 96"):
        lip_sync.mouth_opening(torch.zeros(1, 3, 64, 96), random_look(torch.Generator()))


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.12])
def test_a_delay_of_the_sound_survives_the_container(tmp_path, delay):
    """AAC begins with 1,024 samples of priming; players skip it, and so must the meter."""
    original = 0.1 * torch.randn(2 * RATE, generator=torch.Generator().manual_seed(1))
    late = torch.cat([torch.zeros(round(delay * RATE)), original])[: len(original)]
    write_video(tmp_path / "film.mp4", torch.zeros(50, 3, 32, 32), FRAME_RATE, sound=late, sample_rate=RATE)
    sound, rate = lip_sync.film_sound(tmp_path / "film.mp4")
    assert rate == RATE
    assert lip_sync.sound_delay(sound, original, rate) == pytest.approx(delay, abs=1e-4)


def test_a_silent_film_is_an_error(tmp_path):
    write_video(tmp_path / "film.mp4", torch.zeros(5, 3, 32, 32), FRAME_RATE)
    with pytest.raises(ValueError, match="no sound"):
        lip_sync.film_sound(tmp_path / "film.mp4")


def test_loudness_and_opening_that_are_one_are_found_in_step():
    opening = opening_of(PHONEMES, 0.0)
    envelope = np.interp(np.arange(int(2.4 * RATE)) / RATE, (np.arange(60) + 0.5) / FRAME_RATE, opening.numpy())
    noise = torch.randn(len(envelope), generator=torch.Generator().manual_seed(2))
    lag, correlation = lip_sync.loudness_lag(opening, FRAME_RATE, noise * torch.tensor(envelope).float(), RATE)
    assert abs(lag) < 0.02
    assert correlation > 0.9


def test_an_aligner_that_knows_only_the_sound_hears_what_the_voice_planned():
    text = "My mother may keep a big map, but Bob will stop."
    said = speak(text, RATE)
    heard = lip_sync.heard_phonemes(said.audio, RATE, text)
    lips = [p for p in said.phonemes if p.text in ("p", "b", "m")]
    found = [p for p in heard if p.text == "p"]
    assert len(found) == len(lips)
    late = [(a.start + a.end - b.start - b.end) / 2 for a, b in zip(found, lips, strict=True)]
    assert abs(np.median(late)) < 0.025


def test_a_text_that_is_not_in_the_dictionary_is_an_error():
    with pytest.raises(ValueError, match="cannot be found in the sound"):
        lip_sync.heard_phonemes(speak("Hello.", RATE).audio, RATE, "brzkvrt")
