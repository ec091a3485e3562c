"""The chain: ids, order, what waits for what, and a fingerprint that no step can lack."""

from pathlib import Path

import pytest
from tfx.orchestration.pipeline import Pipeline

from pipeline import definition
from pipeline.config import Config
from pipeline.definition import STEPS, create_pipeline


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return create_pipeline(Config(), pipeline_root=str(tmp_path), serving_dir=str(tmp_path / "serving"))


def test_every_step_runs_after_the_steps_it_needs(pipeline: Pipeline) -> None:
    upstream = {component.id: {node.id for node in component.upstream_nodes} for component in pipeline.components}
    assert set(upstream) == set(STEPS)
    for index, step in enumerate(STEPS):
        assert upstream[step] <= set(STEPS[:index])
    assert "DataGate" in upstream["Transform"]
    assert "ExampleValidator" in upstream["DataGate"]
    assert {"InfraValidator", "Evaluator"} <= upstream["Pusher"]
    assert {"Trainer", "Evaluator"} <= upstream["InfraValidator"]
    assert "Trainer" in upstream["Baseline"] and "Baseline" in upstream["Evaluator"]


def test_every_step_that_computes_has_a_fingerprint(pipeline: Pipeline) -> None:
    fingerprints = {node.id: node.exec_properties.get("fingerprint") for node in pipeline.components}
    assert fingerprints.pop("Baseline") is None  # a resolver, which is never cached
    assert all(len(fingerprint) == 16 for fingerprint in fingerprints.values())
    assert len(set(fingerprints.values())) == len(fingerprints)


def test_a_step_that_is_missing_or_unknown_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for steps in ((*STEPS, "BulkInferrer"), STEPS[1:]):
        monkeypatch.setattr(definition, "STEPS", steps)
        with pytest.raises(ValueError, match=r"The chain is CuratedSchema, .* but STEPS is "):
            create_pipeline(Config(), pipeline_root=str(tmp_path), serving_dir=str(tmp_path))
