"""The chain: ids, order, and what waits for what."""

from pathlib import Path

from components.fingerprint import source_fingerprint
from pipeline import STEPS
from pipeline.config import Config
from pipeline.definition import create_pipeline


def test_the_steps_are_those_the_command_line_knows_in_an_order_that_works(tmp_path: Path) -> None:
    pipeline = create_pipeline(Config(), pipeline_root=str(tmp_path), serving_dir=str(tmp_path / "serving"))
    ids = [component.id for component in pipeline.components]
    assert sorted(ids) == sorted(STEPS)
    upstream = {component.id: {node.id for node in component.upstream_nodes} for component in pipeline.components}
    for index, step in enumerate(STEPS):
        assert upstream[step] <= set(STEPS[:index])
    assert "DataGate" in upstream["Transform"]
    assert "ExampleValidator" in upstream["DataGate"]
    assert {"InfraValidator", "Evaluator"} <= upstream["Pusher"]
    assert {"Trainer", "Evaluator"} <= upstream["InfraValidator"]
    assert {"Trainer", "Baseline"} <= upstream["Evaluator"]


def test_tfxs_cache_sees_every_step_whose_code_is_ours(tmp_path: Path) -> None:
    pipeline = create_pipeline(Config(), pipeline_root=str(tmp_path), serving_dir=str(tmp_path / "serving"))
    sources = {
        "ExampleGen": ["components.example_gen"],
        "CuratedSchema": ["components.data_validation.schema"],
        "DataGate": ["components.data_validation.gate"],
        "Transform": ["components.transform"],
        "Trainer": ["components.trainer.run"],
        "Evaluator": ["components.evaluator"],
        "InfraValidator": ["components.infra_validator.component", "serving.model_server.server"],
    }
    settings = {component.id: str(component.exec_properties) for component in pipeline.components}
    for step, modules in sources.items():
        assert source_fingerprint(*modules) in settings[step], step
