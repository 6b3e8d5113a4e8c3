"""Invisible marks are found where they are, nowhere else, and survive what they are said to survive."""

import itertools
import math

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from aigc_lib.trust import marks
from aigc_lib.trust.marks import Mark, chips, detect, find_in_picture, find_in_sound, mark_picture, mark_sound

KEY, OTHER = b"k" * 32, b"o" * 32
PAYLOAD = 0xDEADBEEF


def texture(seed=0, size=(300, 340), colour=True):
    """Noise as a photograph has it: its spectrum falls with frequency."""
    draws = np.random.default_rng(seed)
    y, x = (np.fft.fftfreq(side)[:, None] if i == 0 else np.fft.fftfreq(side)[None] for i, side in enumerate(size))
    shaped = np.fft.ifft2(np.fft.fft2(draws.normal(size=size)) / (0.01 + np.hypot(y, x)) ** 1.3).real
    grey = (128 + 45 * shaped / shaped.std()).clip(0, 255).round().astype(np.uint8)
    return np.stack([grey, grey, 255 - grey], axis=-1) if colour else grey


def hiss(seconds=6, rate=16_000, seed=0):
    draws = np.random.default_rng(seed)
    return 0.1 * draws.normal(size=round(seconds * rate)).clip(-4, 4)


@pytest.fixture(scope="module")
def picture():
    return mark_picture(texture(), PAYLOAD, key=KEY)


@pytest.fixture(scope="module")
def sound():
    return mark_sound(hiss(), 16_000, PAYLOAD, key=KEY)


# The statistic ------------------------------------------------------------------------------------------------------


def test_the_score_has_mean_zero_and_variance_one_over_all_signs_whatever_is_measured():
    a = np.array([1, -2, 3, 5, 1000.0])
    scores = np.array([np.dot(signs, a) for signs in itertools.product((-1, 1), repeat=5)]) / np.linalg.norm(a)
    assert scores.mean() == pytest.approx(0, abs=1e-12)
    assert (scores**2).mean() == pytest.approx(1)
    assert all((scores >= s).mean() <= math.exp(-(s**2) / 2) for s in np.linspace(0, 2.5, 26))


def test_detect_is_the_best_correlation_of_all_shifts():
    """Against the definition, shift by shift."""
    sums = np.random.default_rng(0).normal(size=(1, 64, 64))
    signs, order = marks._layout(KEY)
    template = np.zeros(4096)
    template[order[:1024]] = signs[:1024]
    best = -math.inf
    for row, column in itertools.product(range(64), repeat=2):
        moved = np.roll(template.reshape(64, 64), (row, column), axis=(0, 1))
        best = max(best, (sums[0] * moved).sum() / np.linalg.norm(sums[0][moved != 0]))
    assert detect(sums, KEY).score == pytest.approx(best, rel=1e-9)
    in_time = detect(sums, KEY, in_time=True).score
    assert in_time <= best


def test_the_chance_counts_all_places():
    sums = np.random.default_rng(1).normal(size=(4, 64, 64))
    found = detect(sums, KEY, n_tried=7)
    assert found.chance == min(1, 4 * 4096 * 7 * math.exp(-(found.score**2) / 2))


@pytest.mark.parametrize("heavy", [False, True])
def test_scores_over_keys_are_standard_normal_even_of_heavy_tailed_numbers(heavy):
    """400 keys at one place each; Kolmogorov and Smirnov at 0.1 %."""
    draws = np.random.default_rng(2)
    a = draws.standard_t(2.5, size=1024) if heavy else draws.normal(size=1024)
    scores = [marks._layout(i.to_bytes(16, "big"))[0][:1024] @ a / np.linalg.norm(a) for i in range(400)]
    assert stats.kstest(scores, "norm").pvalue > 1e-3


def test_a_payload_is_on_the_chips_and_keys_are_unrelated():
    assert set(np.unique(chips(KEY, 1))) == {-1.0, 1.0}
    same = (chips(KEY, 1) == chips(KEY, 2)).mean()
    assert 0.5 < same < 1  # the sync chips, and half of the symbols that differ
    assert abs((chips(KEY, 1) * chips(OTHER, 1)).mean()) < 4 / 64  # four standard errors


# Pictures -----------------------------------------------------------------------------------------------------------


def test_a_mark_is_read_and_hardly_seen(picture):
    found = find_in_picture(picture, key=KEY)
    assert found.payload == PAYLOAD
    assert found.chance < 1e-6
    error = ((picture.astype(float) - texture()) ** 2).mean()
    assert 10 * math.log10(255**2 / error) > 38.5


@pytest.mark.parametrize("payload", [0, 1, 2**32 - 1])
def test_every_payload_comes_back_from_grey_pictures(payload):
    grey = texture(1, colour=False)
    assert find_in_picture(mark_picture(grey, payload, key=KEY), key=KEY).payload == payload


def test_the_wrong_key_finds_nothing(picture):
    assert not find_in_picture(picture, key=OTHER).found
    assert not any(detect(marks.picture_sums(marks._grey(picture)), bytes([i]) * 16).found for i in range(60))


def test_unmarked_pictures_hold_no_mark():
    assert not any(find_in_picture(texture(seed), key=KEY).found for seed in range(2, 6))


def jpeg(pixels, folder, quality):
    Image.fromarray(pixels).save(folder / "a.jpg", quality=quality)
    return np.asarray(Image.open(folder / "a.jpg"))


