"""TFX's own MNIST example on the committed digits: python -m tests.benchmarks.tfx_example FOLDER as_shipped|in_memory.

as_shipped: Beam with --direct_running_mode=multi_processing, the example's default. in_memory: Beam as in this project.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import sys
from pathlib import Path

import tensorflow as tf
from tfx import v1 as tfx
from tfx.examples.mnist import mnist_pipeline_native_keras as example
from tfx.examples.mnist import mnist_utils_native_keras as utils

from data.example import ExampleSpec
from data.records import read_split
from pipeline.engines.settings import Beam, pipeline_args
from tests.benchmarks.__main__ import MNIST


def write_data(folder: Path) -> None:
    """All 70,000 digits in the format of the example: `image_floats` in -0.5..0.5 and `image_class`."""
    folder.mkdir()
    with tf.io.TFRecordWriter(str(folder / "digits.tfrecord.gz"), tf.io.TFRecordOptions("GZIP")) as writer:
        for split in ("train", "eval", "test"):
            for pixels, label in zip(*read_split(MNIST, split, ExampleSpec()), strict=True):
                feature = {
                    "image_floats": tf.train.Feature(float_list=tf.train.FloatList(value=pixels.ravel() / 255 - 0.5)),
                    "image_class": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


def main(folder: Path, how: str) -> None:
    folder.mkdir()
    write_data(folder / "example_data")
    pipeline = example._create_pipeline(
        pipeline_name=example._pipeline_name,
        pipeline_root=str(folder / "example"),
        data_root=str(folder / "example_data"),
        module_file=utils.__file__,
        serving_model_dir=str(folder / "example_serving"),
        metadata_path=str(folder / "metadata.db"),
        beam_pipeline_args=example._beam_pipeline_args if how == "as_shipped" else pipeline_args(Beam()),
    )
    tfx.orchestration.LocalDagRunner().run(pipeline)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
