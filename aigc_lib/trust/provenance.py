"""Content Credentials: how a file was made, and whether it is still what was made (C2PA, written and read offline).

A manifest inside the file names the software, the kind of making and the trained networks with their digests, and holds
a hash of everything else in the file; a signature covers the manifest. A changed byte of the media breaks the hash.

What that proves. The certificate is made on this machine on first use, and anybody can make one with any name: valid
credentials say that the file is what was signed (integrity), not who signed it (identity). For that a certificate has
to come from an authority on a trust list; none is consulted here. Credentials can also be cut out of a file, and many
platforms do: a file without any proves nothing. No time-stamp authority is asked, no remote manifest is fetched.
"""

import importlib.util
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aigc_lib import __version__
from aigc_lib.datasets.base import MissingDataPackage
from aigc_lib.paths import cache_dir
from aigc_lib.training.checkpoints import write_whole

FORMATS = {  # that hold a manifest themselves
    **{".png": "image/png", ".webp": "image/webp", ".gif": "image/gif", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"},
    **{".mp4": "video/mp4", ".wav": "audio/wav", ".flac": "audio/flac", ".mp3": "audio/mpeg"},
}
BESIDE = (".ogg", ".mid", ".midi", ".musicxml", ".html", ".srt", ".vtt", ".txt")  # with a manifest in FILE.c2pa
PACKAGES = "c2pa-python cryptography"
# IPTC's terms (cv.iptc.org/newscodes/digitalsourcetype): what a trained network made; somebody's media that one added
# to; the same, without a change of its main content. None: cut and joined, nothing was made.
GENERATED, COMPOSITE, ENHANCED = (
    "trainedAlgorithmicMedia",
    "compositeWithTrainedAlgorithmicMedia",
    "algorithmicallyEnhanced",
)
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
SOURCE_TYPE = SOURCE_TYPES + GENERATED
UNTRUSTED = "signingCredential.untrusted"
_SETTINGS = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "core": {"allowed_network_hosts": []},
    "builder": {"thumbnail": {"enabled": False}, "bmff_hash_exclude_free_and_skip_boxes": False},
}
_LIFETIME = timedelta(days=3652)  # of the certificate: without a time stamp, nothing signed outlives it


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What a file says about itself. All but the first two is empty unless the state is "valid"."""

    state: str  # "valid": as it was signed; "tampered": changed since, or damaged; "absent": no credentials
    problems: tuple[str, ...] = ()  # in C2PA's words; "signingCredential.untrusted" alone leaves a file valid
    signer: str = ""  # the name in the certificate, which anybody can write there
    serial: str = ""  # the certificate's number: another one is another signer, whatever the name
    generator: str = ""  # software and version
    source_type: str = ""  # IPTC's term, such as trainedAlgorithmicMedia
    edited: str = ""  # name of the file that this one is an edit of
    ingredients: Mapping[str, str] = field(default_factory=dict)  # networks and data: name -> digest or version
    parameters: Mapping[str, Any] = field(default_factory=dict)  # of the making, such as the seed


def sign(
    path: Path | str,
    out: Path | str,
    *,
    ingredients: Mapping[str, str],
    parameters: Mapping[str, Any] | None = None,
    source_type: str | None = GENERATED,
    edited: Path | str | None = None,
) -> Path:
    """Write a copy of a generated file that carries Content Credentials. `out` is whole or what it was before.

    Args:
        path: a file of `FORMATS`; credentials that it has are replaced. Of `BESIDE`: the manifest goes into a file of
            its own next to `out`, named after it with .c2pa, and breaks if `out` changes or is missing.
        out: with the same ending; may be `path`.
        ingredients: the networks and data that made it, name -> digest or version.
        parameters: what else belongs to the making, such as the seed: JSON.
        source_type: a term of IPTC, see above.
        edited: the file of somebody else's making that this one is an edit of; it is named, hashed, and its own
            credentials, if it has some, are kept. The file then says "opened" and "edited", not "created".

    Returns:
        `out`, as a path.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another ending, or the file is not of its kind.
        MissingDataPackage: c2pa-python or cryptography is not installed.
        OSError, CheckpointError: `out`, or the manifest beside it, cannot be written.
    """
    path, out = Path(path), Path(out)
    kind, c2pa = _kind(path), library()
    if out.suffix.lower() != path.suffix.lower():
        raise ValueError(f"a signed {path.suffix} file stays one, got {out.name!r} to write")
    agent = {"name": "aigc_lib", "version": __version__}
    action = {"action": "c2pa.edited" if edited else "c2pa.created", "softwareAgent": agent}
    action |= {"digitalSourceType": SOURCE_TYPES + source_type} if source_type else {}
    manifest = {
        "claim_generator_info": [agent],
        "title": out.name,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [action | {"parameters": dict(parameters or {})}]}}
        ],
        "ingredients": [
            {"title": name, "relationship": "inputTo", "instance_id": what} for name, what in ingredients.items()
        ],
    }
    key, chain = _identity()
    signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, chain, key, None))
    embedded = out.suffix.lower() in FORMATS
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        with (
            path.open("rb") as file,
            partial.open("w+b") as signed,
            c2pa.Context.from_dict(_SETTINGS, signer) as context,
            c2pa.Builder(manifest, context) as builder,
        ):
            if edited:
                _opened(builder, Path(edited))
            if not embedded:
                builder.set_no_embed()
            beside = builder.sign(kind, file, signed)
        if not embedded:
            write_whole(sidecar(out), bytes(beside))
        partial.replace(out)
    except c2pa.C2paError as error:
        raise ValueError(f"{path} cannot be signed as {kind}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return out


def sidecar(path: Path) -> Path:
    """Where the manifest of a file of `BESIDE` is: beside it, named after it."""
    return path.with_name(path.name + ".c2pa")


def _opened(builder: Any, source: Path) -> None:
    """The first action becomes "opened", with its file as what this one comes from."""
    import c2pa

    builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
    kind = FORMATS.get(source.suffix.lower(), "application/octet-stream")
    digest = {"title": source.name, "relationship": "parentOf"}
    with source.open("rb") as file:
        builder.add_ingredient(digest, kind, file)


def read(path: Path | str) -> Credentials:
    """The Content Credentials of a file, checked against its bytes.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an ending that is neither in `FORMATS` nor in `BESIDE`, or a folder.
        MissingDataPackage: c2pa-python or cryptography is not installed.
    """
    path = Path(path)
    kind, c2pa = _kind(path), library()
    try:
        with path.open("rb") as file, c2pa.Context.from_dict(_SETTINGS) as context:
            beside = () if path.suffix.lower() in FORMATS else (_beside(path),)
            if beside == (None,):
                return Credentials(state="absent")
            reader = c2pa.Reader.try_create(kind, file, *beside, context=context)
            if reader is None:
                return Credentials(state="absent")
            with reader:
                manifest, results = reader.get_active_manifest(), reader.get_validation_results()
    except c2pa.C2paError as error:  # what cannot even be parsed, or says that its manifest lies on a server
        elsewhere = str(error).startswith("Remote:")
        return Credentials(state="absent" if elsewhere else "tampered", problems=(str(error),))
    problems = tuple(each["code"] for each in results["activeManifest"]["failure"])
    if set(problems) - {UNTRUSTED}:
        return Credentials(state="tampered", problems=problems)
    return Credentials(state="valid", problems=problems, **_said(manifest))


def _said(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a manifest says; other software may leave most of it out."""
    actions = [
        action
        for assertion in manifest.get("assertions", [])
        if assertion["label"].startswith("c2pa.actions")
        for action in assertion["data"]["actions"]
    ]
    made = ("c2pa.created", "c2pa.edited")
    created = next((action for action in actions if action.get("action") in made), {})
    agent, certificate = manifest.get("claim_generator_info", [{}])[0], manifest.get("signature_info", {})
    return {
        "signer": ", ".join(certificate[part] for part in ("common_name", "issuer") if certificate.get(part)),
        "serial": certificate.get("cert_serial_number", ""),
        "generator": f"{agent.get('name', '')} {agent.get('version', '')}".strip(),
        "source_type": created.get("digitalSourceType", "").rpartition("/")[2],
        "ingredients": {
            i.get("title", ""): i.get("instance_id", "")
            for i in manifest.get("ingredients", [])
            if i.get("relationship") != "parentOf"
        },
        "edited": next(
            (i.get("title", "") for i in manifest.get("ingredients", []) if i.get("relationship") == "parentOf"), ""
        ),
        "parameters": created.get("parameters", {}),
    }


