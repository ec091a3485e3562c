"""The KFP v2 spec: create_pipeline's chain, and beside it what each step needs of the cluster."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from google.protobuf import json_format
from pydantic import Field

from components.settings import Section
from data.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.config import Config

VOLUME = "/volume"
# Where the image keeps the project's own data; a relative data.path counts from here.
WORKDIR = "/app"
BEAM_STEPS = ("ExampleGen", "StatisticsGen", "Transform", "Evaluator")
# What they answer changes though their inputs do not.
NEVER_CACHED = ("Baseline",)


class Needs(Section):
    """What one container asks of the cluster."""

    cpu: float = Field(1.0, gt=0, description="cores, requested and allowed")
    memory: float = Field(4.0, gt=0, description="GB, requested and allowed")
    node_selector: dict[str, str] = Field({}, description="labels a node must have")
    retries: int = Field(1, ge=0)
    timeout_minutes: int = Field(30, ge=1, description="of each attempt; Vertex AI knows no such limit")


class BeamNeeds(Needs):
    cpu: float = Field(2.0, gt=0)
    retries: int = Field(2, ge=0)
    timeout_minutes: int = Field(120, ge=1)


class TrainerNeeds(Needs):
    gpus: int = Field(0, ge=0)
    gpu_type: str = Field("nvidia.com/gpu", description="the resource's name; on Vertex AI the accelerator's")
    cpu: float = Field(4.0, gt=0)
    memory: float = Field(8.0, gt=0)
    retries: int = Field(2, ge=0)
    timeout_minutes: int = Field(720, ge=1)


class Kubeflow(Section):
    """What the steps ask of a cluster. One step took 1.3 GB at most with 280,000 records (pipeline/SCALING.md)."""

    light: Needs = Field(Needs(), description="each step that is neither the Trainer nor Beam's")
    beam: BeamNeeds = Field(BeamNeeds(), description=f"each of {', '.join(BEAM_STEPS)}")
    trainer: TrainerNeeds = TrainerNeeds()
    secrets: dict[str, list[str]] = Field(
        {}, description="Kubernetes Secrets and which of their keys become environment variables of every step"
    )

    def of(self, step: str) -> Needs:
        """The needs of a step of `pipeline.STEPS`."""
        return self.trainer if step == "Trainer" else self.beam if step in BEAM_STEPS else self.light


Target = Literal["kubeflow", "vertex"]


@dataclass(frozen=True)
class Deployment:
    """Where the steps run and where they leave things."""

    image: str
    pipeline_root: str
    target: Target = "kubeflow"
    volume: str = ""
    serving_dir: str = ""
    cache: bool = True

    def __post_init__(self) -> None:
        schemes = ("gs://", "s3://", "minio://") if self.target == "kubeflow" else ("gs://",)
        if not self.pipeline_root.startswith(schemes):
            raise ConfigError(
                f"The pipeline root {self.pipeline_root} is no address the target {self.target} takes:"
                f" it must begin with {' or '.join(schemes)}."
            )
        if self.volume and self.target == "vertex":
            raise ConfigError("Vertex AI mounts no volume claims: leave out --volume.")
        if self.shared.startswith("minio://") or self.serving_dir.startswith("minio://"):
            raise ConfigError(
                "Only Kubeflow's launcher understands minio://, and the model is pushed by a step: name a claim with"
                " --volume, which then holds the served models, or an address of another kind with --serving-dir."
            )
        kept = ("gs://", "s3://", *([f"{VOLUME}/"] if self.volume else []))
        if self.serving_dir and not self.serving_dir.startswith(kept):
            raise ConfigError(
                f"The serving folder {self.serving_dir} would be gone with the Pusher's container: it must begin with"
                f" {' or '.join(kept)}{'' if self.volume else f', or with {VOLUME}/ if --volume names a claim'}."
            )

    @property
    def shared(self) -> str:
        """What outlives a run: the served models and interrupted trainings."""
        return VOLUME if self.volume else self.pipeline_root.rstrip("/")


def compile_spec(config: Config, deployment: Deployment) -> list[dict[str, Any]]:
    """The YAML documents of the pipeline: a PipelineSpec, and for Kubeflow a PlatformSpec.

    Args:
        config: the profile.
        deployment: where to.

    Raises:
        ConfigError: settings that cannot work together.
    """
    from kfp.pipeline_spec import pipeline_spec_pb2
    from tfx import v1 as tfx
    from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner as runner

    from pipeline.definition import create_pipeline

    for problem in _problems(config, deployment):
        raise ConfigError(problem)
    data_path = config.data.path if "://" in config.data.path else str(Path(WORKDIR, config.data.path))
    pipeline = create_pipeline(
        config,
        pipeline_root=deployment.pipeline_root,
        serving_dir=deployment.serving_dir or f"{deployment.shared}/serving_models/{config.serving.model_name}",
        backup_dir=f"{deployment.shared}/backup",
        data_path=tfx.dsl.experimental.RuntimeParameter(name="data_path", ptype=str, default=data_path),
        resolver=False,
    )
    settings = runner.KubeflowV2DagRunnerConfig(
        default_image=deployment.image,
        default_commands=["python", "-m", "pipeline.kubeflow_step"],
        use_pipeline_spec_2_1=True,  # open-source Kubeflow takes no other
    )
    job = runner.KubeflowV2DagRunner(settings).run(pipeline, write_out=False)
    spec = json_format.ParseDict(job["pipelineSpec"], pipeline_spec_pb2.PipelineSpec())
    spec.default_pipeline_root = deployment.pipeline_root
    # TFX leaves a run parameter's default to whoever starts the run.
    spec.root.input_definitions.parameters["data_path"].default_value.string_value = data_path
    executors = pipeline_spec_pb2.PipelineDeploymentConfig()
    json_format.ParseDict(json_format.MessageToDict(spec.deployment_spec), executors)
    for step, task in spec.root.dag.tasks.items():
        needs = config.kubeflow.of(step)
        container = executors.executors[f"{step}_executor"].container
        _ask(container.resources, needs)
        if deployment.target == "kubeflow":
            _adapt(container, local=config.beam.engine == "direct")
        task.caching_options.enable_cache = deployment.cache and step not in NEVER_CACHED
        task.retry_policy.max_retry_count = needs.retries
        task.retry_policy.backoff_duration.seconds = 30
        task.retry_policy.backoff_factor = 2.0
        task.retry_policy.backoff_max_duration.seconds = 600
    spec.deployment_spec.Clear()
    spec.deployment_spec.update(json_format.MessageToDict(executors))
    documents = [json_format.MessageToDict(spec)]
    if deployment.target == "kubeflow":
        documents.append(_platform_spec(config.kubeflow, list(spec.root.dag.tasks), deployment.volume))
    return documents


def _problems(config: Config, deployment: Deployment) -> Iterator[str]:
    beam, kubeflow = config.beam, config.kubeflow
    if config.data.path.startswith("minio://"):
        yield "Only Kubeflow's launcher understands minio://, and ExampleGen reads the data itself: name them by s3://."
    if beam.engine != "direct" and deployment.pipeline_root.startswith("minio://"):
        yield f"Workers of beam.engine = {beam.engine} cannot read minio://: take a pipeline root of gs:// or s3://."
    if beam.engine in ("flink", "spark") and beam.environment == "loopback":
        yield "beam.environment = loopback means the machine of the job server, and a step is in a pod: take external."
    if beam.has_jar:
        yield f"beam.job_server = {beam.job_server} needs Java, and the image has none: name a running server."
    for option in beam.args:
        if re.search("secret|password|token", option.partition("=")[0], re.IGNORECASE):
            yield (
                f"{option.partition('=')[0]} would stand in the spec for all to read: give it to the steps as an"
                " environment variable, by kubeflow.secrets."
            )
    if deployment.target == "vertex":
        needs = {"light": kubeflow.light, "beam": kubeflow.beam, "trainer": kubeflow.trainer}
        unknown = [f"kubeflow.{name}.node_selector" for name, need in needs.items() if need.node_selector]
        if unknown := [*unknown, *(["kubeflow.secrets"] if kubeflow.secrets else [])]:
            yield f"Vertex AI knows no {' and no '.join(unknown)}: leave it out."
        if kubeflow.trainer.gpus and "/" in kubeflow.trainer.gpu_type:
            yield (
                f"kubeflow.trainer.gpu_type = {kubeflow.trainer.gpu_type} is none of Vertex AI's accelerators:"
                " name one, such as NVIDIA_L4."
            )


def _ask(resources: Any, needs: Needs) -> None:
    resources.cpu_request = resources.cpu_limit = needs.cpu
    resources.memory_request = resources.memory_limit = needs.memory
    if isinstance(needs, TrainerNeeds) and needs.gpus:
        resources.accelerator.type, resources.accelerator.count = needs.gpu_type, needs.gpus


def _adapt(container: Any, local: bool) -> None:
    """Open-source Kubeflow ignores the hook in which ExampleGen's driver would run, and copies artifacts to disk."""
    extra = ["--driver"] if container.HasField("lifecycle") else []
    container.ClearField("lifecycle")
    # A distributed engine's workers see no step's disk: they are given the addresses themselves.
    extra += ["--copies", "/"] if local else []
    container.args.extend(extra)


def _platform_spec(kubeflow: Kubeflow, steps: list[str], volume: str) -> dict[str, Any]:
    """What only Kubernetes knows: node selectors, deadlines, the volume, secrets as environment variables."""
    from kfp.kubernetes import kubernetes_executor_config_pb2 as kubernetes

    executors = {}
    for step in steps:
        needs = kubeflow.of(step)
        config = kubernetes.KubernetesExecutorConfig(active_deadline_seconds=60 * needs.timeout_minutes)
        if needs.node_selector:
            config.node_selector.labels.update(needs.node_selector)
        if volume:
            config.pvc_mount.add(constant=volume, mount_path=VOLUME)
        for secret, keys in kubeflow.secrets.items():
            pairs = [kubernetes.SecretAsEnv.SecretKeyToEnvMap(secret_key=key, env_var=key) for key in keys]
            config.secret_as_env.add(secret_name=secret, key_to_env=pairs)
        executors[f"{step}_executor"] = json_format.MessageToDict(config)
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}}
