"""The SavedModel that serves: its signatures over one Transform graph and one network."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_transform as tft
import tf_keras

from components.settings import Image, Model
from components.trainer.model import build_serving_network
from components.transform import SEQUENCE
from data.features import IMAGE, LABEL

PROBABILITIES = "probabilities"
CLASS_IDS = "class_ids"
PREDICT_IMAGES, PREDICT_ROWS, CLASSIFY_EXAMPLES = "predict_images", "predict_rows", "classify_examples"


def signature_names(model: Model) -> list[str]:
    """The signatures the SavedModel of `model` has."""
    rows = [] if model.bidirectional else [PREDICT_ROWS]
    return [tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY, PREDICT_IMAGES, CLASSIFY_EXAMPLES, *rows]


class ServingModule(tf.Module):
    """What is exported; holds the Transform graph's resources and the network's variables.

    `serving_default`: `examples` string [N], serialized tf.Examples, to `probabilities` float32 [N, classes]
    and `class_ids` int64 [N]. `predict_images`: the same from `images` uint8 [N, rows, columns].
    `classify_examples`, for TF Serving's Classify: `inputs` string [N], serialized tf.Examples, to `classes` string
    and `scores` float32, both [N, classes]. `predict_rows`: `images` to `probabilities` float32 [N, rows, classes],
    what the network believes after each row; a bidirectional network has none, for it has read the last row
    before it says anything.
    """

    def __init__(self, network: tf_keras.Model, transform: tft.TFTransformOutput, model: Model, image: Image) -> None:
        super().__init__()
        layer = transform.transform_features_layer()
        spec = {name: feature for name, feature in transform.raw_feature_spec().items() if name != LABEL}
        self.transform = layer
        self.network_variables = network.variables
        images_spec = tf.TensorSpec([None, image.rows, image.columns], tf.uint8, "images")

        def believe(raw: dict[str, tf.Tensor]) -> tf.Tensor:
            return tf.nn.softmax(network(layer(raw)[SEQUENCE], training=False))

        def answer(raw: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            probabilities = believe(raw)
            if not model.bidirectional:
                probabilities = probabilities[:, -1]
            return {PROBABILITIES: probabilities, CLASS_IDS: tf.argmax(probabilities, axis=-1)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")], autograph=False)
        def serve_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
            return answer(tf.io.parse_example(examples, spec))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")], autograph=False)
        def classify_examples(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            scores = answer(tf.io.parse_example(inputs, spec))[PROBABILITIES]
            labels = tf.constant([[str(label) for label in range(image.classes)]])
            return {"classes": tf.repeat(labels, tf.shape(scores)[0], axis=0), "scores": scores}

        @tf.function(input_signature=[images_spec], autograph=False)
        def predict_images(images: tf.Tensor) -> dict[str, tf.Tensor]:
            return answer({IMAGE: image_bytes(images)})

        @tf.function(input_signature=[images_spec], autograph=False)
        def predict_rows(images: tf.Tensor) -> dict[str, tf.Tensor]:
            return {PROBABILITIES: believe({IMAGE: image_bytes(images)})}

        functions = (serve_examples, predict_images, classify_examples, predict_rows)
        self.functions = dict(zip(signature_names(model), functions, strict=False))


def export(weights: list, transform: tft.TFTransformOutput, model: Model, image: Image, folder: str) -> None:
    """Writes the SavedModel of a network with `weights` to `folder`."""
    module = ServingModule(build_serving_network(model, image, weights), transform, model, image)
    tf.saved_model.save(module, folder, signatures=module.functions)
    # TF Serving's Classify takes a signature only by its method name, which `save` cannot set.
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(folder)
    updater.replace_method_name(CLASSIFY_EXAMPLES, tf.compat.v1.saved_model.CLASSIFY_METHOD_NAME, tags="serve")
    updater.save()


def image_bytes(images: tf.Tensor) -> tf.Tensor:
    """Packs `images` uint8 [N, rows, columns] into strings [N, 1], so that the Transform graph can decode them.

    TensorFlow has no operation for this, but a serialized uint8 tensor ends with its elements, one byte each.
    """
    count, size = tf.shape(images)[0], tf.reduce_prod(tf.shape(images)[1:])
    serialized = tf.io.serialize_tensor(images)
    starts = tf.strings.length(serialized) - count * size + tf.range(count) * size
    return tf.strings.substr(serialized, starts, tf.fill([count], size))[:, tf.newaxis]
