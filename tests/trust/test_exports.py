"""Every writer's files leave signed; verdicts are what the file deserves; labels are as large and long as asked."""

import json
import math

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from aigc_lib.cli import main
from aigc_lib.datasets.video_files import open_video, write_video
from aigc_lib.training.checkpoints import record_of
from aigc_lib.trust import exports, labels, marks, provenance
from aigc_lib.trust.exports import STRIPPED, exported, verify


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("AIGC_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def put(path, seed=0):
    """A small file of the kind."""
    draws = np.random.default_rng(seed)
    if path.suffix in (".png", ".webp", ".gif", ".jpg"):
        Image.fromarray(draws.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(path)
    elif path.suffix in (".wav", ".flac", ".ogg", ".mp3"):
        soundfile.write(path, draws.normal(0, 0.1, 8000), 16_000)
    elif path.suffix == ".mp4":
        write_video(path, torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1, 25)
    else:
        path.write_text(f"text {seed}")
    return path


ENDINGS = (
    ".png",
    ".webp",
    ".gif",
    ".jpg",
    ".wav",
    ".flac",
    ".mp3",
    ".mp4",
    ".ogg",
    ".mid",
    ".musicxml",
    ".html",
    ".srt",
)


# On the way out ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_kind_of_file_leaves_signed_with_its_networks(tmp_path, ending):
    out = tmp_path / "new folder" / f"made{ending}"
    with exported(out, networks=["gan-digits"], packages={"voice": "1.0"}, parameters={"seed": 3}) as file:
        put(file)
    verdict = verify(out)
    assert verdict.verified
    assert verdict.text == "valid"
    assert verdict.credentials.source_type == "trainedAlgorithmicMedia"
    assert verdict.credentials.ingredients == {
        "gan-digits": f"sha256:{record_of('gan-digits')['sha256']}",
        "voice": "1.0",
    }
    assert verdict.credentials.parameters == {"seed": 3}
    beside = [out.name + ".c2pa"] if ending in provenance.BESIDE else []
    assert sorted(each.name for each in out.parent.iterdir()) == sorted([out.name, *beside])


def test_stopped_before_the_end_the_old_file_stays(tmp_path):
    old = put(tmp_path / "a.png").read_bytes()

    def stopped():
        with exported(tmp_path / "a.png") as file:
            put(file, seed=1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert (tmp_path / "a.png").read_bytes() == old
    assert [each.name for each in tmp_path.iterdir()] == ["a.png"]


def test_without_the_package_the_file_is_written_and_one_line_says_that_it_is_unlabelled(tmp_path, monkeypatch, capsys):
    with exported(tmp_path / "a.ogg") as file:
        put(file)
    assert (tmp_path / "a.ogg.c2pa").is_file()
    monkeypatch.setattr(provenance.importlib.util, "find_spec", lambda name: None)
    with exported(tmp_path / "a.ogg") as file:
        put(file, seed=1)
    (line,) = capsys.readouterr().err.splitlines()
    assert "a.ogg carries no Content Credentials" in line
    assert "pip install c2pa-python cryptography" in line
    assert [each.name for each in tmp_path.iterdir()] == ["a.ogg"]  # the old manifest would accuse it


def test_an_ending_that_nobody_signs_is_written_with_a_line(tmp_path, capsys):
    with exported(tmp_path / "a.edl") as file:
        put(file)
    assert "nothing signs .edl here" in capsys.readouterr().err
    assert (tmp_path / "a.edl").is_file()


@pytest.mark.parametrize(
    ("source_type", "said"),
    [
        (provenance.COMPOSITE, "compositeWithTrainedAlgorithmicMedia"),
        (provenance.ENHANCED, "algorithmicallyEnhanced"),
        (None, ""),
    ],
)
def test_an_edit_of_somebodys_film_is_not_called_generated(tmp_path, source_type, said):
    own, out = put(tmp_path / "holiday.mp4"), tmp_path / "slow.mp4"
    with exported(out, source_type=source_type, edited=own) as file:
        put(file, seed=1)
    found = verify(out).credentials
    assert (found.state, found.source_type, found.edited) == ("valid", said, "holiday.mp4")


def test_a_film_may_be_edited_onto_itself(tmp_path):
    own = put(tmp_path / "a.mp4")
    with exported(own, source_type=None, edited=own) as file:
        put(file, seed=1)
    assert verify(own).verified


# Verdicts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_unsigned_file_is_absent_and_a_changed_one_is_not_verified(tmp_path, ending):
    plain = put(tmp_path / f"plain{ending}")
    assert verify(plain).text == "absent"
    with exported(tmp_path / f"made{ending}") as file:
        put(file)
    data = bytearray((tmp_path / f"made{ending}").read_bytes())
    data[-3] ^= 1
    (tmp_path / f"made{ending}").write_bytes(data)
    assert not verify(tmp_path / f"made{ending}").verified


def test_the_manifest_of_another_file_convicts(tmp_path):
    for name in ("a.ogg", "b.ogg"):
        with exported(tmp_path / name) as file:
            put(file, seed=ord(name[0]))
    (tmp_path / "b.ogg.c2pa").write_bytes((tmp_path / "a.ogg.c2pa").read_bytes())
    assert verify(tmp_path / "b.ogg").text == "tampered"


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:40], lambda data: b"\0" * len(data)])
@pytest.mark.parametrize("ending", [".png", ".wav", ".mp4", ".ogg", ".flac"])
def test_empty_short_and_foreign_bytes_are_never_verified(tmp_path, ending, damage):
    with exported(tmp_path / f"a{ending}") as file:
        put(file)
    (tmp_path / f"a{ending}").write_bytes(damage((tmp_path / f"a{ending}").read_bytes()))
    assert verify(tmp_path / f"a{ending}").text in ("tampered", "absent")


