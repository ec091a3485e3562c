"""The signature of a model's folder: OpenSSF's model-signing bundle `model.sig`, made with a P-256 key.

The bundle is Sigstore's JSON: a DSSE envelope around an in-toto statement, which has SHA-256 of each file. It is that
of PyPI's model-signing 1.1 (https://github.com/sigstore/model-transparency), whose `model_signing verify key` takes it.
This file lies here because the Pusher, the history and the model server import it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from data.errors import SettingsError, UserError
from data.files import file_system, sha256

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

SIGNATURE = "model.sig"
_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_IGNORED = (SIGNATURE, ".git", ".gitattributes", ".github", ".gitignore")
_SHOWN = 3


class SignatureError(UserError):
    """A folder is not signed, or is not what was signed."""


@dataclass(frozen=True)
class PublicKey:
    """A P-256 key to verify with. `fingerprint` is SHA-256 of its PEM, which a bundle names."""

    key: EllipticCurvePublicKey
    fingerprint: str
    name: str


def check_reference(setting: str) -> None:
    """Stops if `serving.sign_key` holds the key itself, so that no record gets it.

    Raises:
        SettingsError: it does.
    """
    if "-----BEGIN" in setting:
        raise SettingsError(
            "serving.sign_key holds a key, which a run would record: put the key into a file and give its path, or into"
            " an environment variable and give $NAME."
        )


def private_key(setting: str) -> EllipticCurvePrivateKey:
    """The key that `serving.sign_key` names: the path of a PEM file, or `$NAME` of a variable with a path or the PEM.

    Raises:
        SettingsError: the variable is not set, there is no such file, or it holds no P-256 key without a password.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    check_reference(setting)
    text, where = setting, f"serving.sign_key = {setting}"
    if setting.startswith("$"):
        text = os.environ.get(setting.strip("${}"), "")
        if not text:
            raise SettingsError(f"{where}: this variable is not set in the environment.")
    pem = text.encode() if "-----BEGIN" in text else _read(Path(text), where)
    try:
        key = load_pem_private_key(pem, None)
    except TypeError:
        raise SettingsError(f"{where}: the key is encrypted: save it without a password.") from None
    except ValueError:
        raise SettingsError(f"{where}: it holds no private key in PEM. Make one: {_MAKE}.") from None
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        kind = f"on the curve {key.curve.name}" if isinstance(key, EllipticCurvePrivateKey) else type(key).__name__
        raise SettingsError(f"{where}: the key is {kind}, and a signature needs P-256. Make one: {_MAKE}.")
    return key


def signer(setting: str) -> str:
    """The fingerprint of the key that `serving.sign_key` names; "" for none.

    Raises:
        SettingsError: see `private_key`.
    """
    return fingerprint(private_key(setting)) if setting else ""


_MAKE = "openssl ecparam -name prime256v1 -genkey -noout -out key.pem"


