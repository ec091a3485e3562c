"""The builder and the client read a picture in one way: the shards hold what the client sends."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.build import main
from data.example import ExampleSpec, reading
from data.readers import Images
from data.records import read_split
from serving.client.images import read_images, reading_of
from serving.client.results import Description
from tests.benchmarks.conditions import save


def pictures(folder: Path, images: Images, kind: str) -> None:
    """Class folders, in `train` and `test`, of pictures as people have them."""
    for index, (pixels, label) in enumerate(zip(images.pixels, images.labels, strict=True)):
        place = folder / ("test" if index % 4 == 0 else "train") / f"digit {label % 2}" / str(index)
        place.parent.mkdir(parents=True, exist_ok=True)
        if kind == "paper":
            save(("on a 4:3 page", "on a page")[index % 2], pixels, np.random.default_rng(index), place)
        elif kind == "floating point":
            Image.fromarray(pixels.astype(np.float32) / 300 + 0.1).save(place.with_suffix(".tif"))
        else:
            Image.merge("LA", (Image.new("L", (28, 28), 255), Image.fromarray(pixels))).save(place.with_suffix(".png"))


@pytest.mark.parametrize("kind", ["paper", "floating point", "transparent"])
@pytest.mark.parametrize("fit", ["digit", "letterbox", "stretch"])
def test_the_shards_hold_what_the_client_sends(
    fit: str, kind: str, digits: dict[str, Images], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "pictures", tmp_path / "built"
    pictures(source, digits["test"].take(slice(0, 60)), kind)
    assert main([str(source), "--out", str(out), "--fit", fit, "--size", "20x24", "--shards", "1"]) == 0
    settings = tomllib.loads((out / "profile.toml").read_text())["data"]
    spec = ExampleSpec.model_validate({name: value for name, value in settings.items() if name != "path"})
    built, labels = read_split(out, "test", spec)
    said = reading_of(
        Description(1, spec.labels, {k: v.item() if v.ndim == 0 else v for k, v in reading(spec, built).items()})
    )
    assert (said.fit, said.size) == (fit, (20, 24))
    files = sorted((source / "test").rglob("*.*"))
    sent, notes = read_images(files, said)
    assert sorted(image.tobytes() for image in sent) == sorted(image.tobytes() for image in built)
    assert not any(notes) and len(labels) == len(files) == 15
