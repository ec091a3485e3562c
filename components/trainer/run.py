"""run_fn: data, strategy, network, fit, export."""

from __future__ import annotations

import hashlib
import os

import tensorflow as tf
import tensorflow_transform as tft
import tf_keras
from tfx import v1 as tfx

from components.settings import TrainerSettings
from components.trainer.distribution import choose_strategy
from components.trainer.export import export
from components.trainer.fit import compile_network, fit
from components.trainer.input import read_splits
from components.trainer.model import build_network
from components.trainer.samples import write_samples


def run_fn(fn_args: tfx.components.FnArgs) -> None:
    """TFX's entry point; `fn_args.custom_config` is a TrainerSettings."""
    settings = TrainerSettings.model_validate(fn_args.custom_config)
    training = settings.training
    tf_keras.utils.set_random_seed(training.seed)
    strategy = choose_strategy(training.replicas)
    batch = training.batch_size * strategy.num_replicas_in_sync
    transform = tft.TFTransformOutput(fn_args.transform_output)
    train, validation = read_splits(fn_args.train_files, fn_args.eval_files, transform, training, batch)
    with strategy.scope():
        network = build_network(settings.model, settings.image)
        compile_network(network, training, len(train.dataset))
    backup = _backup_dir(settings, fn_args)
    fit(network, train, validation, training, fn_args.model_run_dir, backup)
    export(network.get_weights(), transform, settings.model, settings.image, fn_args.serving_model_dir)
    write_samples(network, transform, settings.image, fn_args.eval_files, fn_args.model_run_dir)
    tf.io.gfile.rmtree(backup)


def _backup_dir(settings: TrainerSettings, fn_args: tfx.components.FnArgs) -> str:
    """A folder only this very training, same settings and same data, would go on from."""
    what = [settings.model_dump_json(), fn_args.transform_output, *fn_args.train_files, *fn_args.eval_files]
    return os.path.join(settings.backup_dir, hashlib.sha256("\0".join(what).encode()).hexdigest()[:16])
