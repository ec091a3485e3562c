"""The compiled KFP v2 spec: create_pipeline's chain with a report at its end, and the resources of each step."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from google.protobuf import json_format

from data.errors import SettingsError
from data.signature import check_reference
from pipeline.config import Config
from pipeline.definition import create_pipeline
from pipeline.kubeflow.step import HTML
from pipeline.settings import Kubeflow, Resources, TrainerResources

if TYPE_CHECKING:
    from tfx.dsl.components.base.base_node import BaseNode
    from tfx.orchestration.pipeline import Pipeline

VOLUME = "/volume"
# Where the image keeps the project's own data; a relative data.path counts from here.
WORKDIR, OWN_DATA = "/app", "data/mnist"
# Their results depend on folders, of which Kubeflow's cache sees only the path: the served models, the data. The report
# and the verdict belong to one run.
NEVER_CACHED = ("Baseline", "ExampleGen", "Report", "Verdict")
# For each attempt: the wait before it, and the wait for a node.
_WAITING_MINUTES = 30

Target = Literal["kubeflow", "vertex"]


@dataclass(frozen=True)
class Deployment:
    """Where the steps run, and where they write."""

    image: str
    pipeline_root: str
    target: Target = "kubeflow"
    volume: str = ""
    serving_dir: str = ""
    cache: bool = True

    def __post_init__(self) -> None:
        schemes = ("gs://", "s3://", "minio://") if self.target == "kubeflow" else ("gs://",)
        if not self.pipeline_root.startswith(schemes):
            raise SettingsError(
                f"The pipeline root {self.pipeline_root} is no address for the target {self.target}:"
                f" it must begin with {' or '.join(schemes)}."
            )
        if self.volume and self.target == "vertex":
            raise SettingsError("Vertex AI mounts no volume claims: leave out --volume.")
        if self.shared.startswith("minio://") or self.serving_dir.startswith("minio://"):
            raise SettingsError(
                "Only Kubeflow's launcher understands minio://, and the model is pushed by a step: name a claim with"
                " --volume, which then holds the served models, or an address of another kind with --serving-dir."
            )
        kept = ("gs://", "s3://", *([f"{VOLUME}/"] if self.volume else []))
        if self.serving_dir and not self.serving_dir.startswith(kept):
            raise SettingsError(
                f"The serving folder {self.serving_dir} would be gone with the Pusher's container: it must begin with"
                f" {' or '.join(kept)}{'' if self.volume else f', or with {VOLUME}/ if --volume names a claim'}."
            )

    @property
    def shared(self) -> str:
        """The folder that outlives a run: for served models and interrupted trainings."""
        return VOLUME if self.volume else self.pipeline_root.rstrip("/")


def unreadable(path: str, deployment: Deployment) -> str:
    """A sentence if no step finds the data folder `path`, as far as that is known here; else "".

    A relative path counts from WORKDIR.
    """
    place = Path(WORKDIR, path)
    known = [Path(WORKDIR, OWN_DATA), *([Path(VOLUME)] if deployment.volume else [])]
    if "://" in path or any(place.is_relative_to(folder) for folder in known):
        return ""
    claim = f", or to {VOLUME}/… on the claim of --volume" if deployment.target == "kubeflow" else ""
    return (
        f"A step sees no folder of this machine, and the project's image has no {place}: if yours has not, copy the"
        f" data to gs:// or s3://{claim}, and set data.path."
    )


def compile_spec(config: Config, deployment: Deployment) -> list[dict[str, Any]]:
    """The YAML documents of the pipeline: a PipelineSpec, and for Kubeflow a PlatformSpec.

    Raises:
        SettingsError: settings that cannot work together.
    """
    from kfp.pipeline_spec import pipeline_spec_pb2

    if problem := next(_problems(config, deployment), None):
        raise SettingsError(problem)
    config = config.model_copy(
        update={"data": config.data.model_copy(update={"golden": _in_image(config.data.golden)})}
    )
    data_path = _in_image(config.data.path)
    check_reference(config.serving.sign_key)
    pipeline = _create_pipeline(config, deployment, data_path)
    resources = {node.id: _resources(config.kubeflow, node) for node in pipeline.components}
    spec = _run_compiler(pipeline, deployment.image)
    spec.default_pipeline_root = deployment.pipeline_root
    # TFX leaves a run parameter without its default value.
    spec.root.input_definitions.parameters["data_path"].default_value.string_value = data_path
    # The UI shows an artifact of this type. TFX knows only its own types.
    html = spec.components["Report"].output_definitions.artifacts["report"].artifact_type
    html.schema_title, html.schema_version = HTML, "0.0.1"
    executors = pipeline_spec_pb2.PipelineDeploymentConfig()
    json_format.ParseDict(json_format.MessageToDict(spec.deployment_spec), executors)
    for step, task in spec.root.dag.tasks.items():
        container = executors.executors[f"{step}_executor"].container
        _set_up(task, container, resources[step], deployment, local=config.beam.engine == "direct")
    spec.deployment_spec.Clear()
    spec.deployment_spec.update(json_format.MessageToDict(executors))
    documents = [json_format.MessageToDict(spec)]
    if deployment.target == "kubeflow":
        documents.append(_platform_spec(config.kubeflow, resources, deployment.volume))
    return documents


def _in_image(path: str) -> str:
    """A path as a step sees it; an address, or none, as it is."""
    return path if "://" in path or not path else str(Path(WORKDIR, path))


def _create_pipeline(config: Config, deployment: Deployment, data_path: str) -> Pipeline:
    from tfx.dsl.context_managers import dsl_context_registry
    from tfx.orchestration.data_types import RuntimeParameter
    from tfx.orchestration.pipeline import Pipeline

    from pipeline.kubeflow.report import reporting_nodes

    trainer = config.kubeflow.trainer
    default_dir = f"{deployment.shared}/serving_models/{config.serving.model_name}"
    source = RuntimeParameter(name="data_path", ptype=str, default=data_path)
    pipeline = create_pipeline(
        config,
        pipeline_root=deployment.pipeline_root,
        serving_dir=deployment.serving_dir.rstrip("/") or default_dir,
        backup_dir=f"{deployment.shared}/backup",
        data_path=source,
        use_resolver=False,
        hardware=f"1 x {trainer.gpus} {trainer.gpu_type}" if trainer.gpus else f"1 x {config.training.replicas} CPU",
        model_server=deployment.image,
    )
    nodes = [*pipeline.components, *reporting_nodes(pipeline, config, source)]
    # The registry of a pipeline takes no more nodes. Beam's arguments are already in the nodes.
    registry = dsl_context_registry.DslContextRegistry()
    for node in nodes:
        registry.put_node(node)
    return Pipeline(
        pipeline.pipeline_info.pipeline_name,
        pipeline.pipeline_info.pipeline_root,
        components=nodes,
        enable_cache=pipeline.enable_cache,
        dsl_context_registry=registry,
    )


def _run_compiler(pipeline: Pipeline, image: str) -> Any:
    """The PipelineSpec that TFX makes of `pipeline`."""
    from kfp.pipeline_spec import pipeline_spec_pb2
    from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner as runner

    settings = runner.KubeflowV2DagRunnerConfig(
        default_image=image,
        default_commands=["python", "-m", "pipeline.kubeflow.step"],
        use_pipeline_spec_2_1=True,  # open-source Kubeflow accepts no other
    )
    job = runner.KubeflowV2DagRunner(settings).run(pipeline, write_out=False)
    return json_format.ParseDict(job["pipelineSpec"], pipeline_spec_pb2.PipelineSpec())


def _problems(config: Config, deployment: Deployment) -> Iterator[str]:
    beam, kubeflow = config.beam, config.kubeflow
    if config.data.path.startswith("minio://") or config.data.golden.startswith("minio://"):
        yield "Only Kubeflow's launcher understands minio://, and ExampleGen reads the data itself: use s3://."
    if beam.engine != "direct" and deployment.pipeline_root.startswith("minio://"):
        yield f"Workers of beam.engine = {beam.engine} cannot read minio://: use a pipeline root of gs:// or s3://."
    if beam.engine in ("flink", "spark") and beam.environment == "loopback":
        yield "beam.environment = loopback means the machine of the job server, and a step runs in a pod: use external."
    if beam.has_jar:
        yield f"beam.job_server = {beam.job_server} needs Java, and the image has none: name a running server."
    for option in beam.args:
        if re.search("secret|password|token", option.partition("=")[0], re.IGNORECASE):
            yield (
                f"{option.partition('=')[0]} would be readable in the spec: give it to the steps as an environment"
                " variable, with kubeflow.secrets."
            )
    if deployment.target == "vertex":
        sections = [name for name in ("light", "beam", "trainer") if getattr(kubeflow, name).node_selector]
        unknown = [f"kubeflow.{name}.node_selector" for name in sections]
        if unknown := [*unknown, *(["kubeflow.secrets"] if kubeflow.secrets else [])]:
            yield f"Vertex AI knows no {' and no '.join(unknown)}: leave it out."
        if kubeflow.trainer.gpus and "/" in kubeflow.trainer.gpu_type:
            yield (
                f"kubeflow.trainer.gpu_type = {kubeflow.trainer.gpu_type} is none of Vertex AI's accelerators:"
                " name one, such as NVIDIA_L4."
            )


def _resources(kubeflow: Kubeflow, node: BaseNode) -> Resources:
    from tfx.dsl.components.base.executor_spec import BeamExecutorSpec

    if node.id == "Trainer":
        return kubeflow.trainer
    return kubeflow.beam if isinstance(node.executor_spec, BeamExecutorSpec) else kubeflow.light


def _set_up(task: Any, container: Any, needed: Resources, deployment: Deployment, local: bool) -> None:
    """Gives a step what it needs: resources, options, retries.

    The retries come after 30 s, 60 s, …, within a time that all attempts fit in. Argo counts that time from the start
    of the first attempt, and ends an attempt that is still running then (its operator.go, `backoff.maxDuration`).
    Vertex AI takes no more than an hour.
    """
    from pipeline.kubeflow.report import VERDICT

    step, wanted = task.task_info.name, container.resources
    wanted.cpu_request = wanted.cpu_limit = needed.cpu
    wanted.memory_request = wanted.memory_limit = needed.memory
    if isinstance(needed, TrainerResources) and needed.gpus:
        wanted.accelerator.type, wanted.accelerator.count = needed.gpu_type, needed.gpus
    task.caching_options.enable_cache = deployment.cache and step not in NEVER_CACHED
    policy, retries = task.retry_policy, 0 if step == VERDICT else needed.retries
    attempts = 60 * (retries + 1) * (needed.timeout_minutes + _WAITING_MINUTES)
    policy.max_retry_count = retries
    policy.backoff_duration.seconds, policy.backoff_factor = 30, 2.0
    policy.backoff_max_duration.seconds = attempts if deployment.target == "kubeflow" else min(attempts, 3600)
    # TFX's own driver would run in this hook. Ours only chooses the days, and so does the executor.
    container.ClearField("lifecycle")
    if deployment.target == "kubeflow" and local:
        # The backend copies artifacts to disk. The workers of a distributed engine see no step's disk: they get the
        # addresses themselves.
        container.args.extend(["--copies", "/"])


def _platform_spec(kubeflow: Kubeflow, resources: dict[str, Resources], volume: str) -> dict[str, Any]:
    """What only Kubernetes has: node selectors, deadlines, the volume, secrets as environment variables."""
    from kfp.kubernetes import kubernetes_executor_config_pb2 as kubernetes

    executors = {}
    for step, needed in resources.items():
        config = kubernetes.KubernetesExecutorConfig(active_deadline_seconds=60 * needed.timeout_minutes)
        if needed.node_selector:
            config.node_selector.labels.update(needed.node_selector)
        if volume:
            config.pvc_mount.add(constant=volume, mount_path=VOLUME)
        for secret, keys in kubeflow.secrets.items():
            pairs = [kubernetes.SecretAsEnv.SecretKeyToEnvMap(secret_key=key, env_var=key) for key in keys]
            config.secret_as_env.add(secret_name=secret, key_to_env=pairs)
        executors[f"{step}_executor"] = json_format.MessageToDict(config)
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}}
