"""The chain: ids, order, what waits for what, and a fingerprint that no step can lack."""

from pathlib import Path

import pytest
from tfx import v1 as tfx
from tfx.dsl.components.base.base_node import BaseNode

from components.data_validation.schema import CuratedSchema
from pipeline import definition
from pipeline.config import Config
from pipeline.definition import STEPS, Chain, create_pipeline


@pytest.fixture
def pipeline(tmp_path: Path) -> tfx.dsl.Pipeline:
    return create_pipeline(Config(), pipeline_root=str(tmp_path), serving_dir=str(tmp_path / "serving"))


def test_every_step_runs_after_the_steps_it_needs(pipeline: tfx.dsl.Pipeline) -> None:
    upstream = {component.id: {node.id for node in component.upstream_nodes} for component in pipeline.components}
    assert set(upstream) == set(STEPS)
    for index, step in enumerate(STEPS):
        assert upstream[step] <= set(STEPS[:index])
    assert "DataGate" in upstream["Transform"]
    assert "ExampleValidator" in upstream["DataGate"]
    assert {"InfraValidator", "Evaluator"} <= upstream["Pusher"]
    assert {"Trainer", "Evaluator"} <= upstream["InfraValidator"]
    assert "Trainer" in upstream["Baseline"] and "Baseline" in upstream["Evaluator"]


def test_every_step_that_computes_has_a_fingerprint(pipeline: tfx.dsl.Pipeline) -> None:
    fingerprints = {node.id: node.exec_properties.get("fingerprint") for node in pipeline.components}
    assert fingerprints.pop("Baseline") is None  # a resolver, which is never cached
    assert all(len(fingerprint) == 16 for fingerprint in fingerprints.values())
    assert len(set(fingerprints.values())) == len(fingerprints)


def test_a_step_without_a_fingerprint_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def add_without_fingerprint(chain: Chain, step: str, node: BaseNode) -> BaseNode:
        node = add(chain, step, node)
        if step == "DataGate":
            del node.exec_properties["fingerprint"]
        return node

    add = Chain.add
    monkeypatch.setattr(Chain, "add", add_without_fingerprint)
    with pytest.raises(ValueError, match="The step DataGate has no fingerprint"):
        create_pipeline(Config(), pipeline_root=str(tmp_path), serving_dir=str(tmp_path))


def test_a_step_that_is_missing_or_unknown_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="The step Schema is missing in STEPS"):
        Chain().add("Schema", CuratedSchema(text=""))
    monkeypatch.setattr(definition, "STEPS", (*STEPS, "BulkInferrer"))
    with pytest.raises(ValueError, match="The pipeline lacks the steps BulkInferrer"):
        create_pipeline(Config(), pipeline_root=str(tmp_path), serving_dir=str(tmp_path))
