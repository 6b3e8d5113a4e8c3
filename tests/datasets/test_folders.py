"""Folders that the user has: the same items, clear errors, and nothing cropped or resampled unasked."""

import shutil

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from aigc_lib.datasets.base import SPLITS, DataChangedError, Dataset
from aigc_lib.datasets.flow_files import write_flo
from aigc_lib.datasets.folders import flow_folder, folder_digest, image_folder, speech_folder


def every_split(loader, *arguments, **options):
    """All splits that are not empty."""
    loaded = []
    for split in SPLITS:
        try:
            loaded.append(loader(*arguments, split=split, **options))
        except ValueError as error:
            if "none of the" not in str(error):
                raise
    return loaded


@pytest.fixture
def pictures(tmp_path):
    for label, colour in (("cats", (255, 0, 0)), ("dogs", (0, 0, 255))):
        (tmp_path / label).mkdir()
        for i in range(20):
            Image.new("RGB", (16, 16), colour).save(tmp_path / label / f"{i}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    return tmp_path


def test_subfolders_are_labels_and_every_picture_is_in_one_split(pictures):
    loaded = every_split(image_folder, pictures, 8)
    assert all(isinstance(data, Dataset) for data in loaded)
    assert sorted(item.key for data in loaded for item in data) == sorted(
        f"{label}/{i}.png" for label in ("cats", "dogs") for i in range(20)
    )
    for item in loaded[0]:
        assert item.caption == {"en": item.key.split("/")[0]}
        assert item.label == ["cats", "dogs"].index(item.caption["en"])
        assert item.image[:, 0, 0].tolist() == ([1, -1, -1] if item.label == 0 else [-1, -1, 1])


def test_adding_pictures_moves_none(pictures):
    before = {item.key for item in image_folder(pictures, 8)}
    Image.new("RGB", (16, 16)).save(pictures / "cats" / "new.png")
    after = {item.key for item in image_folder(pictures, 8)}
    assert before <= after <= before | {"cats/new.png"}


def test_another_seed_draws_other_splits(pictures):
    assert {item.key for item in image_folder(pictures, 8)} != {item.key for item in image_folder(pictures, 8, seed=1)}


def wide_picture(folder):
    """Red, green and blue thirds, 12 wide and 4 high; copied until a training split has one."""
    colours = np.repeat(np.eye(3, dtype=np.uint8) * 255, 4, axis=0)
    for i in range(3):
        Image.fromarray(np.tile(colours, (4, 1, 1))).save(folder / f"{i}.png")


def test_what_is_not_square_is_cropped_or_padded_only_when_asked(tmp_path):
    wide_picture(tmp_path)
    with pytest.raises(ValueError, match=r"\d\.png is 12×4, not square; choose fit='crop' or fit='pad'"):
        every_split(image_folder, tmp_path, 4)
    cropped = every_split(image_folder, tmp_path, 4, fit="crop")[0].images[0]
    assert torch.equal(cropped, torch.tensor([-1.0, 1, -1])[:, None, None].expand(3, 4, 4))
    padded = every_split(image_folder, tmp_path, 12, fit="pad")[0].images[0]
    assert torch.equal(padded[:, :4], torch.ones(3, 4, 12))
    assert torch.equal(padded[:, 8:], torch.ones(3, 4, 12))
    assert padded[:, 5, 5].tolist() == [-1, 1, -1]
    with pytest.raises(ValueError, match="'exact', 'crop' or 'pad', got 'stretch'"):
        image_folder(tmp_path, 4, fit="stretch")


def test_small_pictures_are_not_enlarged(pictures):
    with pytest.raises(ValueError, match=r"is 16×16, too small for resolution 32"):
        image_folder(pictures, 32)


@pytest.mark.parametrize(
    ("loader", "arguments", "what"),
    [(image_folder, (8,), "pictures"), (speech_folder, (), "recordings"), (flow_folder, (), r"\.flo files")],
)
def test_empty_absent_and_changed_folders_are_named(loader, arguments, what, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*absent"):
        loader(tmp_path / "absent", *arguments)
    with pytest.raises(ValueError, match=f"found no {what} in"):
        loader(tmp_path, *arguments)


def test_the_digest_of_a_folder_is_checked(pictures):
    digest = folder_digest(pictures)
    assert image_folder(pictures, 8, digest=digest).info.digest == digest
    (pictures / "notes.txt").write_text("another note")
    with pytest.raises(DataChangedError, match=f"expected SHA-256 {digest}, found {folder_digest(pictures)}"):
        image_folder(pictures, 8, digest=digest)
    with pytest.raises(FileNotFoundError):
        folder_digest(pictures / "absent")


def test_an_unknown_split_lists_the_known(pictures):
    with pytest.raises(ValueError, match="unknown split 'val'; there are: train, validation, test"):
        image_folder(pictures, 8, split="val")


def record(folder, name, *, text="Hello there.", rate=16_000, channels=1):
    tone = np.sin(np.arange(800) * 0.1).astype(np.float32) / 2
    soundfile.write(folder / f"{name}.wav", np.stack([tone] * channels, axis=1), rate)
    if text is not None:
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")


def test_recordings_have_their_text_and_sound(tmp_path):
    for i in range(12):
        record(tmp_path, f"clip{i}", text=f"Sentence number {i}.\n")
    items = [item for data in every_split(speech_folder, tmp_path) for item in data]
    assert {item.text for item in items} == {f"Sentence number {i}." for i in range(12)}
    for item in items:
        assert (item.sample_rate, item.phonemes) == (16_000, None)
        expected = torch.sin(torch.arange(800) * 0.1) / 2
        torch.testing.assert_close(item.audio, expected, atol=1e-4, rtol=0)


def test_a_sentence_that_was_recorded_twice_lies_in_one_split(tmp_path):
    for i in range(10):
        record(tmp_path, f"clip{i}", text="The same  sentence." if i % 2 else "the same sentence.")
    (only,) = every_split(speech_folder, tmp_path)
    assert len(only) == 10


def test_the_layout_of_ljspeech_is_known(tmp_path):
    (tmp_path / "wavs").mkdir()
    record(tmp_path / "wavs", "LJ001-0001", text=None)
    (tmp_path / "metadata.csv").write_text('LJ001-0001|In 1950,|In "nineteen fifty",\n', encoding="utf-8")
    (data,) = every_split(speech_folder, tmp_path)
    assert data[0].text == 'In "nineteen fifty",'


@pytest.mark.parametrize(
    ("last", "options", "error", "message"),
    [
        ({"rate": 8000}, {}, ValueError, r"last\.wav has 8000 Hz, expected 16000; resample it first"),
        ({}, {"sample_rate": 22_050}, ValueError, r"a\.wav has 16000 Hz, expected 22050"),
        ({"channels": 2}, {}, ValueError, r"last\.wav has 2 channels, expected 1"),
        ({"text": None}, {}, FileNotFoundError, r"1 recordings have no text, the first is .*last\.wav; .*last\.txt"),
    ],
)
def test_recordings_that_do_not_fit_are_named(tmp_path, last, options, error, message):
    record(tmp_path, "a")
    record(tmp_path, "last", **last)
    with pytest.raises(error, match=message):
        speech_folder(tmp_path, **options)


def chair(folder, name, *, size=(6, 4)):
    for i, grey in enumerate((0, 255), start=1):
        Image.new("RGB", size, (grey,) * 3).save(folder / f"{name}_img{i}.ppm")
    flow = torch.full((2, 4, 6), 1.5)
    flow[:, 0, 0] = 1e10
    write_flo(folder / f"{name}_flow.flo", flow)


def test_pairs_are_found_in_the_layout_of_flying_chairs(tmp_path):
    for i in range(12):
        chair(tmp_path, f"{i:05d}")
    loaded = every_split(flow_folder, tmp_path)
    assert sum(map(len, loaded)) == 12
    item = loaded[0][0]
    assert item.first.eq(-1).all()
    assert item.second.eq(1).all()
    assert not item.valid[0, 0]
    assert item.valid.sum() == 23
    assert item.flow[:, 0, 0].tolist() == [0, 0]
    assert item.flow[:, 1, 1].tolist() == [1.5, 1.5]
    assert not item.occluded.any()


def test_a_scene_of_sintel_lies_in_one_split_and_frames_follow_each_other(tmp_path):
    for scene in ("alley", "bamboo", "cave"):
        for kind in ("clean", "flow"):
            (tmp_path / kind / scene).mkdir(parents=True)
        for i in range(1, 5):
            Image.new("RGB", (6, 4), (i,) * 3).save(tmp_path / "clean" / scene / f"frame_{i:04d}.png")
        for i in range(1, 4):
            write_flo(tmp_path / "flow" / scene / f"frame_{i:04d}.flo", torch.zeros(2, 4, 6))
    loaded = every_split(flow_folder, tmp_path)
    scenes = [scene for data in loaded for scene in {item.key.split("/")[1] for item in data}]
    assert sorted(scenes) == ["alley", "bamboo", "cave"]
    for item in loaded[0]:
        torch.testing.assert_close(item.second - item.first, torch.full((3, 4, 6), 2 / 255), atol=1e-6, rtol=0)


def test_frames_that_are_missing_or_of_another_size_are_named(tmp_path):
    chair(tmp_path, "a", size=(8, 4))
    (data,) = every_split(flow_folder, tmp_path)
    with pytest.raises(ValueError, match=r"a_flow\.flo differ in size \(first, second, flow\): 8×4, 8×4, 6×4"):
        data[0]
    (tmp_path / "a_img2.ppm").unlink()
    with pytest.raises(FileNotFoundError, match=r"needs the frame .*a_img2\.png"):
        flow_folder(tmp_path)
    shutil.move(tmp_path / "a_flow.flo", tmp_path / "strange.flo")
    with pytest.raises(ValueError, match=r"strange\.flo is named neither"):
        flow_folder(tmp_path)