def _beside(path: Path) -> bytes | None:
    file = sidecar(path)
    return file.read_bytes() if file.is_file() else None


def _kind(path: Path) -> str:
    if path.is_dir():
        raise ValueError(f"Content Credentials belong to files, but {path} is a folder")
    if path.suffix.lower() not in (*FORMATS, *BESIDE):
        endings = ", ".join((*FORMATS, *BESIDE))
        raise ValueError(f"Content Credentials are made for {endings} files here, got {path.name!r}")
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")
    return FORMATS.get(path.suffix.lower(), "application/octet-stream")


def library():
    """The package c2pa. Raises MissingDataPackage if it, or what it needs, is not installed."""
    if any(importlib.util.find_spec(name) is None for name in ("c2pa", "cryptography")):
        everything = 'pip install "aigc-lib[applications]"'
        raise MissingDataPackage(f"Content Credentials need c2pa. Run: pip install {PACKAGES}   (or: {everything})")
    import c2pa

    return c2pa


def _identity() -> tuple[bytes, bytes]:
    """Private key and certificate chain as PEM; made on first use, in a file that only its owner can read."""
    file = cache_dir() / "provenance" / "signer.pem"
    if not file.is_file():
        write_secret(file, _new_identity())
    key, mark, chain = file.read_bytes().partition(b"-----BEGIN CERTIFICATE-----")
    return key, mark + chain


