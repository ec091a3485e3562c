"""The settings that belong to no step: where records go, who hears of the end, what the steps ask of a cluster."""

from __future__ import annotations

from pydantic import Field, field_validator

from data.settings import Section


class Metadata(Section):
    """Where ML Metadata keeps its records."""

    connection: str = Field(
        "",
        description="ml_metadata.ConnectionConfig in text format; $VARIABLES are filled in from the environment."
        " Empty: SQLite under the run root",
    )


class Notify(Section):
    """Who hears that a run of run_local has ended."""

    url: str = Field(
        "",
        description="where to POST the result as JSON; $VARIABLES are filled in from the environment, and the value of"
        " NOTIFY_TOKEN is sent as a bearer token. Empty: nowhere",
    )

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        if url and not url.startswith(("http://", "https://", "$")):
            raise ValueError("it must begin with http:// or https://, or with a $VARIABLE")
        return url


class Resources(Section):
    """What one container asks of the cluster."""

    cpu: float = Field(1.0, gt=0, description="cores, requested and allowed")
    memory: float = Field(4.0, gt=0, description="GB, requested and allowed")
    node_selector: dict[str, str] = Field({}, description="labels that a node must have")
    retries: int = Field(1, ge=0)
    timeout_minutes: int = Field(30, ge=1, description="of each attempt; Vertex AI knows no such limit")


class BeamResources(Resources):
    cpu: float = Field(2.0, gt=0)
    retries: int = Field(2, ge=0)
    timeout_minutes: int = Field(120, ge=1)


class TrainerResources(Resources):
    gpus: int = Field(0, ge=0)
    gpu_type: str = Field("nvidia.com/gpu", description="the resource's name; on Vertex AI the accelerator's")
    cpu: float = Field(4.0, gt=0)
    memory: float = Field(8.0, gt=0)
    retries: int = Field(2, ge=0)
    timeout_minutes: int = Field(720, ge=1)


class Kubeflow(Section):
    """The resources of the steps. One step took 1.3 GB at most with 280,000 records (pipeline/SCALING.md)."""

    light: Resources = Field(Resources(), description="for each step that neither trains nor uses Beam")
    beam: BeamResources = Field(BeamResources(), description="for each step that uses Beam")
    trainer: TrainerResources = TrainerResources()
    secrets: dict[str, list[str]] = Field(
        {}, description="Kubernetes Secrets and which of their keys become environment variables of every step"
    )
