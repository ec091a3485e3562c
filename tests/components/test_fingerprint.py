"""A step's fingerprint changes with its own sources and with no others."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

STEPS = (
    "components.example_gen",
    "components.data_validation.schema",
    "components.data_validation.gate",
    "components.transform",
    "components.trainer.run",
    "components.evaluator",
    "components.infra_validator.component",
)


def fingerprints(tree: Path) -> dict[str, str]:
    code = f"from components.fingerprint import source_fingerprint as f; print(*[f(m) for m in {STEPS}])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, check=True)
    return dict(zip(STEPS, done.stdout.split(), strict=True))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for package in ("components", "data", "serving"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("*.gz", "__pycache__"))
    return tmp_path


@pytest.mark.parametrize(
    ("file", "touched"),
    [
        ("components/example_gen.py", {"components.example_gen"}),
        ("components/trainer/fit.py", {"components.trainer.run"}),
        ("components/transform.py", {step for step in STEPS if "data_validation" not in step} - {STEPS[0]}),
        ("components/data_validation/gate.py", {"components.data_validation.gate"}),
        ("components/data_validation/schema.py", {"components.data_validation.schema"}),
        ("components/evaluator.py", {"components.evaluator"}),
        ("serving/client.py", {"components.infra_validator.component"}),
        ("data/build.py", set()),
    ],
)
def test_only_the_steps_that_import_a_file_see_it_change(tree: Path, file: str, touched: set[str]) -> None:
    before = fingerprints(tree)
    (tree / file).write_text((tree / file).read_text() + "\n# changed\n")
    after = fingerprints(tree)
    assert {step for step in STEPS if before[step] != after[step]} == touched
