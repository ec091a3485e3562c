"""The SavedModel that serves: its signatures over one Transform graph and one model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
import tf_keras

from components.trainer.model import build_serving_model
from components.trainer.reference import ReferencePredictions
from components.trainer.settings import Model
from components.trainer.signatures import (
    CLASS_IDS,
    CLASSES,
    CLASSIFY_EXAMPLES,
    PREDICT_IMAGES,
    PREDICT_ROWS,
    PROBABILITIES,
    SERVING_DEFAULT,
    signature_names,
)
from components.transform import SEQUENCE
from components.version_folder import write_labels
from data.example import LABEL, ExampleSpec, input_spec, pack, parse
from data.records import read_records


class ServingModule(tf.Module):
    """The object that is exported. It holds the Transform graph's resources and the model's variables.

    signature            input                                          output
    serving_default      `examples` string [N], serialized tf.Examples  `probabilities` float32 [N, classes],
                                                                        `class_ids` int64 [N],
                                                                        `classes` string [N, classes]: the names
    predict_images       `images` uint8 [N, rows, columns]              the same
    classify_examples    `inputs` string [N], serialized tf.Examples    `classes`, and `scores` float32 [N, classes]
    predict_rows         `images` uint8 [N, rows, columns]              `probabilities` float32 [N, rows, classes]:
                                                                        after each row
    """

    def __init__(
        self, model: tf_keras.Model, transform: tft.TFTransformOutput, settings: Model, spec: ExampleSpec
    ) -> None:
        super().__init__()
        self.transform = transform.transform_features_layer()
        self.model_variables = model.variables
        layer = self.transform
        feature_spec = {name: feature for name, feature in transform.raw_feature_spec().items() if name != LABEL}

        def predict(features: dict[str, tf.Tensor]) -> tf.Tensor:
            return tf.nn.softmax(model(layer(features)[SEQUENCE], training=False))

        def classify(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            probabilities = predict(features)
            if not settings.bidirectional:
                probabilities = probabilities[:, -1]
            # As TF Serving's Classify has them: its batching needs an output for each example.
            names = tf.repeat(tf.constant([spec.labels]), tf.shape(probabilities)[0], axis=0)
            return {PROBABILITIES: probabilities, CLASS_IDS: tf.argmax(probabilities, axis=-1), CLASSES: names}

        def serve_tf_examples_fn(examples: tf.Tensor) -> dict[str, tf.Tensor]:
            return classify(tf.io.parse_example(examples, feature_spec))

        def classify_examples(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            prediction = serve_tf_examples_fn(inputs)
            return {CLASSES: prediction[CLASSES], "scores": prediction[PROBABILITIES]}

        def predict_images(images: tf.Tensor) -> dict[str, tf.Tensor]:
            return classify(pack(images, spec))

        def predict_rows(images: tf.Tensor) -> dict[str, tf.Tensor]:
            return {PROBABILITIES: predict(pack(images, spec))}

        signatures = {
            SERVING_DEFAULT: _function(serve_tf_examples_fn, _strings("examples")),
            PREDICT_IMAGES: _function(predict_images, input_spec(spec)),
            CLASSIFY_EXAMPLES: _function(classify_examples, _strings("inputs")),
            PREDICT_ROWS: _function(predict_rows, input_spec(spec)),
        }
        self.functions = {name: signatures[name] for name in signature_names(settings)}


def export(weights: list, transform: tft.TFTransformOutput, settings: Model, spec: ExampleSpec, folder: str) -> None:
    """Writes the SavedModel of a model with `weights` to `folder`."""
    module = ServingModule(build_serving_model(settings, spec, weights), transform, settings, spec)
    tf.saved_model.save(module, folder, signatures=module.functions)
    # TF Serving's Classify accepts a signature only by its method name, which `save` cannot set.
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(folder)
    updater.replace_method_name(CLASSIFY_EXAMPLES, tf.compat.v1.saved_model.CLASSIFY_METHOD_NAME, tags="serve")
    updater.save()
    write_labels(folder, spec.labels)


def predict_reference(
    model: tf_keras.Model, transform: tft.TFTransformOutput, spec: ExampleSpec, files: Sequence[str]
) -> ReferencePredictions:
    """The first 64 inputs of `files`, with the probabilities that the trained `model` predicts."""
    records = next(iter(read_records(files).batch(64)))
    features = tf.io.parse_example(records, transform.raw_feature_spec())
    logits = model(transform.transform_features_layer()(features)[SEQUENCE], training=False)
    inputs = np.stack([parse(record, spec)[0] for record in records.numpy()])
    return ReferencePredictions(inputs, tf.nn.softmax(logits).numpy(), np.array(spec.labels))


def _function(
    function: Callable[[tf.Tensor], dict[str, tf.Tensor]], spec: tf.TensorSpec
) -> tf.types.experimental.PolymorphicFunction:
    return tf.function(function, input_signature=[spec], autograph=False)


def _strings(name: str) -> tf.TensorSpec:
    return tf.TensorSpec([None], tf.string, name)
