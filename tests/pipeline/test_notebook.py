"""The README's piece for a notebook, in a Jupyter kernel."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.definition import STEPS
from tests.conftest import ROOT, versions
from tests.pipeline.few_digits import SMALL, few_mnist

SETTINGS = (SMALL, "training.epochs=4", "model.units=32", "gates.accuracy=0.3", "gates.class_accuracy=0.0")


@pytest.fixture(scope="module")
def piece() -> str:
    """The README's only Python block with an InteractiveContext."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (found,) = (block for block in blocks if "InteractiveContext" in block)
    return found


def test_it_is_short(piece: str) -> None:
    assert len(piece.splitlines()) <= 30


@pytest.mark.slow
def test_the_readmes_notebook_runs_every_step(piece: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="InteractiveContext needs the extra [notebook]")
    nbclient = pytest.importorskip("nbclient", reason="InteractiveContext needs the extra [notebook]")
    (tmp_path / "data").mkdir()
    few_mnist(tmp_path).rename(tmp_path / "data" / "mnist")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=":")
    quick = ", ".join(f'"{setting}"' for setting in SETTINGS)
    code, count = re.subn(r'load\("default", \[.*\]\)', f'load("default", [{quick}])', piece)
    assert count == 1
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    shown = "".join(output.text for output in notebook.cells[0].outputs if output.output_type == "stream")
    for step in STEPS:
        assert f"{step}: " in shown
    assert len(versions(tmp_path / "runs" / "notebook")) == 1
    figures = [output.data for output in notebook.cells[0].outputs if output.output_type == "display_data"]
    assert any("facets" in figure.get("text/html", "") for figure in figures)
