"""The Trainer's settings: the network, and how it learns."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from data.example import ExampleSpec
from data.settings import Section


class Model(Section):
    """The many-to-one network: `layers` recurrent layers of `units`, then Dense(classes)."""

    cell: Literal["lstm", "gru", "simple_rnn"] = "lstm"
    units: int = Field(128, ge=1)
    layers: int = Field(1, ge=1)
    bidirectional: bool = False
    activation: Literal["tanh", "relu"] = "tanh"
    layer_norm: bool = Field(False, description="normalize the outputs of each recurrent layer")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of each recurrent layer's outputs dropped in training")


class Augmentation(Section):
    """Random distortions of the training images, drawn anew for every image and epoch; without any, none is computed.

    Each value is the largest; a distortion is drawn uniformly from both directions.
    """

    shift: float = Field(0.0, ge=0, description="pixels, along the rows and along the columns")
    rotation: float = Field(0.0, ge=0, le=180, description="degrees")
    zoom: float = Field(0.0, ge=0, lt=1, description="0.1: heights and widths of 0.9 to 1.1 times the original")
    shear: float = Field(0.0, ge=0, description="0.1: each row moves by up to a tenth of its distance from the middle")
    elastic_alpha: float = Field(
        0.0, ge=0, description="factor of the elastic distortion; 34 with sigma 5 moves a pixel by about 1"
    )
    elastic_sigma: float = Field(4.0, gt=0, description="smoothness of the elastic distortion, in pixels")

    @property
    def active(self) -> bool:
        return any((self.shift, self.rotation, self.zoom, self.shear, self.elastic_alpha))


class Training(Section):
    """How the network learns.

    A replica is a GPU, or a CPU where there is none, of all the hosts that TF_CONFIG lists. More replicas make the
    global batch larger; the learning rate then grows by the square root.
    """

    epochs: int = Field(8, ge=1, le=1_000_000)
    batch_size: int = Field(
        256, ge=1, le=1_000_000, description="examples per replica and step; the global batch is this × replicas"
    )
    replicas: int = Field(1, ge=1, description="logical CPU devices to train on, on one host without a GPU")
    optimizer: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = Field(
        1e-2, gt=0, description="peak rate of one replica; the rate in use is this × √replicas"
    )
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_epochs: float = Field(1.0, ge=0, description="of the cosine schedule; by default at most half of epochs")
    weight_decay: float = Field(1e-3, ge=0, description="AdamW's decoupled decay; only of the layers' matrices")
    clip_norm: float = Field(1.0, ge=0, description="largest global norm of the gradients; 0 clips nothing")
    ema_momentum: float = Field(
        0.0, ge=0, lt=1, description="validate and keep a moving average of the weights; 0: the weights themselves"
    )
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16", "auto"] = Field(
        "float32",
        description="Keras' policy of the training's arithmetic; the served model is float32. auto: mixed_bfloat16 on"
        " an x86 CPU with instructions for it, else float32",
    )
    patience: int = Field(
        3,
        ge=0,
        le=1_000_000,
        description="epochs without a lower validation loss before stopping with the best weights;"
        " 0 trains all epochs and keeps the last weights, or their average",
    )
    validation_split: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the train and eval records, from the end, for validation; 0: the eval split is used",
    )
    shuffle_buffer: int = Field(
        20_000,
        ge=1,
        le=10**9,
        description="records held in memory to draw the next batch from; on CPUs, by each replica",
    )
    steps_per_execution: int = Field(25, ge=1, le=1_000_000, description="training steps per call into TensorFlow")
    seed: int = Field(17, ge=0, lt=2**32)
    warm_start: bool = Field(
        False, description="start from the pushed model, and train on the days that are new to it; data.path names days"
    )
    warm_rate: float = Field(0.7, gt=0, le=1, description="learning rate of a warm start, as a share of learning_rate")
    warm_epochs: int = Field(3, ge=1, le=1_000_000, description="epochs of a warm start")
    replay: float = Field(
        1.0, ge=0, description="examples of older days in the window that are trained on again, for each new one"
    )
    from_scratch_every: int = Field(
        7, ge=0, description="how many pushed models share one start, before one is trained from scratch; 0: all"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Training:
        if self.warm_start and self.validation_split:
            raise ValueError("warm_start validates on the eval split: leave out validation_split")
        if self.schedule == "cosine" and self.warmup_epochs >= self.epochs:
            if "warmup_epochs" in self.model_fields_set:
                raise ValueError(f"warmup_epochs = {self.warmup_epochs} must be smaller than epochs = {self.epochs}")
            self.__dict__["warmup_epochs"] = self.epochs / 2  # frozen, and still not given: a default that gives way
        return self

    def for_warm_start(self) -> Training:
        """These settings with a warm start's learning rate and epochs; its rate rises for half of them at most."""
        epochs, rate = self.warm_epochs, self.learning_rate * self.warm_rate
        warmup = min(self.warmup_epochs, epochs / 2)
        return self.model_copy(update={"epochs": epochs, "learning_rate": rate, "warmup_epochs": warmup})


class TrainerSettings(Section):
    """All that `run_fn` receives, as the Trainer's custom_config."""

    example: ExampleSpec
    model: Model
    training: Training
    augmentation: Augmentation = Augmentation()
    backup_dir: str = Field(description="folder where an interrupted training leaves its state")
    serving_dir: str = Field("", description="with warm_start: where the pushed models are")
    preprocessing: str = Field("", description="with warm_start: the fingerprint of what makes the sequences")
    hardware: str = Field("", description="where it trains; part of TFX's cache key, because results depend on it")