@pytest.mark.parametrize("quality", [90, 75])
def test_a_mark_survives_jpeg(picture, tmp_path, quality):
    assert find_in_picture(jpeg(picture, tmp_path, quality), key=KEY).payload == PAYLOAD


def test_a_mark_survives_noise_and_cutting(picture):
    noise = np.random.default_rng(0).normal(0, 5, picture.shape)
    assert find_in_picture((picture + noise).clip(0, 255).round().astype(np.uint8), key=KEY).payload == PAYLOAD
    assert find_in_picture(np.ascontiguousarray(picture[31:270, 45:311]), key=KEY).payload == PAYLOAD


@pytest.mark.parametrize("factor", [0.75, 1.3])
def test_a_mark_survives_another_size(factor):
    marked = mark_picture(texture(7, (480, 512)), PAYLOAD, key=KEY)
    size = [round(side * factor) for side in marked.shape[1::-1]]
    resized = np.asarray(Image.fromarray(marked).resize(size, Image.Resampling.LANCZOS))
    assert find_in_picture(resized, key=KEY).payload == PAYLOAD


def test_rotation_hides_a_mark(picture):
    turned = np.asarray(Image.fromarray(picture).rotate(5, Image.Resampling.BICUBIC))
    assert not find_in_picture(turned, key=KEY).found


@pytest.mark.parametrize("pixels", [np.full((200, 200, 3), 128, np.uint8), np.zeros((256, 256), np.uint8)])
def test_a_flat_picture_cannot_carry_a_mark_and_holds_none(pixels):
    with pytest.raises(ValueError, match="too little texture"):
        mark_picture(pixels, 1, key=KEY)
    assert not find_in_picture(pixels, key=KEY).found


def test_a_picture_smaller_than_the_pattern_is_refused():
    with pytest.raises(ValueError, match="128 x 128 pixels"):
        mark_picture(texture(size=(100, 300)), 1, key=KEY)
    assert find_in_picture(texture(size=(40, 40)), key=KEY) == Mark()


@pytest.mark.parametrize("pixels", [np.zeros((200, 200)), np.zeros((200, 200, 4), np.uint8), np.zeros(9, np.uint8)])
def test_other_pixels_are_refused(pixels):
    with pytest.raises(ValueError, match="expected uint8 pixels"):
        find_in_picture(pixels, key=KEY)


def test_payloads_and_keys_are_checked():
    with pytest.raises(ValueError, match="integer of 0"):
        mark_picture(texture(), 2**32, key=KEY)
    with pytest.raises(ValueError, match="at least 16 bytes"):
        mark_picture(texture(), 1, key=b"short")


# Sound --------------------------------------------------------------------------------------------------------------


def test_a_mark_in_sound_is_read_and_lies_far_below(sound):
    found = find_in_sound(sound, 16_000, key=KEY)
    assert found.payload == PAYLOAD
    change = sound - hiss()
    assert 10 * math.log10((hiss() ** 2).mean() / (change**2).mean()) > 17  # hiss is the loudest where the mark is


@pytest.mark.parametrize(
    "attack",
    [lambda x: x[12_345:], lambda x: 0.2 * x, lambda x: x + np.random.default_rng(0).normal(0, 0.01, len(x))],
    ids=["cut", "softer", "noise"],
)
def test_a_mark_survives_cutting_gain_and_noise(sound, attack):
    assert find_in_sound(attack(sound).clip(-1, 1), 16_000, key=KEY).payload == PAYLOAD


def test_a_mark_survives_a_codec(sound, tmp_path):
    import soundfile

    soundfile.write(tmp_path / "a.mp3", sound.clip(-1, 1), 16_000)
    assert find_in_sound(*soundfile.read(tmp_path / "a.mp3"), key=KEY).payload == PAYLOAD


def test_sound_of_another_rate_is_marked_and_read_at_any():
    from scipy.signal import resample_poly

    marked = mark_sound(hiss(8, 24_000), 24_000, 7, key=KEY)
    assert len(marked) == 8 * 24_000
    assert find_in_sound(resample_poly(marked, 441, 240)[: 8 * 44_100].clip(-1, 1), 44_100, key=KEY).payload == 7


def test_wrong_keys_and_unmarked_sounds_give_nothing(sound):
    assert not find_in_sound(sound, 16_000, key=OTHER).found
    sums = marks.sound_sums(sound)
    assert not any(detect(sums, bytes([i]) * 16, in_time=True).found for i in range(60))
    assert not find_in_sound(hiss(seed=1), 16_000, key=KEY).found


@pytest.mark.parametrize("audio", [np.zeros(80_000), np.zeros(100), hiss(0.5), 0.1 * np.sin(np.arange(80_000) / 9)])
def test_silence_short_sounds_and_tones_cannot_carry_a_mark(audio):
    with pytest.raises(ValueError, match="cannot carry a mark"):
        mark_sound(audio, 16_000, 1, key=KEY)
    assert not find_in_sound(audio, 16_000, key=KEY).found


def test_other_sounds_are_refused():
    for audio, rate in ((np.zeros((2, 9)), 16_000), (np.zeros(9), 8_000), (np.full(9, 2.0), 16_000)):
        with pytest.raises(ValueError, match="expected audio"):
            find_in_sound(audio, rate, key=KEY)


def test_the_own_key_is_made_once_and_is_the_owners(tmp_path, monkeypatch):
    monkeypatch.setenv("AIGC_CACHE", str(tmp_path))
    assert marks.own_key() == marks.own_key()
    assert len(marks.own_key()) == 32
    assert (tmp_path / "provenance" / "mark.key").stat().st_mode & 0o077 == 0
