"""The push of a signed version: signed last, signed once, and signed anew with another key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from components.pusher.component import SIGN_KEY
from data.errors import SettingsError
from data.signature import public_key, signed_by, verify
from tests.components.test_pusher import Atomic, push
from tests.data.test_signature import key_pair


class Signing(Atomic):
    """The executor with a key."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self._key = key

    def Do(self, inputs: Any, outputs: Any, properties: dict[str, Any]) -> None:
        super().Do(inputs, outputs, {**properties, SIGN_KEY: self._key})


def test_a_version_is_signed_once_by_each_key(tmp_path: Path) -> None:
    base = tmp_path / "mnist"
    tf.saved_model.save(tf.Module(), str(tmp_path / "blessing" / "stamped_model"))
    (private, public), (other, _) = key_pair(tmp_path / "keys"), key_pair(tmp_path / "keys", "other")

    def pushed(key: Path | str) -> Path:
        return Path(push(Signing(str(key)), tmp_path, base).get_string_custom_property("pushed_destination"))

    unsigned = pushed("")
    assert signed_by(str(unsigned)) is None
    signed = pushed(private)
    files = {str(path.relative_to(signed)) for path in signed.rglob("*") if path.is_file()}
    assert verify(signed, public_key(public)) == len(files) - 1 and "assets.extra/provenance.json" in files
    assert pushed(private) == signed and pushed("") == signed
    assert pushed(other) not in (unsigned, signed)
    assert [path.name for path in base.iterdir() if not path.name.isdecimal()] == []


def test_without_a_usable_key_nothing_is_pushed(tmp_path: Path) -> None:
    tf.saved_model.save(tf.Module(), str(tmp_path / "blessing" / "stamped_model"))
    with pytest.raises(SettingsError, match=r"none\.pem cannot be read"):
        push(Signing(str(tmp_path / "none.pem")), tmp_path, tmp_path / "mnist")
    assert not (tmp_path / "mnist").exists()
