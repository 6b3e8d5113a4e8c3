"""Content Credentials: what is signed is valid, a changed byte is seen, and nobody's identity is proved."""

import os
import stat
from io import BytesIO

import c2pa
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from aigc_lib.datasets.base import MissingDataPackage
from aigc_lib.datasets.video_files import open_video, write_video
from aigc_lib.trust import provenance
from aigc_lib.trust.provenance import UNTRUSTED, read, sign

KINDS = (".png", ".mp4", ".wav", ".flac", ".webp")
MADE_OF = {"gan-emoji": "sha256:" + "ab" * 32, "hibari-tts": "0.2.1"}
quick = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIGC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Ending -> a file without credentials."""
    folder, draws = tmp_path_factory.mktemp("plain"), np.random.default_rng(0)
    Image.fromarray(draws.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / "a.png")
    Image.open(folder / "a.png").save(folder / "a.webp", lossless=True)
    for kind in (".wav", ".flac"):
        soundfile.write(folder / f"a{kind}", np.sin(np.arange(4000) / 9) / 2, 16_000)
    clip = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    write_video(folder / "a.mp4", clip, 25)
    return {kind: folder / f"a{kind}" for kind in KINDS}


@pytest.fixture(scope="module")
def signed(plain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("signed")
    return {
        kind: sign(path, folder / path.name, ingredients=MADE_OF, parameters={"seed": 7, "sentence": "Hi."})
        for kind, path in plain.items()
    }


def content(path):
    if path.suffix in (".png", ".webp"):
        return np.array(Image.open(path))
    return (
        soundfile.read(path)[0]
        if path.suffix in (".wav", ".flac")
        else torch.cat(list(open_video(path).chunks())).numpy()
    )


def media(path):
    """Where the pixels or samples lie in a signed file."""
    data = path.read_bytes()
    if path.suffix == ".wav":
        return range(44, 44 + 8000)
    if path.suffix == ".png":
        begin = data.index(b"IDAT") + 4
        return range(begin, data.index(b"IEND") - 8)
    if path.suffix == ".flac":
        return range(len(data) - 100, len(data))  # of the last frame
    if path.suffix == ".webp":
        begin = data.index(b"VP8L") + 8
        return range(begin, begin + 200)
    begin = data.index(b"mdat") + 4
    return range(begin, data.index(b"moov") - 4)


def flipped(path, folder, place, change):
    data = bytearray(path.read_bytes())
    data[place] ^= change
    copy = folder / f"flipped{path.suffix}"
    copy.write_bytes(data)
    return copy


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_signed_is_valid_and_says_how_it_was_made(signed, kind):
    found = read(signed[kind])
    assert found.state == "valid"
    assert found.source_type == "trainedAlgorithmicMedia"
    assert found.generator == "aigc_lib 0.1.0"
    assert found.ingredients == MADE_OF
    assert found.parameters == {"seed": 7, "sentence": "Hi."}


@pytest.mark.parametrize("kind", KINDS)
def test_the_media_stays_what_it_was(plain, signed, kind):
    assert np.array_equal(content(plain[kind]), content(signed[kind]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_without_credentials_has_none(plain, kind):
    assert read(plain[kind]) == provenance.Credentials(state="absent")


@pytest.mark.parametrize("kind", KINDS)
@quick
@given(where=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_every_changed_byte_of_the_media_is_seen(signed, tmp_path, kind, where, change):
    places = media(signed[kind])
    found = read(flipped(signed[kind], tmp_path, places[int(where * len(places))], change))
    assert found.state == "tampered"
    if kind in (".mp4", ".wav"):  # the others' own checks may fail before the hash is looked at
        assert ("assertion.bmffHash.mismatch" if kind == ".mp4" else "assertion.dataHash.mismatch") in found.problems
    assert not found.signer
    assert not found.ingredients


@pytest.mark.parametrize("kind", KINDS)
@quick
@given(where=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_any_changed_byte_gives_an_answer(signed, tmp_path, kind, where, change):
    """A byte of padding changes nothing, one in a chunk's name can hide the manifest: never an error."""
    n = signed[kind].stat().st_size
    assert read(flipped(signed[kind], tmp_path, int(where * n), change)).state in ("valid", "tampered", "absent")


