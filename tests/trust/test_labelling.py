"""One command puts words, field, mark and credentials on a file; what cannot is refused, nothing is lost."""

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from aigc_lib.cli import main
from aigc_lib.datasets import load
from aigc_lib.trust import labels, marks, provenance
from aigc_lib.trust.exports import STRIPPED, verify
from aigc_lib.trust.labelling import ROOM, label_file


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("AIGC_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def noise_picture(path, size=(240, 320), mode="RGB", seed=0):
    pixels = np.random.default_rng(seed).integers(60, 190, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def noise_sound(path, n_channels=1, rate=16_000, seconds=6, peak=0.5):
    sound = np.random.default_rng(1).normal(size=(rate * seconds, n_channels))
    soundfile.write(path, sound / np.abs(sound).max() * peak, rate, "PCM_16")
    return path


def test_a_picture_carries_all_four(tmp_path):
    plain, out = noise_picture(tmp_path / "plain.png"), tmp_path / "new" / "out.png"
    number = label_file(plain, out)
    before, after = (np.asarray(Image.open(file).convert("RGB")).astype(float) for file in (plain, out))
    box = (slice(0, 20), slice(0, 60))  # below the words
    assert after[box].mean() < before[box].mean() - 20
    assert np.abs(after[60:] - before[60:]).max() <= marks.STRONGEST + 1  # and the rest only marked
    assert marks.find_in_picture(after.astype(np.uint8)).payload == number
    assert labels.read_field(out)["ProduceID"] == f"{number:08x}"
    found = provenance.read(out)
    assert (found.state, found.edited) == ("valid", "plain.png")
    assert found.parameters["number"] == f"{number:08x}"


@pytest.mark.parametrize(("n_channels", "peak"), [(1, 0.5), (2, 1.0)])
def test_a_sound_carries_all_four(tmp_path, n_channels, peak):
    plain, out = noise_sound(tmp_path / "plain.wav", n_channels, peak=peak), tmp_path / "out.wav"
    number = label_file(plain, out, number=7)
    sound, rate = soundfile.read(out, always_2d=True)
    before, _ = soundfile.read(plain, always_2d=True)
    lead = len(labels.announced(torch.zeros(0), rate))
    assert number == 7
    assert sound.shape == (len(before) + lead, n_channels)
    expected = before * min(1, ROOM / np.abs(before).max())
    likeness = np.corrcoef(sound[lead:].ravel(), expected.ravel())[0, 1]
    assert likeness > 0.97
    assert np.abs(sound).max() < 1
    assert marks.find_in_sound(sound.mean(axis=1), rate).payload == 7
    assert labels.read_field(out)["ProduceID"] == "00000007"
    assert verify(out).text == "valid"


def test_what_the_command_labels_is_recognised_when_the_credentials_are_gone(tmp_path, capsys):
    plain, out, stripped = noise_picture(tmp_path / "plain.png"), tmp_path / "out.png", tmp_path / "stripped.jpg"
    assert main(["label", str(plain), "--out", str(out), "--text", "AI"]) == 0
    number = capsys.readouterr().out.split()[-1]
    Image.open(out).convert("RGB").save(stripped, quality=80)
    assert main(["verify", str(stripped)]) == 1
    said = capsys.readouterr().out
    assert STRIPPED in said
    assert number in said


def test_a_file_may_be_labelled_onto_itself(tmp_path):
    file = noise_picture(tmp_path / "one.png")
    number = label_file(file, file)
    assert marks.find_in_picture(np.asarray(Image.open(file).convert("RGB"))).payload == number
    assert verify(file).verified


@pytest.mark.parametrize("mode", ["L", "P"])
def test_grey_and_palette_pictures_are_labelled(tmp_path, mode):
    number = label_file(noise_picture(tmp_path / "grey.png", mode=mode), tmp_path / "out.png")
    assert marks.find_in_picture(np.asarray(Image.open(tmp_path / "out.png").convert("RGB"))).payload == number


def test_the_words_are_texture_enough_for_the_mark_of_a_flat_picture(tmp_path):
    Image.new("RGB", (300, 300), "grey").save(tmp_path / "flat.png")
    number = label_file(tmp_path / "flat.png", tmp_path / "out.png")
    assert marks.find_in_picture(np.asarray(Image.open(tmp_path / "out.png"))).payload == number


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("see_through.png", lambda f: noise_picture(f, mode="RGBA"), "transparency"),
        ("small.png", lambda f: noise_picture(f, (64, 64)), "needs .* pixels"),
        ("text.png", lambda f: f.write_text("no picture"), "cannot be read"),
        ("silent.wav", lambda f: soundfile.write(f, np.zeros(96_000), 16_000), "silent"),
        ("coarse.wav", lambda f: noise_sound(f, rate=8000), "16,000|16000"),
        ("text.wav", lambda f: f.write_text("no sound"), "cannot be read"),
        ("photo.jpg", noise_picture, "convert it first"),
    ],
)
def test_what_cannot_carry_them_is_refused_and_what_was_there_stays(tmp_path, name, make, message):
    file, out = tmp_path / name, tmp_path / f"out{name[-4:]}"
    make(file)
    out.write_text("of old")
    with pytest.raises(ValueError, match=message):
        label_file(file, out)
    assert out.read_text() == "of old"


def test_a_sheet_of_digits_is_labelled_without_a_mark_and_the_message_says_how(tmp_path, capsys):
    sheet, out = tmp_path / "digits.png", tmp_path / "out.png"
    digits = load("digits").images[:64].reshape(8, 8, 28, 28).transpose(1, 2).reshape(224, 224)
    Image.fromarray(((digits + 1) * 127.5).byte().numpy()).save(sheet)
    assert main(["label", str(sheet), "--out", str(out)]) == 2
    assert "--no-mark" in capsys.readouterr().err
    assert not out.exists()
    assert main(["label", str(sheet), "--out", str(out), "--no-mark"]) == 0
    assert verify(out).verified
    assert labels.read_field(out)["ProduceID"] == capsys.readouterr().out.split()[-1]
    assert not marks.find_in_picture(np.asarray(Image.open(out).convert("RGB"))).found


def test_a_label_that_does_not_fit_is_refused_and_not_cropped(tmp_path):
    with pytest.raises(ValueError, match="shorten the label"):
        label_file(
            noise_picture(tmp_path / "one.png"), tmp_path / "two.png", text="made by a machine".replace(" ", "_") * 9
        )


def test_other_endings_to_write_numbers_and_missing_files_are_refused(tmp_path):
    file = noise_picture(tmp_path / "one.png")
    with pytest.raises(ValueError, match="stays one"):
        label_file(file, tmp_path / "two.wav")
    with pytest.raises(ValueError, match=r"2\*\*32"):
        label_file(file, tmp_path / "two.png", number=2**32)
    for ending in (".png", ".wav"):
        with pytest.raises(FileNotFoundError):
            label_file(tmp_path / f"none{ending}", tmp_path / f"two{ending}")
    assert main(["label", str(tmp_path / "none.png"), "--out", str(tmp_path / "two.png")]) == 2
