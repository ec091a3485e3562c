"""The SavedModel that serves: its signatures over one Transform graph and one model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
import tf_keras
from tensorflow.core.protobuf import saved_model_pb2

from components.trainer.model import build_model
from components.trainer.reference import ReferencePredictions
from components.trainer.settings import Model
from components.trainer.signatures import (
    CLASS_IDS,
    CLASSES,
    CLASSIFY_EXAMPLES,
    DESCRIBE,
    PREDICT_IMAGES,
    PREDICT_ROWS,
    PROBABILITIES,
    SERVING_DEFAULT,
    signature_names,
)
from components.transform import SEQUENCE
from components.version_folder import write_labels
from data.example import LABEL, ExampleSpec, input_spec, pack, parse, reading
from data.records import read_records


def export(
    weights: list,
    transform: tft.TFTransformOutput,
    settings: Model,
    spec: ExampleSpec,
    described: Mapping[str, np.ndarray],
    folder: str,
) -> None:
    """Writes the SavedModel of a model with `weights` to `folder`.

    signature            input                                          output
    serving_default      `examples` string [N], serialized tf.Examples  `probabilities` float32 [N, classes],
                                                                        `class_ids` int64 [N],
                                                                        `classes` string [N, classes]: the names
    predict_images       `images` uint8 [N, rows, columns]              the same
    classify_examples    `inputs` string [N], serialized tf.Examples    `classes`, and `scores` float32 [N, classes]
    predict_rows         `images` uint8 [N, rows, columns]              `probabilities` float32 [N, rows, classes]:
                                                                        after each row
    describe             `about` string [N], of any content             N times the constants `described`
    """
    model = build_model(settings, spec, serving=True)
    model.set_weights(weights)
    module = tf.Module()  # holds the Transform graph's resources and the model's variables
    # A layer of its own that Keras never calls: else `save` traces it as a Keras model too, which takes seconds.
    module.transform = layer = tft.TransformFeaturesLayer(transform)
    module.model_variables = model.variables
    feature_spec = {name: feature for name, feature in transform.raw_feature_spec().items() if name != LABEL}

    # One function in all signatures: TensorFlow traces the network once, and loads it once.
    @tf.function(input_signature=[tf.TensorSpec([None, *spec.sequence_shape], tf.float32)], autograph=False)
    def network(sequences: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(model(sequences, training=False))

    def predict(features: dict[str, tf.Tensor]) -> tf.Tensor:
        return network(layer.call(features)[SEQUENCE])

    def classify(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        probabilities = predict(features)
        if not settings.bidirectional:
            probabilities = probabilities[:, -1]
        # As TF Serving's Classify has them: its batching needs an output for each example.
        names = tf.repeat(tf.constant([spec.labels]), tf.shape(probabilities)[0], axis=0)
        return {PROBABILITIES: probabilities, CLASS_IDS: tf.argmax(probabilities, axis=-1), CLASSES: names}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")], autograph=False)
    def serve_tf_examples_fn(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return classify(tf.io.parse_example(examples, feature_spec))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")], autograph=False)
    def classify_examples(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        prediction = classify(tf.io.parse_example(inputs, feature_spec))
        return {CLASSES: prediction[CLASSES], "scores": prediction[PROBABILITIES]}

    @tf.function(input_signature=[input_spec(spec)], autograph=False)
    def predict_images(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return classify(pack(images, spec))

    @tf.function(input_signature=[input_spec(spec)], autograph=False)
    def predict_rows(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {PROBABILITIES: predict(pack(images, spec))}

    # TF Serving's batching needs an input and outputs that have the batch as their first dimension.
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "about")], autograph=False)
    def describe(about: tf.Tensor) -> dict[str, tf.Tensor]:
        constants = {name: tf.constant(value[np.newaxis]) for name, value in described.items()}
        return {name: tf.repeat(value, tf.shape(about)[0], axis=0) for name, value in constants.items()}

    signatures = {
        SERVING_DEFAULT: serve_tf_examples_fn,
        PREDICT_IMAGES: predict_images,
        CLASSIFY_EXAMPLES: classify_examples,
        PREDICT_ROWS: predict_rows,
        DESCRIBE: describe,
    }
    signatures = {name: signatures[name] for name in signature_names(settings)}
    tf.saved_model.save(module, folder, signatures=signatures)
    # TF Serving's Classify accepts a signature only by its method name, which `save` cannot set.
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(folder)
    updater.replace_method_name(CLASSIFY_EXAMPLES, tf.compat.v1.saved_model.CLASSIFY_METHOD_NAME, tags="serve")
    updater.save()
    write_labels(folder, spec.labels)


def graph_text(folder: str) -> str:
    """What the signatures of a SavedModel compute, the same for each export of the same model.

    TensorFlow numbers functions and operations by what the process had traced before. The numbers are left out, and so
    are the names of called functions and the devices of the training.
    """
    saved = saved_model_pb2.SavedModel.FromString(tf.io.gfile.GFile(f"{folder}/saved_model.pb", "rb").read())
    (graph,) = saved.meta_graphs
    lines = [
        f"{name} {sorted((key, tensor.dtype) for key, tensor in tensors.items())}"
        for name, signature in graph.signature_def.items()
        for tensors in (signature.inputs, signature.outputs)
    ]
    for function in graph.graph_def.library.function:
        nodes = [f"return {sorted(function.ret.items())}"]
        for node in function.node_def:
            values = {
                key: value.SerializeToString(deterministic=True)
                for key, value in sorted(node.attr.items())
                if not key.startswith("_") and key != "config_proto" and value.WhichOneof("value") != "func"
            }
            nodes.append(re.sub(r"_\d+", "", f"{node.op} {list(node.input)}") + f" {values}")
        lines.append("\n".join([re.sub(r"_\d+", "", nodes[0]), *sorted(nodes[1:])]))
    return "\n\n".join(sorted(lines))


def describe_inputs(spec: ExampleSpec, files: Sequence[str]) -> dict[str, np.ndarray]:
    """What the signature `describe` answers: the names of the classes, and the reading of the first 4,096 inputs."""
    records = next(iter(read_records(files).batch(4096))).numpy()
    inputs = [parse(record, spec)[0] for record in records]
    return {
        "class_names": np.array([label.encode() for label in spec.labels], object),
        **reading(spec, np.stack(inputs)),
    }


def predict_reference(
    model: tf_keras.Model, transform: tft.TFTransformOutput, spec: ExampleSpec, files: Sequence[str]
) -> ReferencePredictions:
    """The first 64 inputs of `files`, with the probabilities that the trained `model` predicts."""
    records = next(iter(read_records(files).batch(64)))
    features = tf.io.parse_example(records, transform.raw_feature_spec())
    logits = model(transform.transform_features_layer()(features)[SEQUENCE], training=False)
    inputs = np.stack([parse(record, spec)[0] for record in records.numpy()])
    return ReferencePredictions(inputs, tf.nn.softmax(logits).numpy(), np.array(spec.labels))