def write_secret(file: Path, content: bytes) -> None:
    """Into a file that only its owner can read, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=file.parent)  # mode 0600
    with os.fdopen(handle, "wb") as new:
        new.write(content)
    os.replace(partial, file)


def _new_identity() -> bytes:
    """A key, its certificate, and that of the authority that issued it, whose own key is thrown away."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import ExtendedKeyUsageOID

    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority, signer = "Self-made authority, on no trust list", "Self-made signer"
    root = _certificate(authority, root_key.public_key(), authority, root_key, authority=True)
    purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])  # one of those that C2PA accepts
    leaf = _certificate(signer, key.public_key(), authority, root_key, purpose, authority=False)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + leaf + root


def _certificate(subject: str, key, issuer: str, issuer_key, *extensions, authority: bool) -> bytes:
    """PEM of an X.509 certificate as C2PA's profile wants it: version 3, key usage critical, both key identifiers."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import NameOID

    def name(text: str) -> x509.Name:
        parts = {NameOID.ORGANIZATION_NAME: "AIGC course", NameOID.COMMON_NAME: text}
        return x509.Name([x509.NameAttribute(oid, part) for oid, part in parts.items()])

    now, refused = datetime.now(UTC), ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    usage = dict.fromkeys((*refused, "encipher_only", "decipher_only"), False)
    usage |= {"digital_signature": not authority, "key_cert_sign": authority, "crl_sign": authority}
    builder = x509.CertificateBuilder(
        issuer_name=name(issuer),
        subject_name=name(subject),
        public_key=key,
        serial_number=x509.random_serial_number(),
        not_valid_before=now - timedelta(days=1),  # clocks differ
        not_valid_after=now + _LIFETIME,
    )
    for extension, critical in (
        (x509.BasicConstraints(ca=authority, path_length=0 if authority else None), True),
        (x509.KeyUsage(**usage), True),
        (x509.SubjectKeyIdentifier.from_public_key(key), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False),
        *((extension, False) for extension in extensions),
    ):
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(Encoding.PEM)
