"""The settings the steps take, each section frozen and checked. `pipeline.config` reads them from a profile."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """Base of every section: no unknown key, no change after the start, no silent conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Image(Section):
    """What one example shows: `rows` × `columns` uint8 pixels, one of `classes` labels."""

    rows: int = Field(28, ge=1)
    columns: int = Field(28, ge=1)
    classes: int = Field(10, ge=2)


class Model(Section):
    """The many-to-one network: `layers` recurrent layers of `units`, then Dense(classes)."""

    cell: Literal["lstm", "gru", "simple_rnn"] = "lstm"
    units: int = Field(128, ge=1)
    layers: int = Field(1, ge=1)
    bidirectional: bool = False
    activation: Literal["tanh", "relu"] = "tanh"
    dropout: float = Field(0.0, ge=0, lt=1, description="share of each recurrent layer's outputs dropped in training")


class Training(Section):
    """How the network learns.

    A replica is a GPU, or a CPU where there is none, of all the hosts that TF_CONFIG lists. The more replicas,
    the larger the global batch; the learning rate then grows by the square root.
    """

    epochs: int = Field(8, ge=1)
    batch_size: int = Field(256, ge=1, description="examples per replica and step; the global batch is this × replicas")
    replicas: int = Field(1, ge=1, description="logical CPU devices to train on, on one host without a GPU")
    optimizer: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = Field(1e-2, gt=0, description="of one replica, at its peak; in use is this × √replicas")
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_epochs: float = Field(1.0, ge=0)
    weight_decay: float = Field(1e-3, ge=0, description="AdamW's decoupled decay; biases are left out")
    clip_norm: float = Field(1.0, ge=0, description="largest global norm of the gradients; 0 clips nothing")
    patience: int = Field(
        3,
        ge=0,
        description="epochs without a lower validation loss before stopping with the best weights; 0: the last of all",
    )
    validation_split: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of train and eval together, their tail, that validates; 0: the eval split does",
    )
    shuffle_buffer: int = Field(20_000, ge=1, description="records held in memory to draw the next batch from")
    steps_per_execution: int = Field(25, ge=1, description="training steps per call into TensorFlow")
    seed: int = 17

    @model_validator(mode="after")
    def _consistent(self) -> Training:
        if self.schedule == "cosine" and self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs = {self.warmup_epochs} must be smaller than epochs = {self.epochs}")
        return self


class Gates(Section):
    """What a model must reach on the test split before it is pushed. Accuracies are shares, 0 … 1."""

    accuracy: float = Field(0.98, ge=0, le=1)
    class_accuracy: float = Field(0.95, ge=0, le=1, description="for each class alone")
    max_drop: float = Field(0.002, ge=0, le=1, description="how far below the baseline model the accuracy may lie")


class Infra(Section):
    """What a model must do when it is served, before it is pushed."""

    server: str = Field(
        "",
        description="host:port of a TensorFlow Serving of the check's own that sees the pipeline root."
        " Empty: tensorflow_model_server where it is on PATH, else the stand-in, in a process of their own",
    )
    max_latency_ratio: float = Field(
        5.0, gt=0, description="a served image's median time against the same call in process"
    )
    max_mebibytes: float = Field(100.0, gt=0, description="of the SavedModel's files")
    tolerance: float = Field(1e-3, gt=0, description="between a served probability and the Trainer's own")


class TrainerSettings(Section):
    """All that `run_fn` is given, as the Trainer's custom_config."""

    image: Image
    model: Model
    training: Training
    backup_dir: str = Field(description="folder where an interrupted training leaves its state")
    code: str = Field(description="fingerprint of the Trainer's sources, for TFX's cache")