def test_the_brand_of_an_mp4_is_not_covered(signed, tmp_path):
    """C2PA leaves the box ftyp out of the hash: what a player shows does not depend on it."""
    place = signed[".mp4"].read_bytes().index(b"ftyp") + 8  # the minor version
    assert read(flipped(signed[".mp4"], tmp_path, place, 1)).state == "valid"


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_cut_off_is_not_valid(signed, tmp_path, kind):
    data = signed[kind].read_bytes()
    (tmp_path / f"cut{kind}").write_bytes(data[: len(data) * 9 // 10])
    assert read(tmp_path / f"cut{kind}").state != "valid"


def test_the_key_is_the_owners_alone_and_in_no_file(signed):
    store = provenance.cache_dir() / "provenance" / "signer.pem"
    key, chain = provenance._identity()
    if os.name == "posix":
        assert stat.S_IMODE(store.stat().st_mode) == 0o600
    assert b"PRIVATE KEY" in key
    assert chain.count(b"BEGIN CERTIFICATE") == 2
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    secret = load_pem_private_key(key, None).private_numbers().private_value.to_bytes(32, "big")
    assert all(secret not in path.read_bytes() for path in signed.values())


def test_one_machine_signs_with_one_certificate(signed):
    assert len({read(path).serial for path in signed.values()}) == 1


def test_a_stranger_can_sign_with_the_same_name(signed, tmp_path, monkeypatch):
    """Integrity, not identity: the forgery is valid, its signer has the same name; only the number differs."""
    monkeypatch.setenv("AIGC_CACHE", str(tmp_path / "strangers"))
    forged = read(sign(signed[".png"], tmp_path / "forged.png", ingredients={"a camera": "1"}))
    mine = read(signed[".png"])
    assert (forged.state, forged.signer) == ("valid", mine.signer)
    assert forged.serial != mine.serial
    assert UNTRUSTED in forged.problems
    assert UNTRUSTED in mine.problems


def test_no_remote_manifest_is_fetched(plain, tmp_path):
    """The file only says where its manifest would be; nobody asks there."""
    key, chain = provenance._identity()
    signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, chain, key, None))
    out = BytesIO()
    manifest = {"claim_generator_info": [{"name": "a"}], "assertions": []}
    with c2pa.Context.from_dict({"verify": {"verify_after_sign": False}}, signer) as context:
        builder = c2pa.Builder(manifest, context)
        builder.set_no_embed()
        builder.set_remote_url("http://192.0.2.1/manifest.c2pa")  # a test network: a request would hang
        with plain[".png"].open("rb") as file:
            builder.sign("image/png", file, out)
    (tmp_path / "remote.png").write_bytes(out.getvalue())
    found = read(tmp_path / "remote.png")
    assert found.state == "absent"
    assert "192.0.2.1" in found.problems[0]


def test_signing_again_replaces_the_credentials(signed, tmp_path):
    again = sign(signed[".wav"], tmp_path / "again.wav", ingredients={"other": "1"})
    assert read(again).ingredients == {"other": "1"}
    assert read(sign(again, again, ingredients={})).state == "valid"  # onto itself


def test_bad_input_is_refused_before_anything_is_written(plain, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "old.png").write_bytes(b"before")
    with pytest.raises(ValueError, match="cannot be signed"):
        sign(tmp_path / "text.png", tmp_path / "old.png", ingredients={})
    assert (tmp_path / "old.png").read_bytes() == b"before"
    with pytest.raises(ValueError, match=r"stays one, got 'a\.wav'"):
        sign(plain[".png"], tmp_path / "a.wav", ingredients={})
    with pytest.raises(ValueError, match=r"\.png, .*\.mp4.* files"):
        read(tmp_path / "notes.doc")
    with pytest.raises(FileNotFoundError, match="no file"):
        read(tmp_path / "missing.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.png", "text.png"]


def test_without_the_package_the_error_says_what_to_install(plain, monkeypatch):
    monkeypatch.setattr(provenance.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDataPackage, match=r"pip install c2pa-python cryptography"):
        read(plain[".png"])
