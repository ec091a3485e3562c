"""The model of a batch prediction: a version folder, and Beam's ModelHandler that calls its signatures."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from apache_beam.ml.inference.base import ModelHandler, PredictionResult

from components.trainer.signatures import DESCRIBE, PREDICT_IMAGES, PROBABILITIES, SERVING_DEFAULT
from components.version_folder import model_id, read_labels
from data.errors import UserError
from data.pictures import Reading
from pipeline.predict.folder import Served
from pipeline.predict.inputs import Batch

_SHOWN = 200
_LEAST, _MOST = 32, 256
"""How many inputs a call of the model gets."""


class Answer(NamedTuple):
    """What the model said of a batch: `probabilities` float32 [n, classes] of the n inputs at `kept`, the others'
    reasons in `refused`, by position."""

    probabilities: np.ndarray
    kept: list[int]
    refused: dict[int, str]


class SavedModel:
    """The two signatures that predict, of one loaded SavedModel.

    Raises:
        UserError: TensorFlow cannot load the folder, or the model has no `serving_default` with `probabilities`.
    """

    def __init__(self, folder: str) -> None:
        import tensorflow as tf

        try:
            self._loaded = tf.saved_model.load(folder)  # the signatures do not keep it alive
        except Exception as error:  # TensorFlow raises errors of many kinds
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:_SHOWN].rstrip(".")
            raise UserError(f"The model in {folder} cannot be loaded: {reason}. Name a version folder.") from None
        self.signatures = self._loaded.signatures
        self._cores = len(os.sched_getaffinity(0))
        self._threads = ThreadPoolExecutor(self._cores)
        outputs = getattr(self.signatures.get(SERVING_DEFAULT), "structured_outputs", {})
        if PROBABILITIES not in outputs:
            raise UserError(
                f"The model in {folder} has no signature {SERVING_DEFAULT} with the output {PROBABILITIES}:"
                " name a version of this project."
            )

    def predict(self, inputs: Sequence[bytes] | np.ndarray) -> np.ndarray:
        """Probabilities, float32 [N, classes], of serialized tf.Examples or of inputs as `data.example.input_spec` has.

        A recurrent network does not keep several cores busy with one call, so each gets a part of the inputs.

        Raises:
            tf.errors.OpError: the graph refuses one of them.
        """
        import tensorflow as tf

        name = PREDICT_IMAGES if isinstance(inputs, np.ndarray) else SERVING_DEFAULT
        signature = self.signatures[name]
        (argument,) = signature.structured_input_signature[1]

        size = min(max(math.ceil(len(inputs) / self._cores), _LEAST), _MOST)

        def call(start: int) -> np.ndarray:
            part = tf.constant(inputs[start : start + size])
            return np.asarray(signature(**{argument: part})[PROBABILITIES].numpy())

        return np.concatenate(list(self._threads.map(call, range(0, len(inputs), size))))

    def accepts(self, record: bytes) -> bool:
        """Whether a record is a tf.Example as the model takes it."""
        import tensorflow as tf

        try:
            return bool(np.isfinite(self.predict([record])).all())
        except tf.errors.OpError:
            return False


load = lru_cache(maxsize=1)(SavedModel)
"""A process, with all its threads, holds a model once."""


def describe(folder: Path) -> tuple[Served, SavedModel]:
    """Loads a version folder, and says what it is.

    Raises:
        UserError: see `SavedModel`.
    """
    import tensorflow as tf

    model = load(str(folder))
    constants: Mapping[str, Any] = {}
    if found := model.signatures.get(DESCRIBE):
        constants = {name: value.numpy()[0] for name, value in found(about=tf.constant([""])).items()}
    classes = model.signatures[SERVING_DEFAULT].structured_outputs[PROBABILITIES].shape[-1]
    try:
        reading = Reading.described(constants)
    except (KeyError, IndexError, AttributeError, ValueError):
        reading = None
    names = read_labels(str(folder)) or tuple(name.decode() for name in constants.get("class_names", ()))
    names = names or tuple(map(str, range(classes)))
    version = int(folder.name) if folder.name.isdecimal() else None
    return Served(str(folder), version, model_id(str(folder)), names, reading), model


class Handler(ModelHandler[Batch, PredictionResult, SavedModel]):
    """Loads a SavedModel once in each worker process, and calls it for whole batches.

    Beam's own TFModelHandlers load a Keras model. An input that the graph refuses does not spoil its batch.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = folder

    def load_model(self) -> SavedModel:
        return load(self._folder)

    def run_inference(
        self, batch: Sequence[Batch], model: SavedModel, inference_args: dict[str, Any] | None = None
    ) -> Iterable[PredictionResult]:
        """An `Answer` for each `Batch` of inputs."""
        for inputs in batch:
            yield PredictionResult(inputs, _answer(inputs.inputs, model), self._folder)

    def batch_elements_kwargs(self) -> Mapping[str, Any]:
        """An element is a batch already."""
        return {"min_batch_size": 1, "max_batch_size": 1}

    def get_num_bytes(self, batch: Sequence[Batch]) -> int:
        """For Beam's metrics; by default Beam pickles the batch to know."""
        return sum(len(item) for inputs in batch for item in inputs.inputs)


def _answer(inputs: Sequence[bytes] | np.ndarray, model: SavedModel) -> Answer:
    """Halves a batch that the graph refuses until each input that is to blame is alone."""
    import tensorflow as tf

    parts: list[np.ndarray] = []
    kept: list[int] = []
    refused: dict[int, str] = {}

    def call(start: int, stop: int) -> None:
        if start == stop:
            return
        try:
            found = model.predict(inputs[start:stop])
        except tf.errors.InvalidArgumentError as error:
            if stop - start == 1:
                refused[start] = _reason(error)
                return
            middle = (start + stop) // 2
            call(start, middle)
            call(middle, stop)
            return
        finite = np.isfinite(found).all(axis=1)
        parts.append(found[finite])
        kept.extend(start + int(at) for at in np.flatnonzero(finite))
        refused.update({start + int(at): "the model answers with NaN" for at in np.flatnonzero(~finite)})

    call(0, len(inputs))
    return Answer(np.concatenate(parts) if parts else np.zeros((0, 0), np.float32), kept, refused)


def _reason(error: Exception) -> str:
    """The first words of TensorFlow's message, without the place in its graph."""
    text = getattr(error, "message", "") or str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = next((line for line in lines if not line.startswith(("Graph execution error", "Detected at"))), "refused")
    return said.removeprefix("assertion failed: ").strip("[]'\" ")[:_SHOWN]