@pytest.mark.parametrize("content", [b"", b"not a manifest"])
def test_a_damaged_manifest_beside_is_never_verified(tmp_path, content):
    put(tmp_path / "a.ogg")
    (tmp_path / "a.ogg.c2pa").write_bytes(content)
    assert not verify(tmp_path / "a.ogg").verified


def test_folders_unknown_endings_and_missing_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        verify(tmp_path)
    with pytest.raises(ValueError, match=r"got 'a\.docx'"):
        verify(put(tmp_path / "a.docx"))
    with pytest.raises(FileNotFoundError, match="no file"):
        verify(tmp_path / "missing.png")


def test_a_marked_file_that_lost_its_credentials_is_recognised_by_its_own_installation_alone(tmp_path, monkeypatch):
    draws = np.random.default_rng(0)
    pixels = (128 + 30 * draws.normal(size=(256, 256, 3))).clip(0, 255).astype(np.uint8)
    with exported(tmp_path / "a.png") as file:
        Image.fromarray(marks.mark_picture(pixels, 42)).save(file)
    assert verify(tmp_path / "a.png").text == "valid"
    Image.open(tmp_path / "a.png").save(tmp_path / "a.jpg", quality=90)
    found = verify(tmp_path / "a.jpg")
    assert (found.text, found.mark.payload, found.verified) == (STRIPPED, 42, False)
    monkeypatch.setenv("AIGC_CACHE", str(tmp_path / "elsewhere"))
    assert verify(tmp_path / "a.jpg").text == "absent"


