"""The network: it reads the sequence step by step, and only its state after the last step is classified."""

from __future__ import annotations

import tensorflow as tf
import tf_keras

from components.trainer.settings import Model
from data.example import ExampleSpec

LAYERS = {"lstm": tf_keras.layers.LSTM, "gru": tf_keras.layers.GRU, "simple_rnn": tf_keras.layers.SimpleRNN}


class SequenceModel(tf_keras.Sequential):
    """A Sequential whose steps AutoGraph leaves alone: converting all of tf_keras takes longer than an epoch."""

    train_step = tf.autograph.experimental.do_not_convert(tf_keras.Sequential.train_step)
    test_step = tf.autograph.experimental.do_not_convert(tf_keras.Sequential.test_step)
    predict_step = tf.autograph.experimental.do_not_convert(tf_keras.Sequential.predict_step)


def build_model(
    settings: Model, spec: ExampleSpec, precision: str = "float32", serving: bool = False
) -> tf_keras.Sequential:
    """The model that trains: float32 [N, steps, features] to logits float32 [N, classes].

    It consists of plain cells where there is no GPU. Keras' own layers learn the same, and take a second longer to
    trace, because they are also traced with the kernel for GPUs. Where there is one, that kernel trains.

    With `serving`, the same model for export, with the same weights, always of plain cells. If it is one-directional,
    it returns logits after every step, [N, steps, classes]; the last of them are the trained model's.

    `precision` is the Keras policy of all layers but the last. The weights are float32 with any policy.
    """
    plain = serving or not tf.config.list_physical_devices("GPU")
    layers: list[tf_keras.layers.Layer] = [tf_keras.Input(spec.sequence_shape)]
    for index in range(settings.layers):
        every_step = index < settings.layers - 1 or (serving and not settings.bidirectional)
        layer = LAYERS[settings.cell](
            settings.units, activation=settings.activation, return_sequences=every_step, dtype=precision
        )
        if plain:
            layer = tf_keras.layers.RNN(layer.cell, return_sequences=every_step, dtype=precision)
        layers.append(tf_keras.layers.Bidirectional(layer, dtype=precision) if settings.bidirectional else layer)
        if settings.layer_norm:
            layers.append(tf_keras.layers.LayerNormalization(dtype=precision))
        if settings.dropout and not serving:
            # A layer of its own: dropout inside the recurrent layer cannot be exported.
            layers.append(tf_keras.layers.Dropout(settings.dropout, dtype=precision))
    return SequenceModel([*layers, tf_keras.layers.Dense(spec.classes)])
