import base64
import io
import math
import re

import av
import matplotlib.pyplot as plt
import numpy as np
import pytest
import soundfile
import torch

from aigc_lib.teaching import figures
from aigc_lib.teaching.media import audio, encode_video, film_strip, spectrogram, video

RATE = 8_000
TONE = 0.5 * torch.sin(2 * math.pi * 1_000 * torch.arange(RATE) / RATE)
FRAMES = torch.linspace(-1, 1, 12).view(12, 1, 1, 1).expand(12, 3, 9, 15)  # black fades to white


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture
def shown(monkeypatch):
    bundles = []
    monkeypatch.setattr(figures, "display", lambda bundle, raw: bundles.append(bundle))
    return bundles


def embedded(bundle, mime_type):
    return io.BytesIO(base64.b64decode(re.search(rf"data:{mime_type};base64,([^\"]+)", bundle["text/html"])[1]))


def test_the_player_holds_the_sound_itself(shown):
    audio(TONE, RATE, "A tone.", "One second of 1,000 Hz.")
    sound, rate = soundfile.read(embedded(shown[0], "audio/flac"))
    assert rate == RATE
    np.testing.assert_allclose(sound, TONE.numpy(), atol=1 / 2**15)


def test_sound_has_a_player_and_a_spectrogram_that_are_both_described(shown):
    audio(TONE, RATE, "A tone.", "One second of 1,000 Hz.")
    (bundle,) = shown
    assert 'aria-label="One second of 1,000 Hz."' in bundle["text/html"]
    assert 'alt="Spectrogram: One second of 1,000 Hz."' in bundle["text/html"]
    assert bundle["text/plain"] == "A tone."


@pytest.mark.parametrize("length", [64, 100, RATE])
def test_the_loudest_row_of_a_spectrogram_is_the_tone(length):
    ax = spectrogram(TONE[:length], RATE)
    (picture,) = ax.get_images()
    level = np.asarray(picture.get_array())
    kilohertz = np.linspace(0, RATE / 2_000, level.shape[0])[level.mean(axis=1).argmax()]
    assert kilohertz == pytest.approx(1, abs=RATE / 1_000 / 64)
    assert level.max() == 0
    left, right, _, _ = picture.get_extent()
    assert 0 <= left < right <= length / RATE


def test_silence_has_a_spectrogram(recwarn):
    ax = spectrogram(torch.zeros(RATE), RATE)
    assert np.isfinite(ax.get_images()[0].get_array()).all()
    assert not list(recwarn)


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (TONE.view(1, -1), RATE, r"\(1, 8000\)"),
        (TONE[:10], RATE, "T ≥ 64"),
        (torch.zeros(100, dtype=torch.int16), RATE, "int16"),
        (TONE * 3, RATE, "1.5"),
        (TONE * math.nan, RATE, "finite"),
        (TONE, 100, "100"),
        (TONE, 1_000_000, "1000000"),
    ],
)
def test_bad_sound_is_refused(shown, samples, rate, message):
    with pytest.raises(ValueError, match=message):
        audio(samples, rate, "caption", "alt")
    assert not shown


def decode(file):
    with av.open(file) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return context.name, context.pix_fmt, float(stream.average_rate), np.stack(pictures)


def test_a_video_is_what_every_browser_plays(shown):
    video(FRAMES, 12, "A fade.", "Black turns white.")
    codec, pixel_format, rate, pictures = decode(embedded(shown[0], "video/mp4"))
    assert (codec, pixel_format, rate) == ("h264", "yuv420p", 12)
    assert len(pictures) == len(FRAMES)
    assert 'alt="Film strip: Black turns white."' in shown[0]["text/html"]
    for attribute in ("controls", "loop", "muted", "playsinline", 'aria-label="Black turns white."'):
        assert attribute in shown[0]["text/html"]


def test_a_video_with_sound_holds_it_and_is_not_muted(shown):
    video(FRAMES, 12, "A fade.", "Black turns white.", sound=TONE, sample_rate=RATE)
    assert "muted" not in shown[0]["text/html"]
    assert "loop" not in shown[0]["text/html"]
    with av.open(embedded(shown[0], "video/mp4")) as container:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    spectrum = np.abs(np.fft.rfft(heard[:RATE]))
    assert spectrum.argmax() * RATE / len(heard[:RATE]) == pytest.approx(1_000, abs=2)


def test_sound_of_another_length_is_refused(shown):
    with pytest.raises(ValueError, match="as long as the frames"):
        video(FRAMES, 12, "caption", "alt", sound=TONE[:4_000], sample_rate=RATE)
    assert not shown


def test_the_frames_come_back_in_order_and_brightness():
    *_, pictures = decode(io.BytesIO(encode_video(FRAMES, 12)))
    expected = (FRAMES[:, 0, 0, 0].numpy() + 1) * 127.5
    np.testing.assert_allclose(pictures.mean(axis=(1, 2, 3)), expected, atol=4)


@pytest.mark.parametrize(("size", "encoded"), [((9, 15), (154, 256)), ((64, 64), (256, 256)), ((301, 255), (302, 256))])
def test_frames_are_enlarged_by_whole_factors_to_even_sides(size, encoded):
    *_, pictures = decode(io.BytesIO(encode_video(torch.zeros(2, 1, *size), 5)))
    assert pictures.shape[1:3] == encoded


def test_a_rate_that_is_no_integer_is_kept():
    *_, rate, _ = decode(io.BytesIO(encode_video(FRAMES, 12.5)))
    assert rate == 12.5


@pytest.mark.parametrize(
    ("frames", "rate", "message"),
    [
        (FRAMES[0], 12, "1 or 3, H, W"),
        (FRAMES[:0], 12, "F ≥ 1"),
        (FRAMES * 2, 12, r"\[-2, 2\]"),
        (FRAMES * math.nan, 12, "nan"),
        (FRAMES, 0, "frame_rate"),
        (FRAMES, 1_000, "frame_rate"),
    ],
)
def test_bad_video_is_refused(shown, frames, rate, message):
    with pytest.raises(ValueError, match=message):
        video(frames, rate, "caption", "alt")
    assert not shown


def test_a_film_strip_goes_from_the_first_frame_to_the_last():
    ax = film_strip(FRAMES, n=4)
    assert [text.get_text() for text in ax.texts] == ["1", "5", "8", "12"]


def test_a_short_film_shows_every_frame():
    assert len(film_strip(FRAMES[:2], n=6).texts) == 2


def test_a_film_strip_needs_a_frame():
    with pytest.raises(ValueError, match="n has to be"):
        film_strip(FRAMES, n=0)
    with pytest.raises(ValueError, match="B ≥ 1"):
        film_strip(FRAMES[:0])