def test_the_command_says_the_verdict_and_exits_with_it(tmp_path, capsys):
    out = tmp_path / "digits.png"
    assert main(["sample", "gan-digits", "--n", "1", "--out", str(out), "--device", "cpu"]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert main(["verify", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{out}: valid\n")
    assert "gan-digits sha256:" in said
    assert "aigc sample gan-digits --n 1 --seed 0" in said
    Image.open(out).save(tmp_path / "saved.png")
    assert main(["verify", str(tmp_path / "saved.png")]) == 1
    assert "absent" in capsys.readouterr().out
    out.write_bytes(out.read_bytes()[:-30])
    assert main(["verify", str(out)]) == 1
    assert main(["verify", str(tmp_path)]) == 2
    assert "folder" in capsys.readouterr().err


# Labels --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(240, 320), (720, 405), (96, 96)])
def test_letters_are_a_twentieth_of_the_shorter_side(size):
    on_black = labels.labelled(torch.full((1, 3, *size), -1.0), "AI")[0, 0]
    assert (on_black > 0).any(dim=1).sum() >= 0.05 * min(size)


@pytest.mark.parametrize("ground", [-1.0, 0.0, 1.0])
def test_letters_have_the_contrast_that_the_accessibility_guidelines_ask_for(ground):
    picture = labels.labelled(torch.full((1, 3, 240, 320), ground))[0, 0]
    dark, light = ((value.item() + 1) / 2 for value in (picture.min(), picture.max()))
    luminance = [grey / 12.92 if grey <= 0.04045 else ((grey + 0.055) / 1.055) ** 2.4 for grey in (dark, light)]
    assert (luminance[1] + 0.05) / (luminance[0] + 0.05) >= 4.5
    assert light == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("label", [labels.LABEL, "AI-generated · AIGC course"])
def test_a_label_too_long_for_a_line_goes_on_in_the_next_and_stays_whole(label):
    ink = [labels.labelled(torch.full((1, 3, *size), -1.0), label)[0, 0] > 0.3 for size in ((96, 96), (96, 400))]
    below, beside = (torch.diff(letters.any(dim=1).int()).clamp(min=0).sum() for letters in ink)
    assert below > beside
    assert not ink[0][:, -3:].any()
    assert ink[0].sum().item() == pytest.approx(ink[1].sum().item(), rel=0.03)  # a letter may lie between two columns


@pytest.mark.parametrize(("label", "size"), [(labels.LABEL, (96, 48)), (labels.LABEL, (24, 96)), (" ", (96, 96))])
def test_a_label_that_would_not_stay_whole_is_refused(label, size):
    with pytest.raises(ValueError, match="needs"):
        labels.labelled(torch.zeros(1, 3, *size), label)


def test_a_film_is_labelled_for_two_seconds_and_not_longer():
    chunks = [torch.zeros(7, 3, 64, 96)] * 12
    film = torch.cat(list(labels.labelled_start(chunks, 25)))
    seen = (film != 0).flatten(1).any(dim=1)
    assert len(film) == 84
    assert seen[:50].all()
    assert not seen[52:].any()


def test_the_rhythm_is_that_of_the_letters_a_and_i():
    audio = 0.3 * torch.ones(1600)
    said = labels.announced(audio, 16_000)
    assert torch.equal(said[-1600:], audio)
    loud = torch.nn.functional.max_pool1d(said[:-1600].abs()[None], 80, 80)[0] > 0.1
    runs = torch.diff(torch.diff(loud.int()).nonzero().flatten()).tolist()
    assert [round(run / 16) for run in runs] == [1, 3, 3, 1, 1, 1]  # after the first dot: pause, dash, pause, dot …


@pytest.mark.parametrize("ending", [".png", ".wav"])
def test_the_field_comes_back_and_is_lost_when_saved_again(tmp_path, ending):
    content = labels.field("Ä & <7>", producer='"us"')
    plain = put(tmp_path / f"plain{ending}")
    labels.write_field(plain, tmp_path / f"field{ending}", content)
    assert labels.read_field(tmp_path / f"field{ending}") == content
    assert labels.read_field(plain) is None
    with exported(tmp_path / f"signed{ending}") as file:
        labels.write_field(plain, file, content)
    assert verify(tmp_path / f"signed{ending}").verified
    assert labels.read_field(tmp_path / f"signed{ending}") == content
    if ending == ".png":
        assert np.array_equal(Image.open(plain), Image.open(tmp_path / "field.png"))
        Image.open(tmp_path / "field.png").copy().convert("RGB").save(tmp_path / "again.jpg")
        assert Image.open(tmp_path / "again.jpg").info.get("XML:com.adobe.xmp") is None
    else:
        assert np.array_equal(soundfile.read(plain)[0], soundfile.read(tmp_path / "field.wav")[0])


def test_the_field_has_the_names_of_the_standard():
    assert list(json.loads(json.dumps(labels.field("7")))) == [
        *("Label", "ContentProducer", "ProduceID", "ReservedCode1", "ContentPropagator", "PropagateID", "ReservedCode2")
    ]
    with pytest.raises(ValueError, match='"1"'):
        labels.field("7", label="0")


def test_the_field_is_written_into_what_can_hold_it(tmp_path):
    with pytest.raises(ValueError, match=r"\.png and \.wav"):
        labels.write_field(put(tmp_path / "a.flac"), tmp_path / "b.flac", labels.field("1"))
    (tmp_path / "bad.png").write_text("no picture")
    with pytest.raises(ValueError, match="cannot be read"):
        labels.write_field(tmp_path / "bad.png", tmp_path / "b.png", labels.field("1"))
    assert labels.read_field(tmp_path / "bad.png") is None


def test_a_silent_film_is_still_a_film(tmp_path):
    with exported(tmp_path / "a.mp4") as file:
        put(file)
    assert open_video(tmp_path / "a.mp4").n_frames == 4
    assert math.isclose(open_video(tmp_path / "a.mp4").frame_rate, 25)
    assert set(exports.MEANING) == {"valid", "tampered", "absent", STRIPPED}
