"""The file system of a path: this machine's, or that of an object store (`gs://`, `s3://`) through TensorFlow."""

import glob
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

_LOCAL = SimpleNamespace(
    glob=glob.glob,
    isdir=os.path.isdir,
    exists=os.path.exists,
    listdir=os.listdir,
    makedirs=partial(os.makedirs, exist_ok=True),
    GFile=open,
)


def file_system(path: Path | str) -> Any:
    """The functions glob, isdir, exists, listdir and makedirs, and the class GFile, for such a path."""
    if "://" in str(path):
        import tensorflow as tf

        return tf.io.gfile
    return _LOCAL
