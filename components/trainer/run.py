"""run_fn: strategy, data, model, fit, export."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tensorflow as tf
import tensorflow_transform as tft
import tf_keras
from pydantic import BaseModel

from components.fingerprint import fingerprint
from components.trainer.cluster import Cluster, connect, launch, with_precision
from components.trainer.export import describe_inputs, export, graph_text, predict_reference
from components.trainer.fit import compile_model, fit
from components.trainer.input import SplitDataset, read_splits
from components.trainer.model import build_model
from components.trainer.precision import in_float32
from components.trainer.settings import TrainerSettings
from components.trainer.warm_start import Start, find_start, read_weights
from components.version_folder import write_model_id, write_warm_start
from data.process import remove_older

if TYPE_CHECKING:
    # A training host has no other need of TFX, which takes seconds to load.
    from tfx.components.trainer.fn_args_utils import FnArgs


log = logging.getLogger(__name__)


class TrainingJob(BaseModel):
    """What to train, on which data, and where to write: all that a training host needs of TFX's FnArgs."""

    settings: TrainerSettings
    transform_output: str
    train_files: list[str]
    eval_files: list[str]
    serving_model_dir: str
    model_run_dir: str
    start: Start = Start()
    examples: str = ""
    """The URI of the imported examples; needed with a start."""
    backup_dir: str
    """The state of an interrupted training. Only the same training continues from it: same settings, data and code."""


def run_fn(fn_args: FnArgs) -> None:
    """TFX's entry point; `fn_args.custom_config` is a TrainerSettings.

    Where TF_CONFIG lists several hosts, this one is their chief.
    """
    given = TrainerSettings.model_validate(fn_args.custom_config)
    settings = given.model_copy(update={"training": with_precision(given.training)})
    inputs = [fn_args.transform_output, *fn_args.train_files, *fn_args.eval_files]
    examples, start = os.path.dirname(os.path.dirname(fn_args.train_files[0])), Start()
    if settings.training.warm_start:
        start = find_start(settings, examples)
        log.info("%s", start)
    identity = "\0".join([settings.model_dump_json(), fingerprint(__name__), start.identity, *inputs])
    job = TrainingJob(
        settings=settings,
        transform_output=fn_args.transform_output,
        train_files=fn_args.train_files,
        eval_files=fn_args.eval_files,
        serving_model_dir=fn_args.serving_model_dir,
        model_run_dir=fn_args.model_run_dir,
        start=start,
        examples=examples,
        backup_dir=os.path.join(settings.backup_dir, hashlib.sha256(identity.encode()).hexdigest()[:16]),
    )
    launch(train, job)


def train(job: TrainingJob | None) -> None:
    """The training on one host, through `launch`.

    Every host but the chief passes None: it waits for the chief's job, trains with it, and writes nothing. The hosts
    share the run root: the job's folders have the same paths on all of them.

    Raises:
        UserError: the hosts did not connect, one was lost, or the training diverged.
    """
    cluster = connect(job.settings.training.replicas if job else 1)
    job = TrainingJob.model_validate_json(cluster.broadcast(job.model_dump_json() if job else ""))
    settings, spec = job.settings, job.settings.example
    transform = tft.TFTransformOutput(job.transform_output)
    with cluster.together():
        model, validation = learn(job, transform, cluster)
    if cluster.is_chief:
        model = in_float32(model, settings.training.precision, settings.model, spec, validation)
        described = describe_inputs(spec, job.train_files)
        export(model.get_weights(), transform, settings.model, spec, described, job.serving_model_dir)
        reference = predict_reference(model, transform, spec, job.eval_files)
        reference.write(job.model_run_dir)
        arrays = [*model.get_weights(), reference.probabilities.round(5)]
        write_model_id(job.serving_model_dir, arrays, graph_text(job.serving_model_dir))
        if settings.training.warm_start:
            write_warm_start(
                job.serving_model_dir, {**job.start.model_dump(exclude={"folder"}), "text": str(job.start)}
            )
    cluster.finish()
    if cluster.is_chief:
        clean_up(job.backup_dir)


def clean_up(backup_dir: str) -> None:
    """Removes a backup, and what others left beside it 30 days ago. The training is finished, so no failure counts."""
    try:
        tf.io.gfile.rmtree(backup_dir)
    except tf.errors.OpError as error:
        log.warning("%s could not be removed: %s", backup_dir, error)
    if "://" not in backup_dir:
        remove_older(Path(backup_dir).parent, "*", seconds=30 * 24 * 60 * 60)


def learn(
    job: TrainingJob,
    transform: tft.TFTransformOutput,
    cluster: Cluster,
    callbacks: Sequence[tf_keras.callbacks.Callback] = (),
) -> tuple[tf_keras.Model, SplitDataset]:
    """The trained model, and the validation split that it was judged on.

    Raises:
        UserError: a split without examples, or the training diverged.
    """
    training, start = job.settings.training, job.start
    train_files, replayed = job.train_files, list[str]()
    if start.folder:
        training = training.for_warm_start()
        train_files, replayed = start.files(job.train_files, job.examples)
    tf_keras.utils.set_random_seed(training.seed)
    data, validation = read_splits(
        train_files,
        job.eval_files,
        transform,
        training,
        training.batch_size * cluster.strategy.num_replicas_in_sync,
        job.settings.augmentation,
        replayed,
    )
    with cluster.strategy.scope():
        model = build_model(job.settings.model, job.settings.example, training.precision)
        if start.folder:
            model.set_weights(read_weights(start.folder, [weight.shape for weight in model.weights]))
        compile_model(model, training, data.steps)
    fit(model, data, validation, training, cluster, job.model_run_dir, job.backup_dir, callbacks)
    return model, validation
