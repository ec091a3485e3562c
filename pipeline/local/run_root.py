"""The run root: the folder of all runs of a pipeline. One process at a time holds it."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.message import Message

from data.errors import SettingsError, UserError
from data.storage import storage_problem
from pipeline.config import Config
from pipeline.local.environment import fill_in

if TYPE_CHECKING:
    from ml_metadata.proto import metadata_store_pb2

    from pipeline.history.store import History


class RunRoot:
    """Paths under one run root. Nothing is created before `held`."""

    def __init__(self, path: Path, config: Config) -> None:
        self.path = path.resolve()
        self._config = config
        self.artifacts = self.path / "artifacts"
        self.reports = self.path / "reports"
        self.serving_dir = self.path / "serving_models" / config.serving.model_name

    def metadata(self) -> metadata_store_pb2.ConnectionConfig:
        """The profile's ML Metadata connection: SQLite under the root, or any other.

        Raises:
            SettingsError: text that is not a ConnectionConfig, or an environment variable that is not set.
        """
        from google.protobuf import text_format
        from ml_metadata.proto import metadata_store_pb2

        connection = metadata_store_pb2.ConnectionConfig()
        text = self._config.metadata.connection
        if not text:
            connection.sqlite.filename_uri = str(self.path / "metadata.db")
            connection.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
            return connection
        try:
            text_format.Parse(text, connection)
        except text_format.ParseError as error:
            raise SettingsError(
                f"metadata.connection is not an ml_metadata.ConnectionConfig in text format: {str(error).rstrip('.')}."
            ) from None
        _fill_in_all(connection)
        return connection

    def history(self, pipeline: str | None = None, *, create: bool = False) -> History:
        """The records of the runs: of one pipeline, or of all.

        Args:
            pipeline: the pipeline's name; None means all.
            create: make an empty store where there is none.

        Raises:
            UserError: there is no store, or it cannot be read.
        """
        from pipeline.history.store import History

        connection, file = self.metadata(), self.path / "metadata.db"
        own = not self._config.metadata.connection
        if own and not create and not file.is_file():
            raise UserError(f"There are no runs in {self.path}: name another folder with --run-root.")
        try:
            return History(connection, pipeline)
        except Exception as error:
            if storage_problem(error):
                raise
            where = str(file) if own else "that metadata.connection names"
            reason = re.sub(r"^Error when executing query: | query: .*", "", str(error), flags=re.DOTALL)[:200]
            raise UserError(
                f"The ML Metadata store {where} cannot be read: {reason}."
                " Restore it from a backup, or use another --run-root."
            ) from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the root for this process, because two runs would overwrite each other's metadata.

        Raises:
            UserError: another process holds it, or it cannot be created.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = open(self.path / "lock", "a+")
        except OSError as error:
            raise UserError(
                f"The run root {self.path} cannot be written: {storage_problem(error) or error.strerror};"
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

    def set_unknown_artifacts_aside(self, history: History) -> Path | None:
        """Renames the folder of the artifacts if ML Metadata has no record at all, and returns its new path.

        TFX numbers the folders of the artifacts by its records. Without these it would write into the old folders.
        """
        if not self.artifacts.is_dir() or not any(self.artifacts.iterdir()) or not history.empty:
            return None
        aside = self.path / f"artifacts-before-{datetime.now():%Y%m%d-%H%M%S}"
        self.artifacts.rename(aside)
        return aside

    def new_log(self) -> Path:
        """The log file of a run that starts now. The name of its folder is the id of the run.

        Raises:
            UserError: the disk is full, or the folder cannot be written.
        """
        folder = self.path / "logs" / f"{datetime.now():%Y%m%d-%H%M%S-%f}"
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"The run root {self.path} cannot be written: {storage_problem(error) or error}.") from None
        return folder / "run.log"

    def versions(self) -> set[int]:
        """The versions that TF Serving would find."""
        names = (file.parent.name for file in self.serving_dir.glob("*/saved_model.pb"))
        return {int(name) for name in names if name.isdecimal()}


def _fill_in_all(message: Message) -> None:
    """Replaces `$NAME` and `${NAME}` in every string of `message`, after it was parsed: a value may hold any character.

    Raises:
        SettingsError: a variable that is not set.
    """
    for field, value in message.ListFields():
        if isinstance(value, str):
            setattr(message, field.name, fill_in(value, "metadata.connection"))
        elif isinstance(value, Message):
            _fill_in_all(value)
