"""The chain of steps. Every runner uses this one definition, none changes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import Config
from pipeline.engines.settings import pipeline_args

if TYPE_CHECKING:
    from ml_metadata.proto import metadata_store_pb2
    from tfx.dsl.components.base.base_node import BaseNode
    from tfx.orchestration.data_types import RuntimeParameter
    from tfx.orchestration.pipeline import Pipeline

STEPS = (
    "CuratedSchema",
    "ExampleGen",
    "StatisticsGen",
    "ExampleValidator",
    "DataGate",
    "Transform",
    "Trainer",
    "Baseline",
    "Evaluator",
    "InfraValidator",
    "Pusher",
)
"""The steps' ids in the order they run. `create_pipeline` loads TFX; the command line lists the ids without it."""

STEP_OF_SECTION = {
    "data": "ExampleGen",
    "validation": "DataGate",
    "model": "Trainer",
    "training": "Trainer",
    "augmentation": "Trainer",
    "gates": "Evaluator",
    "infra": "InfraValidator",
    "serving": "Pusher",
}
"""The sections of the settings that decide what is pushed, each with its step. The others say where it is computed."""

# Execution properties that name a function of ours by its dotted path.
_FUNCTIONS = ("run_fn", "preprocessing_fn")
# The base class of a component that is a function; it imports Beam, which the function does not use.
_FUNCTION_EXECUTOR = "tfx.dsl.component.experimental.decorators"


def computing_modules(node: BaseNode) -> list[str]:
    """The modules that compute a step's result: of its executor, of its base classes, and of its functions.

    None for a resolver: it looks up its result in each run.
    """
    from tfx.dsl.components.common.resolver import Resolver

    if isinstance(node, Resolver):
        return []
    executors = (base.__module__ for base in node.executor_spec.executor_class.__mro__)
    functions = (str(node.exec_properties.get(name) or "") for name in _FUNCTIONS)
    return [
        *(module for module in executors if module != _FUNCTION_EXECUTOR),
        *(function.rpartition(".")[0] for function in functions if function),
    ]


class Chain(dict[str, "BaseNode"]):
    """The steps of one pipeline by their ids. Each has the fingerprint of what computes it."""

    def __setitem__(self, step: str, node: BaseNode) -> None:
        from components.fingerprint import fingerprint

        if modules := computing_modules(node):
            node.exec_properties["fingerprint"] = fingerprint(*modules)
        super().__setitem__(step, node.with_id(step))


def full_path(path: str) -> str:
    """An address as it is, another path in full; empty if it is not set."""
    return path if not path or "://" in path else str(Path(path).resolve())


