"""What the steps ask of a cluster."""

from __future__ import annotations

from pydantic import Field

from data.settings import Section


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
