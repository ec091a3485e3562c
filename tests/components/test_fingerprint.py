"""A step's fingerprint changes with its own sources and with no others."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

STEPS = ("components.data_validation.gate", "components.transform", "components.trainer.run")


def fingerprints(tree: Path) -> dict[str, str]:
    code = f"from components.fingerprint import source_fingerprint as f; print(*[f(m) for m in {STEPS}])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, check=True)
    return dict(zip(STEPS, done.stdout.split(), strict=True))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for package in ("components", "data"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("*.gz", "__pycache__"))
    return tmp_path


@pytest.mark.parametrize(
    ("file", "touched"),
    [
        ("components/trainer/fit.py", {"components.trainer.run"}),
        ("components/transform.py", {"components.transform", "components.trainer.run"}),
        ("components/data_validation/gate.py", {"components.data_validation.gate"}),
        ("data/features.py", set(STEPS)),
        ("components/evaluator.py", set()),
        ("data/build.py", set()),
    ],
)
def test_only_the_steps_that_import_a_file_see_it_change(tree: Path, file: str, touched: set[str]) -> None:
    before = fingerprints(tree)
    (tree / file).write_text((tree / file).read_text() + "\n# changed\n")
    after = fingerprints(tree)
    assert {step for step in STEPS if before[step] != after[step]} == touched
