"""The folder all of a pipeline's runs live under: who holds it, and where in it what lies."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from data.errors import ConfigError, UserError, storage_trouble
from pipeline.config import Config

if TYPE_CHECKING:
    from ml_metadata.proto import metadata_store_pb2


class RunRoot:
    """Paths under one run root. Nothing is created before `held`."""

    def __init__(self, path: Path, config: Config) -> None:
        self.path = path.resolve()
        self._config = config
        self.artifacts = self.path / "artifacts"
        self.serving_dir = self.path / "serving_models" / config.serving.model_name

    def metadata(self) -> metadata_store_pb2.ConnectionConfig:
        """The ML Metadata connection the profile asks for: SQLite under the root, or any other.

        Raises:
            ConfigError: text that is no ConnectionConfig, or an environment variable that is not set.
        """
        from google.protobuf import text_format
        from ml_metadata.proto import metadata_store_pb2

        connection = metadata_store_pb2.ConnectionConfig()
        text = os.path.expandvars(self._config.metadata.connection)
        if not text:
            connection.sqlite.filename_uri = str(self.path / "metadata.db")
            connection.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
            return connection
        unset = re.search(r"\$\{?(\w+)", text)
        if unset:
            raise ConfigError(f"metadata.connection names ${unset[1]}, which is not set in the environment.")
        try:
            return text_format.Parse(text, connection)
        except text_format.ParseError as error:
            raise ConfigError(
                f"metadata.connection is no ml_metadata.ConnectionConfig in text format: {str(error).rstrip('.')}."
            ) from None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the root for this process: two runs would write over each other's metadata.

        Raises:
            UserError: another process holds it, or it cannot be created.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = open(self.path / "lock", "a+")
        except OSError as error:
            raise UserError(
                f"The run root {self.path} cannot be written: {storage_trouble(error) or error.strerror};"
                " choose another with --run-root."
            ) from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise UserError(
                    f"The run root {self.path} is held by {holder}: wait for it, or choose another with --run-root."
                ) from None
            file.truncate(0)
            file.write(f"process {os.getpid()} since {datetime.now():%Y-%m-%d %H:%M:%S}")
            file.flush()
            yield

    def new_log(self) -> Path:
        """The log file of a run that starts now.

        Raises:
            UserError: the disk is full, or the folder cannot be written.
        """
        folder = self.path / "logs" / f"{datetime.now():%Y%m%d-%H%M%S-%f}"
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"The run root {self.path} cannot be written: {storage_trouble(error) or error}.") from None
        return folder / "run.log"

    def versions(self) -> set[int]:
        """The versions TF Serving would find."""
        if not self.serving_dir.is_dir():
            return set()
        return {int(entry.name) for entry in self.serving_dir.iterdir() if entry.name.isdecimal()}


@contextmanager
def output_into(log: Path, and_screen: bool) -> Iterator[TextIO]:
    """Sends all that this process and its libraries write, C++ included, to `log`; yields the screen itself.

    With `and_screen` it goes to both.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    target, tee = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), None
    if and_screen:
        tee = subprocess.Popen(["tee", "-a", str(log)], stdin=subprocess.PIPE, stdout=kept[1])
        os.close(target)
        assert tee.stdin is not None
        target = os.dup(tee.stdin.fileno())
        tee.stdin.close()
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    try:
        with os.fdopen(os.dup(kept[0]), "w", encoding="utf-8", errors="replace") as screen:
            yield screen
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, original in enumerate(kept, start=1):
            os.dup2(original, number)
            os.close(original)
        if tee is not None:
            tee.wait()


@contextmanager
def logging_to_output() -> Iterator[None]:
    """Sends every library's log records to the process's error output, which `output_into` has turned to the log."""
    import absl.logging

    root, absl_logger = logging.getLogger(), absl.logging.get_absl_logger()
    kept = root.handlers[:], root.level, absl_logger.handlers[:], absl_logger.propagate
    with open(2, "w", closefd=False, encoding="utf-8", errors="replace") as stream:
        handler = logging.StreamHandler(stream)
        handler.setLevel(logging.INFO)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname).1s %(name)s: %(message)s"))
        handler.addFilter(_without_connection)
        # Handlers the libraries brought along would write each record twice; the account stays.
        root.handlers = [handler, *(h for h in root.handlers if type(h).__module__.startswith("pipeline."))]
        root.setLevel(logging.INFO)
        logging.getLogger("components").setLevel(logging.DEBUG)
        absl_logger.handlers, absl_logger.propagate = [], True
        absl.logging.set_verbosity(absl.logging.INFO)
        try:
            yield
        finally:
            # The account detaches itself; what it was added to is gone with this list.
            root.handlers, _, absl_logger.handlers, absl_logger.propagate = kept
            root.setLevel(kept[1])


def _without_connection(record: logging.LogRecord) -> bool:
    """False for the records in which TFX prints the metadata connection, which may hold a password."""
    return not str(record.msg).startswith(("Using deployment config", "Using connection config"))
