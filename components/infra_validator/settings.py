"""The infra check's settings."""

from pydantic import Field

from data.settings import Section


class Infra(Section):
    """What a model must do when it is served, before it is pushed."""

    server: str = Field(
        "",
        description="host:port of a TensorFlow Serving that only this check uses and that sees the pipeline root."
        " Empty: tensorflow_model_server where it is on PATH, else the stand-in, in a process of its own",
    )
    max_latency_ratio: float = Field(
        5.0, gt=0, description="a served input's median time against the same call in process"
    )
    max_mebibytes: float = Field(100.0, gt=0, description="size of the SavedModel's files")
    tolerance: float = Field(1e-3, gt=0, description="between a served probability and the Trainer's own")