def create_pipeline(
    config: Config,
    *,
    pipeline_root: str,
    serving_dir: str,
    backup_dir: str | None = None,
    data_path: str | RuntimeParameter | None = None,
    days: str = "",
    metadata: metadata_store_pb2.ConnectionConfig | None = None,
    use_resolver: bool = True,
    hardware: str = "",
    model_server: str = "",
    signer: str = "",
) -> Pipeline:
    """The pipeline of `config`: TFRecords in, a validated and pushed model out.

    Args:
        config: the profile.
        pipeline_root: where artifacts lie; any file system that TFX can write.
        serving_dir: TF Serving's base path; a pushed model becomes `<serving_dir>/<version>`.
        backup_dir: where an interrupted training leaves its state; by default in the pipeline root.
        data_path: the data folder as the steps see it, or the run parameter that names it; by default the profile's.
        days: the days that are taken, as `data.days.to_text` has them; by default the newest.
        metadata: the ML Metadata connection; None if the orchestrator brings its own.
        use_resolver: whether the orchestrator runs resolvers. If not, a step finds the baseline, in the same way.
        hardware: the hosts and devices that train. Results depend on them, so TFX's cache must see them.
        model_server: the server that the infra check will find. TFX's cache must see another one.
        signer: the fingerprint of the key of `serving.sign_key`; "" if it is not on this machine.
    """
    # The modules themselves: tfx.v1 also loads Vertex AI's libraries, which takes seconds.
    from tfx.components import ExampleValidator, Transform
    from tfx.dsl.components.common.resolver import Resolver
    from tfx.orchestration.pipeline import Pipeline
    from tfx.proto import trainer_pb2

    from components.baseline import LatestPushedModel, LatestPushedModelStrategy
    from components.data_validation.gate import DataGate
    from components.data_validation.schema import CuratedSchema, schema_text
    from components.data_validation.statistics import StatisticsGen
    from components.evaluator.component import Evaluator
    from components.example_gen import ExampleGen
    from components.infra_validator.component import InfraValidator
    from components.pusher.component import AtomicPusher
    from components.trainer.component import Trainer
    from components.trainer.settings import TrainerSettings
    from components.trainer.signatures import signature_names

    example = config.data.example
    source = data_path or full_path(config.data.path)
    chain = Chain()

    chain["CuratedSchema"] = CuratedSchema(text=schema_text(example))
    schema = chain["CuratedSchema"].outputs["schema"]
    golden = full_path(config.data.golden)
    chain["ExampleGen"] = ExampleGen(input_base=source, window=config.data.window, golden=golden, days=days)
    examples = chain["ExampleGen"].outputs["examples"]
    chain["StatisticsGen"] = StatisticsGen(examples=examples, schema=schema, example=example)
    statistics = chain["StatisticsGen"].outputs["statistics"]
    chain["ExampleValidator"] = ExampleValidator(statistics=statistics, schema=schema)
    chain["DataGate"] = DataGate(
        statistics=statistics,
        anomalies=chain["ExampleValidator"].outputs["anomalies"],
        schema=schema,
        imported=examples,
        data_path=source,
        golden_path=golden,
        example=example.model_dump_json(),
        validation=config.validation.model_dump_json(),
    )
    chain["Transform"] = Transform(
        examples=examples,
        schema=schema,
        preprocessing_fn="components.transform.preprocessing_fn",
        # The Trainer applies the graph while it reads: faster than writing and reading every pixel as a float.
        materialize=False,
        disable_statistics=True,
        custom_config=example.model_dump(),
    )
    chain["Transform"].add_upstream_node(chain["DataGate"])
    follows: dict[str, str] = {}
    if config.training.warm_start:
        preprocessing = chain["Transform"].exec_properties["fingerprint"]
        follows = {"serving_dir": serving_dir, "preprocessing": preprocessing}
    chain["Trainer"] = Trainer(
        run_fn="components.trainer.run.run_fn",
        examples=examples,
        transform_graph=chain["Transform"].outputs["transform_graph"],
        train_args=trainer_pb2.TrainArgs(),
        eval_args=trainer_pb2.EvalArgs(),
        custom_config=TrainerSettings(
            example=example,
            model=config.model,
            training=config.training,
            augmentation=config.augmentation,
            backup_dir=backup_dir or f"{pipeline_root}/Trainer/backup",
            hardware=hardware,
            **follows,
        ).model_dump(),
    )
    model = chain["Trainer"].outputs["model"]
    chain["Baseline"] = (
        Resolver(
            strategy_class=LatestPushedModelStrategy,
            config={"serving_dir": serving_dir, "baseline_dir": f"{pipeline_root}/Baseline/model"},
            model=model,  # goes in as the candidate, comes out as the baseline
        )
        if use_resolver
        else LatestPushedModel(candidate=model, serving_dir=serving_dir)
    )
    chain["Evaluator"] = Evaluator(
        examples=examples,
        model=model,
        baseline_model=chain["Baseline"].outputs["model"],
        gates=config.gates,
        example=example,
    )
    blessing = chain["Evaluator"].outputs["blessing"]
    chain["InfraValidator"] = InfraValidator(
        model=model,
        model_run=chain["Trainer"].outputs["model_run"],
        model_blessing=blessing,
        model_name=config.serving.model_name,
        signatures=",".join(signature_names(config.model)),
        settings=config.infra.model_dump_json(),
        server_identity=model_server,
    )
    chain["Pusher"] = AtomicPusher(
        examples=examples,
        evaluation=chain["Evaluator"].outputs["evaluation"],
        model_blessing=blessing,
        infra_blessing=chain["InfraValidator"].outputs["blessing"],
        serving_dir=serving_dir,
        provenance={
            "pipeline": config.name,
            "example": example.model_dump(),
            "settings": config.model_dump(include=set(STEP_OF_SECTION), exclude={"serving": {"sign_key"}}),
            "fingerprints": {
                step: found for step, node in chain.items() if (found := node.exec_properties.get("fingerprint"))
            },
        },
        sign_key=config.serving.sign_key,
        signer=signer,
    )
    if tuple(chain) != STEPS:
        raise ValueError(f"The chain is {', '.join(chain)}, but STEPS is {', '.join(STEPS)}.")
    return Pipeline(
        pipeline_name=config.name,
        pipeline_root=pipeline_root,
        components=list(chain.values()),
        enable_cache=True,
        metadata_connection_config=metadata,
        beam_pipeline_args=pipeline_args(config.beam),
    )
