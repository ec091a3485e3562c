"""Signatures of model folders: what is accepted, and each refusal, by name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from data.errors import SettingsError
from data.signature import SignatureError, check_reference, private_key, public_key, sign, signed_by, verify
from pipeline.history.__main__ import main as history


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, lock: KeySerializationEncryption | None = None) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock or NoEncryption())


def key_pair(folder: Path, name: str = "key") -> tuple[Path, Path]:
    """New P-256 keys, private and public, in PEM files."""
    folder.mkdir(exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    paths = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    paths[0].write_bytes(pem(key))
    paths[1].write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return paths


def write_model(folder: Path, content: str = "graph") -> Path:
    for name in ("saved_model.pb", "variables/variables.index", "assets.extra/provenance.json", "assets/größe.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content + name)
    return folder


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return key_pair(tmp_path / "keys")


@pytest.fixture
def signed(tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    folder = write_model(tmp_path / "7")
    sign(str(folder), private_key(str(keys[0])), "mnist")
    return folder


def test_a_signed_folder_is_accepted_wherever_it_lies(
    signed: Path, keys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = public_key(keys[1])
    assert verify(signed, key) == 4 and signed_by(str(signed)) == key.fingerprint
    (signed / ".git").mkdir()
    (signed / ".git" / "HEAD").touch()  # model-signing leaves Git's files out
    moved = shutil.copytree(signed, tmp_path / "elsewhere" / "8")
    assert history(["verify", str(moved), "--key", str(keys[1])]) == 0
    assert capsys.readouterr().out == f"{moved}: signed with the key {key.fingerprint[:16]}…, 4 files, all unchanged.\n"
    (moved / "saved_model.pb").write_text("another")
    assert history(["verify", str(moved), "--key", str(keys[1])]) == 1
    assert capsys.readouterr().err.startswith(f"history: {moved} holds files that were changed after they were signed")


def flip(folder: Path) -> None:
    path = folder / "variables" / "variables.index"
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


def link(folder: Path) -> None:
    path = folder / "assets" / "größe.txt"
    path.rename(folder.parent / "outside")
    path.symlink_to(folder.parent / "outside")


def forge(folder: Path) -> None:
    bundle = json.loads((folder / "model.sig").read_text())
    payload = bundle["dsseEnvelope"]["payload"]
    bundle["dsseEnvelope"]["payload"] = payload[:-8] + "AAAA" + payload[-4:]
    (folder / "model.sig").write_text(json.dumps(bundle))


def other_bundle(folder: Path) -> None:
    other = write_model(folder.parent / "other", "another graph")
    sign(str(other), private_key(str(folder.parent / "keys" / "key.pem")), "mnist")
    shutil.copy(other / "model.sig", folder)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (flip, r"changed after they were signed.*: variables/variables\.index\. Push or copy"),
        (
            lambda folder: (folder / "assets" / "more.txt").touch(),
            r"holds files that were not signed: assets/more\.txt\.",
        ),
        (lambda folder: (folder / "saved_model.pb").unlink(), r"lacks signed files: saved_model\.pb\."),
        (
            lambda folder: (folder / "assets.extra" / "provenance.json").write_text("{}"),
            r"assets\.extra/provenance\.json",
        ),
        (lambda folder: (folder / "model.sig").unlink(), r"has no signature model\.sig: set serving\.sign_key"),
        (
            lambda folder: (folder / "model.sig").write_text("{}"),
            r"model\.sig is no signature of model-signing \(KeyError",
        ),
        (
            other_bundle,
            r"or a signature of another model: assets/größe\.txt, assets\.extra/provenance\.json,"
            r" saved_model\.pb and 1 more",
        ),
        (forge, r"model\.sig was not made with the key of .*, or was changed"),
        (link, r"größe\.txt is a link, which no signature covers"),
        (lambda folder: os.mkfifo(folder / "pipe"), r"pipe is no file, and no signature covers it"),
    ],
    ids=["bit", "added", "removed", "provenance", "unsigned", "damaged", "other model", "forged", "link", "fifo"],
)
def test_each_change_is_refused_by_name(
    signed: Path, keys: tuple[Path, Path], change: Callable[[Path], None], sentence: str
) -> None:
    change(signed)
    with pytest.raises(SignatureError, match=sentence):
        verify(signed, public_key(keys[1]))


def test_another_key_is_refused_by_name(signed: Path, tmp_path: Path) -> None:
    other = public_key(key_pair(tmp_path / "keys", "other")[1])
    with pytest.raises(
        SignatureError, match=rf"is signed with the key \w+…, and .*other\.pub\.pem is {other.fingerprint[:16]}"
    ):
        verify(signed, other)


def test_the_key_may_be_in_the_environment(keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = public_key(keys[1]).key
    for value in (keys[0].read_text(), str(keys[0])):
        monkeypatch.setenv("SIGN_KEY", value)
        for setting in ("$SIGN_KEY", "${SIGN_KEY}"):
            assert private_key(setting).public_key() == expected


def test_an_unusable_key_is_a_sentence_without_the_key(
    keys: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    p256 = ec.generate_private_key(ec.SECP256R1())
    wrong = {
        r"the key is encrypted: save it without a password": pem(p256, BestAvailableEncryption(b"word")),
        r"the key is on the curve secp384r1, and a signature needs P-256": pem(ec.generate_private_key(ec.SECP384R1())),
        r"the key is RSAPrivateKey, and": pem(rsa.generate_private_key(65537, 2048)),
        r"it holds no private key in PEM\. Make one: openssl ecparam": b"-----BEGIN nothing",
    }
    for sentence, content in wrong.items():
        (tmp_path / "wrong.pem").write_bytes(content)
        with pytest.raises(SettingsError, match=rf"^serving\.sign_key = .*wrong\.pem: {sentence}"):
            private_key(str(tmp_path / "wrong.pem"))
    with pytest.raises(SettingsError, match=r"none\.pem cannot be read \(No such file"):
        private_key(str(tmp_path / "none.pem"))
    monkeypatch.delenv("SIGN_KEY", raising=False)
    with pytest.raises(SettingsError, match=r"sign_key = \$SIGN_KEY: this variable is not set"):
        private_key("$SIGN_KEY")
    with pytest.raises(SettingsError) as raised:
        check_reference(keys[0].read_text())
    assert "holds a key, which a run would record" in str(raised.value) and "BEGIN" not in str(raised.value)
    for path, sentence in (
        (keys[0], "is a private key: write its public one by"),
        (tmp_path / "wrong.pem", "is no public"),
    ):
        with pytest.raises(SettingsError, match=sentence):
            public_key(path)


@pytest.mark.slow
def test_model_signing_accepts_ours_and_ours_accepts_theirs(
    signed: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    """PyPI's model-signing in an environment of its own; it needs OpenSSL's package and does not declare it."""
    environment = tmp_path / "venv"
    venv.create(environment)
    pip = [sys.executable, "-m", "pip", "--python", environment, "install", "--quiet", "--no-compile"]
    install = [*pip, "model-signing==1.1.1", "pyOpenSSL"]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"model-signing cannot be installed: {done.stderr.strip().splitlines()[-1]}")

    def theirs(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [environment / "bin" / "python", "-m", "model_signing", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    check = ("verify", "key", signed, "--signature", signed / "model.sig", "--public_key", keys[1])
    done = theirs(*check)
    assert done.returncode == 0 and "Verification succeeded" in done.stdout, done.stdout + done.stderr
    flip(signed)
    done = theirs(*check)
    assert done.returncode == 1 and "Hash mismatch for 'variables/variables.index'" in done.stderr

    done = theirs("sign", "key", signed, "--signature", signed / "model.sig", "--private_key", keys[0])
    assert done.returncode == 0, done.stderr
    assert verify(signed, public_key(keys[1])) == 4
    (signed / "assets" / "more.txt").touch()
    with pytest.raises(SignatureError, match=r"not signed: assets/more\.txt"):
        verify(signed, public_key(keys[1]))


def test_signing_needs_no_tensorflow(signed: Path, keys: tuple[Path, Path]) -> None:
    code = (
        "import sys; from pathlib import Path; from data.signature import public_key, verify;"
        f"verify(Path({str(signed)!r}), public_key(Path({str(keys[1])!r})));"
        "assert not {'tensorflow', 'tfx'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
