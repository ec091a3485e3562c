"""python -m data.build takes what people have, without an option: the same digits from every format."""

import tomllib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data.build import main
from data.readers import Images
from tests.conftest import read_images
from tests.data.formats import FORMATS, Digits


@pytest.fixture(scope="module")
def some(digits: Digits) -> Digits:
    """Few digits, but of all classes in each split."""
    return {split: digits[split].take(slice(0, count)) for split, count in (("train", 70), ("eval", 40), ("test", 40))}


def content(images: Images, names: tuple[str, ...]) -> Counter[tuple[str, bytes]]:
    return Counter((names[label], pixels.tobytes()) for label, pixels in zip(images.labels, images.pixels, strict=True))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_digits(
    tmp_path: Path, some: Digits, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    form, folder, out = FORMATS[name], tmp_path / "a", tmp_path / "out"
    folder.mkdir()
    source = form.write(folder, some)
    assert main([str(source), "--out", str(out)]) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert printed.startswith(f"Takes {source} for ") and form.said in printed
    data = tomllib.loads((out / "profile.toml").read_text())["data"]
    names = tuple(data.get("class_names", map(str, range(data["classes"]))))
    assert sorted(names) == sorted(form.names) and data["fit"] == "digit"
    found = {split: read_images(out, split) for split in ("train", "eval", "test")}
    for split in ("eval", "test"):
        if split in form.splits:
            assert content(found[split], names) == content(some[split], form.names)
            del found[split]
    rest = Images(
        *(np.concatenate([getattr(part, field) for part in found.values()]) for field in ("pixels", "labels"))
    )
    assert content(rest, names) == content(some["train"], form.names)
