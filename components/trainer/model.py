"""The network: rows go in one by one, and only what the cell believes after the last one is read."""

from __future__ import annotations

import tensorflow as tf
import tf_keras

from components.settings import Image, Model

LAYERS = {"lstm": tf_keras.layers.LSTM, "gru": tf_keras.layers.GRU, "simple_rnn": tf_keras.layers.SimpleRNN}
CELLS = {"lstm": tf_keras.layers.LSTMCell, "gru": tf_keras.layers.GRUCell, "simple_rnn": tf_keras.layers.SimpleRNNCell}


class Network(tf_keras.Sequential):
    """A Sequential whose steps are traced as they stand: AutoGraph would rewrite all of tf_keras first."""

    train_step = tf.autograph.experimental.do_not_convert(tf_keras.Sequential.train_step)
    test_step = tf.autograph.experimental.do_not_convert(tf_keras.Sequential.test_step)
    predict_step = tf.autograph.experimental.do_not_convert(tf_keras.Sequential.predict_step)


def build_network(model: Model, image: Image) -> tf_keras.Sequential:
    """The network that trains: float32 [N, rows, columns] to logits float32 [N, classes]."""
    layers: list[tf_keras.layers.Layer] = [tf_keras.Input([image.rows, image.columns])]
    for index in range(model.layers):
        last = index == model.layers - 1
        layer = LAYERS[model.cell](model.units, activation=model.activation, return_sequences=not last)
        layers.append(tf_keras.layers.Bidirectional(layer) if model.bidirectional else layer)
        if model.dropout:
            # Beside the recurrent layer: dropout inside it cannot be exported.
            layers.append(tf_keras.layers.Dropout(model.dropout))
    return Network([*layers, tf_keras.layers.Dense(image.classes)])


def build_serving_network(model: Model, image: Image, weights: list) -> tf_keras.Sequential:
    """The same network for export, with `weights` in it.

    It is made of plain cells, so that no GPU-only kernel enters the graph. A one-directional network answers
    after every row, logits [N, rows, classes], of which the last is what the trained network answers;
    a bidirectional one answers once, logits [N, classes].
    """
    layers: list[tf_keras.layers.Layer] = [tf_keras.Input([image.rows, image.columns])]
    for index in range(model.layers):
        every_row = not model.bidirectional or index < model.layers - 1
        cell = CELLS[model.cell](model.units, activation=model.activation)
        layer = tf_keras.layers.RNN(cell, return_sequences=every_row)
        layers.append(tf_keras.layers.Bidirectional(layer) if model.bidirectional else layer)
    network = tf_keras.Sequential([*layers, tf_keras.layers.Dense(image.classes)])
    network.set_weights(weights)
    return network