def public_key(path: Path) -> PublicKey:
    """The P-256 key in a PEM file.

    Raises:
        SettingsError: it cannot be read, or holds another thing.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = _read(path, f"The key {path}")
    try:
        key = load_pem_public_key(content)
    except ValueError:
        hint = "is a private key: write its public one by openssl ec -in key.pem -pubout -out pub.pem"
        problem = hint if b"PRIVATE KEY" in content else "is no public key in PEM"
        raise SettingsError(f"The key {path} {problem}.") from None
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise SettingsError(f"The key {path} is no P-256 key: give the public one of the key that signed.")
    return PublicKey(key, fingerprint(key), str(path))


def fingerprint(key: EllipticCurvePrivateKey | EllipticCurvePublicKey) -> str:
    """SHA-256 of the public key's PEM, as a bundle names the key."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = key.public_key() if hasattr(key, "public_key") else key
    return hashlib.sha256(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def sign(folder: str, key: EllipticCurvePrivateKey, name: str) -> None:
    """Writes `model.sig` into a model's folder: it covers every file, an earlier signature aside.

    Args:
        folder: a path, or an object store's.
        name: of the model; it only informs.

    Raises:
        SignatureError: the folder has a link, or what is no file.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    files = sorted(_files(folder, _IGNORED, links=False), key=PurePosixPath)
    digests = {file: sha256(f"{folder}/{file}") for file in files}
    statement = {
        "_type": _STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": _root(digests.values())}}],
        "predicateType": _PREDICATE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": list(_IGNORED),
            },
            "resources": [{"name": file, "algorithm": "sha256", "digest": value} for file, value in digests.items()],
        },
    }
    payload = json.dumps(statement, ensure_ascii=False).encode()
    signature = key.sign(_pae(payload), ECDSA(SHA256()))
    bundle = {
        "mediaType": _BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": fingerprint(key)}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": _PAYLOAD,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    with file_system(folder).GFile(f"{folder}/{SIGNATURE}", "wb") as file:
        file.write(json.dumps(bundle).encode())


def signed_by(folder: str) -> str | None:
    """The fingerprint of the key that a folder's bundle names; None without a bundle. It verifies nothing."""
    try:
        with file_system(folder).GFile(f"{folder}/{SIGNATURE}", "rb") as file:
            hint = json.loads(file.read())["verificationMaterial"]["publicKey"]["hint"]
    except (OSError, ValueError, KeyError, TypeError, _not_found()):
        return None
    return str(hint)


def verify(folder: Path, key: PublicKey) -> int:
    """The number of files that the signature of a folder covers, all of them unchanged.

    Raises:
        SignatureError: there is no signature, it is damaged or another key's, or a file was changed, added or removed.
    """
    digests, serialization = _signed(folder, key)
    ignored = (SIGNATURE, *serialization.get("ignore_paths", ()))
    found = set(_files(str(folder), ignored, links=bool(serialization.get("allow_symlinks"))))
    changed = [name for name in digests if name in found and sha256(f"{folder}/{name}") != digests[name]]
    for names, what in (
        (sorted(found - digests.keys()), "holds files that were not signed"),
        (sorted(digests.keys() - found), "lacks signed files"),
        (changed, "holds files that were changed after they were signed, or a signature of another model"),
    ):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            raise SignatureError(f"{folder} {what}: {', '.join(names[:_SHOWN])}{more}. {_REMEDY}")
    return len(digests)


_REMEDY = "Push or copy the version again."


def _signed(folder: Path, key: PublicKey) -> tuple[dict[str, str], dict[str, Any]]:
    """The digests that the key signed, by file, and how the files were listed."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    path = folder / SIGNATURE
    if not path.is_file():
        raise SignatureError(f"{folder} has no signature {SIGNATURE}: set serving.sign_key, and push the model.")
    try:
        bundle = json.loads(path.read_bytes())
        envelope, hint = bundle["dsseEnvelope"], bundle["verificationMaterial"]["publicKey"].get("hint")
        (signature,) = envelope["signatures"]
        payload, value = (base64.b64decode(text, validate=True) for text in (envelope["payload"], signature["sig"]))
        if bundle["mediaType"] != _BUNDLE or envelope["payloadType"] != _PAYLOAD:
            raise ValueError("it is no bundle of version 0.3")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SignatureError(f"{path} is no signature of model-signing ({error!r}). {_REMEDY}") from None
    if hint and hint != key.fingerprint:
        raise SignatureError(
            f"{folder} is signed with the key {hint[:16]}…, and {key.name} is {key.fingerprint[:16]}…: give the public"
            " key of its signer."
        )
    try:
        key.key.verify(value, _pae(payload), ECDSA(SHA256()))
    except InvalidSignature:
        raise SignatureError(f"{path} was not made with the key of {key.name}, or was changed. {_REMEDY}") from None
    try:
        statement = json.loads(payload)
        (subject,) = statement["subject"]
        predicate = statement["predicate"]
        digests = {item["name"]: item["digest"] for item in predicate["resources"]}
        whole = subject["digest"]["sha256"] == _root(item["digest"] for item in predicate["resources"])
        plain = predicate["serialization"]["method"] == "files" and predicate["serialization"]["hash_type"] == "sha256"
    except (ValueError, KeyError, TypeError) as error:
        raise SignatureError(f"{path} signs no statement of model-signing ({error!r}). {_REMEDY}") from None
    if (statement["_type"], statement["predicateType"]) != (_STATEMENT, _PREDICATE) or not whole or not plain:
        raise SignatureError(
            f"{path} signs another statement than SHA-256 of each file, as model-signing 1 makes it by default."
            " Sign the folder again."
        )
    return digests, predicate["serialization"]


def _pae(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what is signed."""
    return b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD), _PAYLOAD.encode(), len(payload), payload)


def _root(digests: Any) -> str:
    return hashlib.sha256(b"".join(bytes.fromhex(digest) for digest in digests)).hexdigest()


def _files(folder: str, ignored: tuple[str, ...], links: bool, below: str = "") -> Iterator[str]:
    """The paths of all files in a folder.

    Raises:
        SignatureError: a link, unless `links`; or what is no file.
    """
    files = file_system(folder)
    # Object stores list a folder with a slash behind it.
    for entry in sorted(name.rstrip("/") for name in files.listdir(f"{folder}/{below}" if below else folder)):
        name = f"{below}/{entry}" if below else entry
        path = f"{folder}/{name}"
        if name in ignored:
            continue
        if not links and Path(path).is_symlink():
            raise SignatureError(f"{path} is a link, which no signature covers: replace it by what it links to.")
        if files.isdir(path):
            yield from _files(folder, ignored, links, name)
        elif "://" in folder or Path(path).is_file():
            yield name
        else:
            raise SignatureError(f"{path} is no file, and no signature covers it: remove it.")


def _not_found() -> type[Exception]:
    """What TensorFlow's file systems raise for a missing file, if TensorFlow is loaded."""
    import sys

    tensorflow = sys.modules.get("tensorflow")
    return tensorflow.errors.NotFoundError if tensorflow else OSError


def _read(path: Path, where: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{where}: {path} cannot be read ({error.strerror}).") from None
