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
        5.0, gt=0, description="largest ratio of the median time of a served call to the same call in process"
    )
    max_mebibytes: float = Field(100.0, gt=0, description="size of the SavedModel's files")
    tolerance: float = Field(1e-3, gt=0, description="largest difference of a served probability from the Trainer's")
