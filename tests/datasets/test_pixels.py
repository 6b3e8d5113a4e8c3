"""Resizing by area keeps the mean and invents nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from aigc_lib.datasets.pixels import area_resize, read_rgb


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 12), st.integers(0, 12), st.integers(0, 9))
def test_the_mean_of_the_picture_stays(height, width, more_rows, more_columns, seed):
    picture = np.random.default_rng(seed).random((3, height + more_rows, width + more_columns))
    resized = area_resize(picture, height, width)
    assert resized.shape == (3, height, width)
    np.testing.assert_allclose(resized.mean((1, 2)), picture.mean((1, 2)), atol=1e-6)


def test_whole_ratios_are_block_means():
    picture = np.arange(64.0).reshape(8, 8)
    np.testing.assert_allclose(area_resize(picture, 4, 2), picture.reshape(4, 2, 2, 4).mean((1, 3)), rtol=1e-6)


def test_a_pixel_that_is_covered_in_part_counts_in_part():
    np.testing.assert_allclose(area_resize(np.array([[3.0, 6.0, 9.0]]), 1, 2), [[4.0, 8.0]], rtol=1e-6)


def test_the_same_size_is_the_same_picture():
    picture = np.random.default_rng(0).integers(0, 256, (3, 5, 7), dtype=np.uint8)
    np.testing.assert_array_equal(area_resize(picture, 5, 7), picture)


def test_enlarging_is_refused():
    with pytest.raises(ValueError, match="only shrinks: from 4×6, asked for 8×6"):
        area_resize(np.zeros((4, 6)), 8, 6)


def test_transparency_is_laid_on_white_and_grey_is_repeated(tmp_path):
    half_clear_red = Image.new("RGBA", (2, 1), (255, 0, 0, 128))
    half_clear_red.save(tmp_path / "red.png")
    assert read_rgb(tmp_path / "red.png")[:, 0, 0].tolist() == [255, 127, 127]
    Image.new("L", (3, 2), 77).save(tmp_path / "grey.png")
    grey = read_rgb(tmp_path / "grey.png")
    assert grey.shape == (3, 2, 3)
    assert (grey == 77).all()


def test_a_camera_that_was_held_upright_is_believed(tmp_path):
    picture = Image.new("RGB", (4, 2))
    exif = picture.getexif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    picture.save(tmp_path / "upright.jpg", exif=exif)
    assert read_rgb(tmp_path / "upright.jpg").shape == (3, 4, 2)
