"""The chain of steps. Every runner uses this one definition, none changes it."""

from __future__ import annotations

from pathlib import Path

from ml_metadata.proto import metadata_store_pb2
from tfx import v1 as tfx

from components.data_validation.gate import DataGate
from components.data_validation.schema import CuratedSchema, curated_schema
from components.evaluator import Evaluator, LatestOtherBlessedModel, eval_config
from components.example_gen import example_gen
from components.fingerprint import source_fingerprint
from components.infra_validator.component import InfraValidator
from components.pusher import AtomicPusher
from components.served import ServedModel
from components.settings import TrainerSettings
from components.trainer.export import signature_names
from pipeline.beam import pipeline_args
from pipeline.config import Config

artifacts = tfx.types.standard_artifacts


def create_pipeline(
    config: Config,
    *,
    pipeline_root: str,
    serving_dir: str,
    backup_dir: str | None = None,
    data_path: str | tfx.dsl.experimental.RuntimeParameter | None = None,
    metadata: metadata_store_pb2.ConnectionConfig | None = None,
    resolver: bool = True,
) -> tfx.dsl.Pipeline:
    """The pipeline of `config`: TFRecords in, a judged and pushed model out.

    Args:
        config: the profile.
        pipeline_root: where artifacts lie; any file system TFX can write.
        serving_dir: TF Serving's base path; a pushed model becomes `<serving_dir>/<version>`.
        backup_dir: where an interrupted training leaves its state; by default in the pipeline root.
        data_path: the data folder as the steps see it, or the run parameter that names it; by default the profile's.
        metadata: the ML Metadata connection; None where the orchestrator brings its own.
        resolver: whether the orchestrator can ask ML Metadata for the baseline; else a step finds what is served.
    """
    image = config.data.image
    source = data_path or str(Path(config.data.path).resolve())

    examples = example_gen(source, source_fingerprint("components.example_gen")).with_id("ExampleGen")
    schema = CuratedSchema(
        text=curated_schema(image.classes), code=source_fingerprint("components.data_validation.schema")
    ).with_id("CuratedSchema")
    statistics = tfx.components.StatisticsGen(
        examples=examples.outputs["examples"], schema=schema.outputs["schema"]
    ).with_id("StatisticsGen")
    validator = tfx.components.ExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
    ).with_id("ExampleValidator")
    gate = DataGate(
        statistics=statistics.outputs["statistics"],
        anomalies=validator.outputs["anomalies"],
        schema=schema.outputs["schema"],
        source=source,
        rows=image.rows,
        columns=image.columns,
        code=source_fingerprint("components.data_validation.gate"),
    ).with_id("DataGate")
    transform = tfx.components.Transform(
        examples=examples.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn="components.transform.preprocessing_fn",
        # The Trainer applies the graph as it reads, which beats writing and reading every pixel as a float.
        materialize=False,
        disable_statistics=True,
        custom_config={
            "rows": image.rows,
            "columns": image.columns,
            "code": source_fingerprint("components.transform"),
        },
    ).with_id("Transform")
    transform.add_upstream_node(gate)
    settings = TrainerSettings(
        image=image,
        model=config.model,
        training=config.training,
        backup_dir=backup_dir or f"{pipeline_root}/Trainer/backup",
        code=source_fingerprint("components.trainer.run"),
    )
    trainer = tfx.components.Trainer(
        run_fn="components.trainer.run.run_fn",
        examples=examples.outputs["examples"],
        transform_graph=transform.outputs["transform_graph"],
        train_args=tfx.proto.TrainArgs(),
        eval_args=tfx.proto.EvalArgs(),
        custom_config=settings.model_dump(),
    ).with_id("Trainer")
    baseline = (
        tfx.dsl.Resolver(
            strategy_class=LatestOtherBlessedModel,
            model=tfx.dsl.Channel(type=artifacts.Model),
            model_blessing=tfx.dsl.Channel(type=artifacts.ModelBlessing),
            candidate=trainer.outputs["model"],
        )
        if resolver
        else ServedModel(
            candidate=trainer.outputs["model"],
            serving_dir=serving_dir,
            code=source_fingerprint("components.served"),
        )
    ).with_id("Baseline")
    evaluator = Evaluator(
        examples=examples.outputs["examples"],
        model=trainer.outputs["model"],
        baseline_model=baseline.outputs["model"],
        # The split neither training nor early stopping has seen.
        example_splits=["test"],
        eval_config=eval_config(config.gates, source_fingerprint("components.evaluator")),
    ).with_id("Evaluator")
    infra_validator = InfraValidator(
        model=trainer.outputs["model"],
        model_run=trainer.outputs["model_run"],
        model_blessing=evaluator.outputs["blessing"],
        model_name=config.serving.model_name,
        signatures=",".join(signature_names(config.model)),
        settings=config.infra.model_dump_json(),
        code=source_fingerprint("components.infra_validator.component", "serving.model_server.server"),
    ).with_id("InfraValidator")
    # Without a `model`, the Pusher takes the copy the check has served and warmed up.
    pusher = AtomicPusher(
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=infra_validator.outputs["blessing"],
        push_destination=tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(base_directory=serving_dir)
        ),
    ).with_id("Pusher")

    return tfx.dsl.Pipeline(
        pipeline_name=config.name,
        pipeline_root=pipeline_root,
        components=[
            examples,
            schema,
            statistics,
            validator,
            gate,
            transform,
            trainer,
            baseline,
            evaluator,
            infra_validator,
            pusher,
        ],
        enable_cache=True,
        metadata_connection_config=metadata,
        beam_pipeline_args=pipeline_args(config.beam),
    )
