"""Avatars depend on nothing but seed and index; glyphs show the character they are labelled with."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from aigc_lib.datasets import load, rendered
from aigc_lib.datasets.base import SPLITS, MissingDataPackage
from aigc_lib.datasets.provenance import info
from aigc_lib.datasets.rendered import STYLES, common_characters
from aigc_lib.datasets.sources import verify


def avatars(**options):
    return {item.key: item.image for split in SPLITS for item in load("avatars", split, resolution=16, **options)}


def test_an_avatar_is_the_same_however_many_are_drawn():
    few, more = avatars(n=40), avatars(n=60)
    assert len(few) == 40
    assert len(more) == 60
    assert all(torch.equal(few[key], more[key]) for key in few)


def test_another_seed_draws_others():
    first, second = avatars(n=40), avatars(n=40, seed=1)
    assert not {image.numpy().tobytes() for image in first.values()} & {i.numpy().tobytes() for i in second.values()}


@pytest.mark.parametrize("style", STYLES)
def test_every_style_draws_different_pictures_and_equal_ones_share_a_split(style):
    drawn = {split: load("avatars", split, style=style, resolution=32, n=60) for split in SPLITS}
    pictures = {split: {image.numpy().tobytes() for image in data.images} for split, data in drawn.items()}
    assert len(set.union(*pictures.values())) > 50
    assert not pictures["train"] & pictures["test"]


def test_the_background_of_a_face_is_white():
    assert load("avatars", "test", resolution=32, n=60).images[..., 0, 0].eq(1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"style": "mona-lisa"}, "unknown style 'mona-lisa'; there are: pixel-art"),
        ({"resolution": 8}, "16 to 512, got 8"),
        ({"n": 5}, "at least 30.*got 5"),
    ],
)
def test_wrong_avatar_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        load("avatars", **options)


def test_without_the_renderer_the_command_to_install_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("AIGC_CACHE", str(tmp_path))
    monkeypatch.setattr(rendered.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(rendered, "verify", lambda entry: verify_known(entry))
    with pytest.raises(MissingDataPackage, match=r"pip install dicebear-core==\S+ dicebear-styles==\S+ resvg-py=="):
        load("avatars")


def verify_known(entry):
    from pathlib import Path

    import dicebear_styles

    folder = Path(dicebear_styles.__path__[0])
    return {f"dicebear_styles/{style}.json": folder / f"{style}.json" for style in STYLES}


def test_there_are_3755_common_characters_in_the_order_of_their_sounds():
    characters = common_characters()
    assert len(set(characters)) == 3755
    assert characters[0] == "啊"
    assert characters[-1] == "座"
    assert set("人工智能生成内容") <= set(characters)


def test_a_character_that_is_held_out_is_held_out_in_both_fonts():
    sans, serif = ([item.label for item in load("glyphs", "test", font=font)] for font in ("sans", "serif"))
    assert sans == serif
    assert not set(sans) & {item.label for item in load("glyphs", "train")}


def test_glyphs_are_black_on_white_and_none_is_cut_off():
    for font in ("sans", "serif"):
        images = load("glyphs", "train", font=font).images
        edges = torch.cat([images[..., 0, :], images[..., -1, :], images[..., 0], images[..., -1]], dim=-1)
        assert (edges < -0.5).float().mean() < 0.001
        assert images.mean() > 0.2
        assert (images.amin((1, 2, 3)) < 0).all()


def test_a_glyph_shows_the_character_of_its_label():
    data = load("glyphs", "train")
    item = next(item for item in data if item.key == "生-sans")
    assert chr(item.label) == "生" == item.caption["zh"]
    font = ImageFont.truetype(str(next(iter(verify(info("glyphs")).values()))), 30)
    drawn = Image.new("L", (32, 32), 255)
    ImageDraw.Draw(drawn).text((16, 16), "生", fill=0, font=font, anchor="mm")
    reference = torch.from_numpy(np.asarray(drawn).astype(np.float32)) / 127.5 - 1
    shifts = [(down, right) for down in range(-2, 3) for right in range(-2, 3)]
    distances = torch.stack(
        [(data.images[:, 0] - reference.roll(shift, (0, 1))).abs().mean((1, 2)) for shift in shifts]
    )
    assert data.labels[distances.amin(dim=0).argmin()] == ord("生")


def test_an_unknown_font_lists_the_known():
    with pytest.raises(ValueError, match="unknown font 'comic'; there are: sans, serif"):
        load("glyphs", font="comic")
