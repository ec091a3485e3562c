"""What the real steps make of the small digits, once: examples, a Transform graph, and an exported model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import tensorflow_transform as tft
import tf_keras

from components.trainer.export import describe_inputs, export, predict_reference
from components.trainer.model import build_model
from components.trainer.settings import Model
from data.example import ExampleSpec


@dataclass(frozen=True)
class Exported:
    """What a Trainer leaves in `folder`: `model` in TFX's layout, and `run` with its reference predictions."""

    settings: Model
    network: tf_keras.Model
    folder: Path

    @property
    def saved_model(self) -> Path:
        return self.folder / "model" / "Format-Serving"


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


@pytest.fixture(scope="session")
def exported(
    transform: tft.TFTransformOutput, example_files: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    found = Exported(Model(units=16), build_model(Model(units=16), ExampleSpec()), tmp_path_factory.mktemp("exported"))
    described = describe_inputs(ExampleSpec(), example_files["train"])
    export(found.network.get_weights(), transform, found.settings, ExampleSpec(), described, str(found.saved_model))
    (found.folder / "run").mkdir()
    reference = predict_reference(found.network, transform, ExampleSpec(), example_files["eval"])
    reference.write(str(found.folder / "run"))
    return found
