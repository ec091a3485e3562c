"""A Transform graph and ExampleGen's files for the small digits, made once by the real steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow_transform as tft


@pytest.fixture(scope="session")
def prepared(small_mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifacts folder of a run up to Transform."""
    from pipeline.local.cli import main

    root = tmp_path_factory.mktemp("prepared")
    assert main(["--run-root", str(root), "--to", "Transform", "--set", f"data.path={small_mnist}"]) == 0
    return root / "artifacts"


@pytest.fixture(scope="session")
def transform(prepared: Path) -> tft.TFTransformOutput:
    return tft.TFTransformOutput(str(next((prepared / "Transform" / "transform_graph").iterdir())))


@pytest.fixture(scope="session")
def example_files(prepared: Path) -> dict[str, list[str]]:
    """File patterns of each split, as the Trainer is given them."""
    folder = next((prepared / "ExampleGen" / "examples").iterdir())
    return {split: [f"{folder}/Split-{split}/*"] for split in ("train", "eval", "test")}
