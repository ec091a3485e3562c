"""run_fn: strategy, data, network, fit, export; and what a helping host does of it."""

from __future__ import annotations

import hashlib
import logging
import os
from typing import TYPE_CHECKING

import tensorflow as tf
import tensorflow_transform as tft
import tf_keras
from pydantic import BaseModel

from components.settings import TrainerSettings
from components.trainer.cluster import in_own_process, loss_of_host_told, part, tell, this_host
from components.trainer.distribution import choose_strategy
from components.trainer.export import export
from components.trainer.fit import compile_network, fit
from components.trainer.input import read_splits
from components.trainer.model import build_network
from components.trainer.samples import write_samples

if TYPE_CHECKING:
    # A training host has no other need of TFX, which takes seconds to load.
    from tfx import v1 as tfx

log = logging.getLogger(__name__)


class Assignment(BaseModel):
    """What is to be trained, on what, and where to leave it: all of TFX's FnArgs that a training host needs."""

    settings: TrainerSettings
    transform_output: str
    train_files: list[str]
    eval_files: list[str]
    serving_model_dir: str
    model_run_dir: str

    @property
    def backup(self) -> str:
        """A folder only this very training, same settings and same data, would go on from."""
        what = [self.settings.model_dump_json(), self.transform_output, *self.train_files, *self.eval_files]
        return os.path.join(self.settings.backup_dir, hashlib.sha256("\0".join(what).encode()).hexdigest()[:16])


def run_fn(fn_args: tfx.components.FnArgs) -> None:
    """TFX's entry point; `fn_args.custom_config` is a TrainerSettings.

    Where TF_CONFIG lists several hosts this one is their chief, and trains in a process of its own.
    """
    parts = {name: getattr(fn_args, name) for name in Assignment.model_fields if name != "settings"}
    assignment = Assignment(settings=TrainerSettings.model_validate(fn_args.custom_config), **parts)
    host = this_host()
    if host:
        log.info("Host 1 of %d, the chief: waits for the others.", host.count)
        in_own_process(train_and_export, assignment)
    else:
        train_and_export(assignment)


def train_and_export(assignment: Assignment) -> None:
    """The whole of the Trainer. Of several hosts, only the chief does it, which tells the others what to train."""
    settings = assignment.settings
    strategy = choose_strategy(settings.training.replicas)
    tell(strategy, assignment.model_dump_json())
    transform = tft.TFTransformOutput(assignment.transform_output)
    network = train(assignment, transform, strategy)
    export(network.get_weights(), transform, settings.model, settings.image, assignment.serving_model_dir)
    write_samples(network, transform, settings.image, assignment.eval_files, assignment.model_run_dir)
    part(strategy)
    tf.io.gfile.rmtree(assignment.backup)


def help_train() -> None:
    """What every host but the chief does: waits for the chief, trains what it assigns, and writes nothing.

    The folders of the assignment must be there under the same paths: the hosts share the run root.

    Raises:
        UserError: the hosts did not meet, one was lost, or the training diverged.
    """
    strategy = choose_strategy(1)
    assignment = Assignment.model_validate_json(tell(strategy, ""))
    train(assignment, tft.TFTransformOutput(assignment.transform_output), strategy)
    part(strategy)


def train(assignment: Assignment, transform: tft.TFTransformOutput, strategy: tf.distribute.Strategy) -> tf_keras.Model:
    """Data, network, fit: the same on every host."""
    training = assignment.settings.training
    tf_keras.utils.set_random_seed(training.seed)
    batch = training.batch_size * strategy.num_replicas_in_sync
    data, validation = read_splits(assignment.train_files, assignment.eval_files, transform, training, batch)
    with loss_of_host_told(strategy, lambda: "before the first epoch"), strategy.scope():
        network = build_network(assignment.settings.model, assignment.settings.image)
        compile_network(network, training, data.steps)
    fit(network, data, validation, training, assignment.model_run_dir, assignment.backup)
    return network
