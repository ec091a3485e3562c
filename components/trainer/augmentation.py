"""Random distortions of the training images: each epoch shows every image in another shape.

Only the Trainer's training split passes through this file; validation, evaluation and serving do not.
"""

from __future__ import annotations

import math

import tensorflow as tf

from components.trainer.settings import Augmentation


def augment(images: tf.Tensor, seed: tf.Tensor, settings: Augmentation) -> tf.Tensor:
    """Distorts a batch, float32 [N, rows, columns] to the same shape; 0 fills what comes in from outside.

    Every image is resampled once, bilinearly. Each output pixel comes from the place that `_sources` gives it. The
    whole batch is computed together. The same `seed`, int64 [2], gives the same distortions.
    """
    count, (_, rows, columns) = tf.shape(images)[0], images.shape
    y, x = tf.unstack(_sources(count, rows, columns, seed, settings))
    if not (settings.rotation or settings.shear or settings.elastic_alpha):
        # A pixel's row decides its y, and its column its x: a third of the time.
        y, x = tf.reshape(y, [-1, rows, columns])[:, :, 0], tf.reshape(x, [-1, rows, columns])[:, 0]
        return tf.matmul(tf.matmul(_blend(y, rows), images), _blend(x, columns), transpose_b=True)
    # A border of zeros takes in what lies outside.
    y, x = tf.clip_by_value(y + 1.0, 0.0, rows + 1.0), tf.clip_by_value(x + 1.0, 0.0, columns + 1.0)
    top, left = tf.minimum(tf.floor(y), float(rows)), tf.minimum(tf.floor(x), float(columns))
    width = columns + 2
    pixels = tf.reshape(tf.pad(images, [[0, 0], [1, 1], [1, 1]]), [-1])
    corner = tf.cast(top * width + left, tf.int32) + tf.range(count)[:, tf.newaxis] * (rows + 2) * width

    def at(offset: int) -> tf.Tensor:
        return tf.gather(pixels, corner + offset)

    down, right = y - top, x - left
    upper = at(0) + (at(1) - at(0)) * right
    lower = at(width) + (at(width + 1) - at(width)) * right
    return tf.reshape(upper + (lower - upper) * down, [-1, rows, columns])


def _blend(sources: tf.Tensor, size: int) -> tf.Tensor:
    """The share of each of `size` pixels in the values at `sources`, float32 [N, M] to [N, M, size]."""
    return tf.maximum(0.0, 1.0 - tf.abs(sources[:, :, tf.newaxis] - tf.range(size, dtype=tf.float32)))


def _sources(count: tf.Tensor, rows: int, columns: int, seed: tf.Tensor, settings: Augmentation) -> tf.Tensor:
    """Where each pixel of each image comes from: y and x in pixels, float32 [2, N, rows × columns].

    The affine part turns, shears, scales and shifts around the centre. The elastic part is that of Simard, Steinkraus
    and Platt, Best Practices for Convolutional Neural Networks Applied to Visual Document Analysis, ICDAR 2003: uniform
    displacements, smoothed with a Gaussian of `elastic_sigma` pixels, times `elastic_alpha`.
    """
    uniform = tf.random.stateless_uniform([6, count, 1], seed, -1.0, 1.0)
    turn, shear, zoom_y, zoom_x, shift_y, shift_x = tf.unstack(uniform)
    turn, shear = turn * math.radians(settings.rotation), shear * settings.shear
    zoom_y, zoom_x = 1.0 / (1.0 + zoom_y * settings.zoom), 1.0 / (1.0 + zoom_x * settings.zoom)
    grid = tf.meshgrid(tf.range(rows, dtype=tf.float32), tf.range(columns, dtype=tf.float32), indexing="ij")
    middle_y, middle_x = (rows - 1) / 2, (columns - 1) / 2
    y, x = tf.reshape(grid[0] - middle_y, [-1]), tf.reshape(grid[1] - middle_x, [-1])
    y, x = y * tf.cos(turn) - x * tf.sin(turn), y * tf.sin(turn) + x * tf.cos(turn)
    y, x = y * zoom_y, (x + y * shear) * zoom_x
    sources = tf.stack([y + middle_y - shift_y * settings.shift, x + middle_x - shift_x * settings.shift])
    if settings.elastic_alpha:
        noise = tf.random.stateless_uniform([2, count, rows, columns], seed + 1, -1.0, 1.0)
        smooth = tf.einsum("ij,cnjk,lk->cnil", _blur(rows, settings), noise, _blur(columns, settings))
        sources += settings.elastic_alpha * tf.reshape(smooth, [2, count, rows * columns])
    return sources


def _blur(size: int, settings: Augmentation) -> tf.Tensor:
    """The matrix that smooths `size` values with a Gaussian of `elastic_sigma`, float32 [size, size]."""
    distance = tf.range(size, dtype=tf.float32)[:, tf.newaxis] - tf.range(size, dtype=tf.float32)
    weights = tf.exp(-0.5 * tf.square(distance / settings.elastic_sigma))
    return weights / (settings.elastic_sigma * math.sqrt(2 * math.pi))
