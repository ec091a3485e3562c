"""Small SavedModels for the tests of the client and the stand-in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

CLASSIFY = "classify_x_to_y"
LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "acht", "neún")
"""The names of the classes of `save_digits`."""


def save_half_plus_two(folder: Path, add: float) -> None:
    """TensorFlow Serving's toy model.

    `serving_default` maps `x` float32 [N] to `y` = x / 2 + add. `classify_x_to_y` is its Classify signature for
    tf.train.Examples with `x`.
    """
    module = tf.Module()
    module.half, module.add = tf.Variable(0.5), tf.Variable(add)
    spec = {"x": tf.io.FixedLenFeature([1], tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")], autograph=False)
    def predict(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x * module.half + module.add}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")], autograph=False)
    def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": tf.io.parse_example(inputs, spec)["x"] * module.half + module.add}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": predict, CLASSIFY: classify})
    _set_classify_method(folder, CLASSIFY)


def save_digits(folder: Path, seed: int) -> None:
    """A model with the signatures of this project's model; another seed gives other probabilities."""
    module = tf.Module()
    module.weights = tf.Variable(np.random.default_rng(seed).normal(0, 0.1, (28, 28, 10)).astype(np.float32))
    images_spec = tf.TensorSpec([None, 28, 28], tf.uint8, "images")
    spec = {"image": tf.io.FixedLenFeature([], tf.string)}

    def probabilities(images: tf.Tensor) -> tf.Tensor:
        """After each row, [N, 28, 10]."""
        images = tf.ensure_shape(images, [None, 28, 28])
        logits = tf.einsum("nrc,rck->nrk", tf.cast(images, tf.float32) / 255, module.weights)
        return tf.nn.softmax(tf.cumsum(logits, axis=1))

    def parse(examples: tf.Tensor) -> tf.Tensor:
        pixels = tf.io.decode_raw(tf.io.parse_example(examples, spec)["image"], tf.uint8)
        return tf.reshape(pixels, [-1, 28, 28])

    def predict(images: tf.Tensor) -> dict[str, tf.Tensor]:
        last = probabilities(images)[:, -1]
        names = tf.repeat(tf.constant([LABELS]), tf.shape(last)[0], axis=0)
        return {"probabilities": last, "class_ids": tf.argmax(last, axis=-1), "classes": names}

    @tf.function(input_signature=[images_spec], autograph=False)
    def predict_images(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return predict(images)

    @tf.function(input_signature=[images_spec], autograph=False)
    def predict_rows(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": probabilities(images)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")], autograph=False)
    def predict_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return predict(parse(examples))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")], autograph=False)
    def classify_examples(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        scores = probabilities(parse(inputs))[:, -1]
        return {"classes": tf.repeat(tf.constant([LABELS]), tf.shape(scores)[0], axis=0), "scores": scores}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "about")], autograph=False)
    def describe(about: tf.Tensor) -> dict[str, tf.Tensor]:
        constants = {
            "class_names": list(LABELS),
            "size": np.array([28, 28]),
            "fit": "digit",
            "background": "any",
            "levels": np.float32([0, 255]),
            "ink": np.float32([8, 80]),
        }
        count = tf.shape(about)[0]
        return {name: tf.repeat(tf.constant(value)[tf.newaxis], count, axis=0) for name, value in constants.items()}

    functions = {
        "serving_default": predict_examples,
        "predict_images": predict_images,
        "predict_rows": predict_rows,
        "classify_examples": classify_examples,
        "describe": describe,
    }
    tf.saved_model.save(module, str(folder), signatures=functions)
    _set_classify_method(folder, "classify_examples")


def serialize(image: np.ndarray) -> bytes:
    """The tf.train.Example of an image, uint8 [28, 28], for the model of `save_digits`."""
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.tobytes()]))
    return tf.train.Example(features=tf.train.Features(feature={"image": feature})).SerializeToString()


def save_odd(folder: Path) -> None:
    """A model with many dtypes, ranks and inputs."""
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, "x")], autograph=False)
    def any_rank(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x / 2 + 2}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")], autograph=False)
    def types(x: tf.Tensor) -> dict[str, tf.Tensor]:
        kinds = (tf.float64, tf.int32, tf.int64, tf.uint8, tf.float16, tf.bool)
        return {kind.name: tf.cast(x, kind) for kind in kinds} | {"string": tf.strings.as_string(tf.cast(x, tf.int32))}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "words")], autograph=False)
    def join(words: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"joined": tf.strings.reduce_join(words), "lengths": tf.strings.length(words)}

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.float32, "b"), tf.TensorSpec([None], tf.float32, "a")],
        autograph=False,
    )
    def add(b: tf.Tensor, a: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"sum": a + b}

    @tf.function(input_signature=[tf.TensorSpec([2], tf.string, "paths")], autograph=False)
    def wait(paths: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.io.write_file(paths[0], "begun")]):
            end = tf.io.write_file(paths[1], "ended")  # a FIFO takes it when somebody reads
        with tf.control_dependencies([end]):
            return {"paths": tf.identity(paths)}

    functions = {"serving_default": any_rank, "types": types, "join": join, "add": add, "wait": wait}
    tf.saved_model.save(module, str(folder), signatures=functions)


