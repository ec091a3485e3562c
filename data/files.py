"""Files: the file system of a path, this machine's or an object store's, and files that are replaced in one step."""

import glob
import hashlib
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

_PART = 2**18
_LOCAL = SimpleNamespace(
    glob=glob.glob,
    isdir=os.path.isdir,
    exists=os.path.exists,
    listdir=os.listdir,
    makedirs=partial(os.makedirs, exist_ok=True),
    GFile=open,
)


def file_system(path: Path | str) -> Any:
    """The functions glob, isdir, exists, listdir and makedirs, and the class GFile, for such a path.

    Object stores (`gs://`, `s3://`) are those of TensorFlow.
    """
    if "://" in str(path):
        import tensorflow as tf

        return tf.io.gfile
    return _LOCAL


def sha256(path: str) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with file_system(path).GFile(path, "rb") as file:
        while content := file.read(_PART):
            digest.update(content)
    return digest.hexdigest()


def write_file(text: str, path: Path, mode: int = 0o666) -> None:
    """Replaces the file `path` by `text`, in UTF-8, in one step. Who may read it is `mode` without the umask.

    Raises:
        OSError: the file cannot be written. Then nothing of it is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.touch(mode)
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
