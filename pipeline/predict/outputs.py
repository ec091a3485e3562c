"""What a batch prediction writes: Parquet, CSV or PredictionLogs, one file for each shard."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from components.trainer.signatures import CLASS_IDS, CLASSES, PROBABILITIES, SERVING_DEFAULT

_ROW_GROUP = 10_240


class Columns(NamedTuple):
    """The predictions of n inputs, one value in each."""

    ids: list[str]
    labels: list[int | None]
    inputs: Any
    probabilities: np.ndarray


class Writer(Protocol):
    """Writes one file."""

    def write(self, found: Columns) -> None: ...
    def close(self) -> None: ...


class Parquet:
    """The columns id string, class_id int64, class_name string, confidence float32, probabilities list<float32>,
    model_version int64, and label int64 where the input has labels."""

    def __init__(self, path: Path, classes: tuple[str, ...], version: int | None, labelled: bool) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {
            "id": pa.string(),
            "class_id": pa.int64(),
            "class_name": pa.string(),
            "confidence": pa.float32(),
            "probabilities": pa.list_(pa.float32()),
            "model_version": pa.int64(),
        }
        self._schema = pa.schema({**columns, "label": pa.int64()} if labelled else columns)
        self._names, self._version, self._labelled = np.array(classes, object), version, labelled
        self._writer = pq.ParquetWriter(path, self._schema)
        self._waiting: list[Any] = []

    def write(self, found: Columns) -> None:
        import pyarrow as pa

        count, width = found.probabilities.shape
        if not count:
            return
        class_ids = found.probabilities.argmax(axis=1)
        offsets = np.arange(0, count * width + 1, width, dtype=np.int32)
        arrays = [
            pa.array(found.ids, pa.string()),
            pa.array(class_ids, pa.int64()),
            pa.array(self._names[class_ids], pa.string()),
            pa.array(found.probabilities.max(axis=1), pa.float32()),
            pa.ListArray.from_arrays(offsets, found.probabilities.ravel()),
            pa.array([self._version] * count, pa.int64()),
        ]
        if self._labelled:
            arrays.append(pa.array(found.labels, pa.int64()))
        self._waiting.append(pa.record_batch(arrays, schema=self._schema))
        if sum(batch.num_rows for batch in self._waiting) >= _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.Table.from_batches(self._waiting, self._schema))
        self._waiting = []

    def close(self) -> None:
        self._flush()
        self._writer.close()


class Csv:
    """The same columns as text; the probabilities are a JSON array."""

    def __init__(self, path: Path, classes: tuple[str, ...], version: int | None, labelled: bool) -> None:
        self._file = path.open("w", newline="", encoding="utf-8")
        self._rows = csv.writer(self._file)
        self._classes, self._version, self._labelled = classes, version, labelled
        names = ["id", "class_id", "class_name", "confidence", "probabilities", "model_version"]
        self._rows.writerow([*names, "label"] if labelled else names)

    def write(self, found: Columns) -> None:
        for id_, label, values in zip(found.ids, found.labels, found.probabilities, strict=True):
            class_id = int(values.argmax())
            shown = [float(f"{value:.7g}") for value in values]
            row = [id_, class_id, self._classes[class_id], shown[class_id], json.dumps(shown), self._version]
            self._rows.writerow([*row, label] if self._labelled else row)

    def close(self) -> None:
        self._file.close()


class PredictionLogs:
    """TensorFlow Serving's PredictionLogs as TFRecords: a request and its response for each batch, with `id` and
    `label` among the outputs."""

    def __init__(self, path: Path, classes: tuple[str, ...], version: int | None, labelled: bool) -> None:
        import tensorflow as tf

        self._writer = tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type="GZIP"))
        self._classes, self._version, self._labelled = classes, version, labelled

    def write(self, found: Columns) -> None:
        import tensorflow as tf
        from tensorflow_serving.apis import prediction_log_pb2

        if not found.ids:
            return
        log = prediction_log_pb2.PredictionLog()
        request, response = log.predict_log.request, log.predict_log.response
        images = isinstance(found.inputs, np.ndarray)
        request.model_spec.signature_name = "predict_images" if images else SERVING_DEFAULT
        if self._version is not None:
            request.model_spec.version.value = self._version
        response.model_spec.CopyFrom(request.model_spec)
        request.inputs["images" if images else "examples"].CopyFrom(tf.make_tensor_proto(found.inputs))
        outputs: dict[str, Any] = {
            PROBABILITIES: found.probabilities,
            CLASS_IDS: found.probabilities.argmax(axis=1).astype(np.int64),
            CLASSES: np.array([[name.encode() for name in self._classes]] * len(found.ids), object),
            "id": np.array([id_.encode() for id_ in found.ids], object),
        }
        if self._labelled:
            outputs["label"] = np.array([-1 if label is None else label for label in found.labels], np.int64)
        for name, values in outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(values))
        self._writer.write(log.SerializeToString())

    def close(self) -> None:
        self._writer.close()


FORMATS: dict[str, tuple[str, Callable[[Path, tuple[str, ...], int | None, bool], Writer]]] = {
    "parquet": (".parquet", Parquet),
    "csv": (".csv", Csv),
    "prediction-log": (".tfrecord.gz", PredictionLogs),
}
"""The name of each format, with the ending of its files."""