def save_fixed_shapes(folder: Path) -> None:
    """Signatures whose `x` float32 has the shape [1], [3], a scalar, and any rank: `y` = x / 2 + 2."""
    module = tf.Module()
    functions = {
        name: tf.function(
            lambda x: {"y": x / 2 + 2}, input_signature=[tf.TensorSpec(shape, tf.float32, "x")], autograph=False
        )
        for name, shape in {"one": [1], "three": [3], "scalar": [], "any": None}.items()
    }
    tf.saved_model.save(module, str(folder), signatures=functions)


def save_classifiers(folder: Path) -> None:
    """Signatures for Classify with the method name of Predict: `scores` is right, each of the others is wrong."""
    module = tf.Module()
    spec = {"x": tf.io.FixedLenFeature([1], tf.float32)}

    def signature(name: str, outputs: Any, *inputs: str) -> Any:
        def call(*serialized: tf.Tensor) -> dict[str, tf.Tensor]:
            return outputs(tf.io.parse_example(serialized[0], spec)["x"] / 2 + 2)

        specs = [tf.TensorSpec([None], tf.string, name) for name in inputs]
        return tf.function(call, input_signature=specs, autograph=False)

    one, two = tf.constant([["a"]]), tf.constant([["a", "b"]])
    kinds = {
        "scores": lambda x: {"scores": x},
        "three_outputs": lambda x: {"scores": x, "a": x + 1, "b": x + 2},
        "other_output": lambda x: {"y": x},
        "wrong_classes": lambda x: {"classes": x},
        "wrong_scores": lambda x: {"scores": tf.cast(x, tf.int64), "classes": one},
        "flat": lambda x: {"scores": x[:, 0]},
        "widths": lambda x: {"scores": x, "classes": two},
    }
    functions = {name: signature(name, outputs, "inputs") for name, outputs in kinds.items()}
    functions["two_inputs"] = signature("two_inputs", kinds["scores"], "inputs", "more")
    functions["other_input"] = signature("other_input", kinds["scores"], "examples")
    tf.saved_model.save(module, str(folder), signatures=functions)


def save_tf1(folder: Path) -> None:
    """TensorFlow Serving's half_plus_two as TF1 saves it: sessions, placeholders, reference variables and a table."""
    v1 = tf.compat.v1

    def signature(inputs: dict[str, Any], outputs: dict[str, Any], method: str) -> Any:
        infos = [{name: v1.saved_model.build_tensor_info(x) for name, x in side.items()} for side in (inputs, outputs)]
        return v1.saved_model.build_signature_def(*infos, f"tensorflow/serving/{method}")

    with tf.Graph().as_default(), v1.Session() as session:
        serialized = v1.placeholder(tf.string, [None], "tf_example")
        features = tf.io.parse_example(serialized, {"x": tf.io.FixedLenFeature([1], tf.float32)})
        x = tf.identity(features["x"], "x")
        half = v1.get_variable("half", initializer=0.5, use_resource=False)
        y = tf.add(x * half, v1.get_variable("add", initializer=2.0, use_resource=False), "y")
        word = v1.placeholder(tf.string, [None], "word")
        numbers = tf.lookup.KeyValueTensorInitializer(["a", "b"], tf.constant([0, 1], tf.int64))
        table = tf.lookup.StaticHashTable(numbers, -1)
        signatures = {
            "serving_default": signature({"x": x}, {"y": y}, "predict"),
            "classify": signature({"inputs": serialized}, {"scores": y}, "classify"),
            "look_up": signature({"word": word}, {"id": table.lookup(word)}, "predict"),
        }
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(
            session, ["serve"], signature_def_map=signatures, main_op=v1.tables_initializer()
        )
        builder.save()


def write_warmup(folder: Path, request: Any) -> None:
    """Makes a PredictRequest the warm-up request of a version."""
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(request)
    (folder / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(folder / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())


def _set_classify_method(folder: Path, signature: str) -> None:
    """Makes a signature one for Classify, which `tf.saved_model.save` cannot do."""
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(folder))
    updater.replace_method_name(signature, tf.compat.v1.saved_model.CLASSIFY_METHOD_NAME, tags="serve")
    updater.save()
