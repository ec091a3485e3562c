"""The run root: the folder of all runs of a pipeline. One process at a time holds it."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

from components.version_folder import version_folders
from data.errors import SettingsError, UserError, storage_problem
from data.splits import pattern_problem
from pipeline.config import Config

if TYPE_CHECKING:
    from ml_metadata.proto import metadata_store_pb2

    from pipeline.runs.store import History

RUN = "run "
"""What comes before a run's id in the lock file."""


class RunRoot:
    """Paths under one run root. Nothing is created before `held`."""

    def __init__(self, path: Path, config: Config) -> None:
        self.path = path.resolve()
        self._config = config
        self._database, self._lock = self.path / "metadata.db", self.path / "lock"
        self.artifacts = self.path / "artifacts"
        self.serving_dir = self.path / "serving_models" / config.serving.model_name

    def metadata(self) -> metadata_store_pb2.ConnectionConfig:
        """The profile's ML Metadata connection: SQLite under the root, or any other.

        Raises:
            SettingsError: the setting is no connection.
        """
        from pipeline.runs.connection import connection_config

        return connection_config(self._config.metadata.connection, self._database)

    @property
    def shares_metadata(self) -> bool:
        """Whether other run roots may have their records in the same store."""
        return bool(self._config.metadata.connection)

    def history(self, pipeline: str | None = None, *, create: bool = False) -> History:
        """The records of the runs: of one pipeline, or of all.

        Args:
            pipeline: the pipeline's name; None means all.
            create: make an empty store where there is none.

        Raises:
            SettingsError, UserError: there is no store, or it cannot be used.
        """
        from pipeline.runs.store import History

        connection = self.metadata()
        if not self.shares_metadata and not create and not self._database.is_file():
            raise UserError(f"There are no runs in {self.path}: name another folder with --run-root.")
        return History(connection, self.path, pipeline)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the root for this process, because two runs would overwrite each other's metadata.

        Raises:
            UserError: another process holds it, or it cannot be created or locked.
            SettingsError: its path has a character that TFX takes for a pattern.
        """
        if problem := pattern_problem(self.path):
            raise SettingsError(f"The path of the run root {self.path} {problem}: choose another with --run-root.")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = open(self._lock, "a+")
        except OSError as error:
            raise UserError(
                f"The run root {self.path} cannot be written: {storage_problem(error) or error.strerror};"
                " choose another with --run-root."
            ) from None
        with file:
            try:
                _flock(file, fcntl.F_OFD_SETLK)
            except (BlockingIOError, PermissionError):
                file.seek(0)
                holder = file.readline().strip() or "another process"
                raise UserError(
                    f"The run root {self.path} is held by {holder}: wait for it, or choose another with --run-root."
                ) from None
            except OSError as error:
                raise UserError(
                    f"The file system of the run root {self.path} has no locks ({error.strerror}), and two runs at once"
                    " would destroy each other's records: choose a folder on another one with --run-root."
                ) from None
            file.truncate(0)
            file.write(f"process {os.getpid()} since {datetime.now():%Y-%m-%d %H:%M:%S}\n")
            file.flush()
            try:
                yield
            finally:
                file.truncate(0)

    def log(self, run_id: str) -> Path:
        """The log file of a run."""
        return self.path / "logs" / run_id / "run.log"

    def report(self, run_id: str) -> Path:
        """The report of a run."""
        return self.path / "reports" / f"{run_id}.html"

    def running(self) -> str | None:
        """The id of the run that a process makes now. This takes no lock, so it is in nobody's way."""
        try:
            with open(self._lock) as file:
                if struct.unpack(_FLOCK, _flock(file, fcntl.F_OFD_GETLK))[0] == fcntl.F_UNLCK:
                    return None
                lines = file.read().splitlines()
        except OSError:
            return None
        return next((line.removeprefix(RUN) for line in lines if line.startswith(RUN)), None)

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
        log = self.log(f"{datetime.now():%Y%m%d-%H%M%S-%f}")
        try:
            log.parent.mkdir(parents=True)
            with open(self._lock, "a") as file:
                file.write(f"{RUN}{log.parent.name}\n")
        except OSError as error:
            raise UserError(f"The run root {self.path} cannot be written: {storage_problem(error) or error}.") from None
        return log

    def models(self) -> list[Path]:
        """The base path of each model."""
        return sorted(folder for folder in self.serving_dir.parent.glob("*") if folder.is_dir())

    def served(self) -> set[str]:
        """The newest version of each model, which TensorFlow Serving serves."""
        return {found[0] for model in self.models() if (found := version_folders(str(model)))}

    def versions(self) -> set[int]:
        """The versions that TF Serving would find."""
        return {int(Path(folder).name) for folder in version_folders(str(self.serving_dir))}


_FLOCK = "hhqqi"
"""Linux's struct flock: l_type, l_whence, l_start, l_len, l_pid."""


def _flock(file: IO[str], command: int) -> bytes:
    """Takes or tests the lock of the whole file. It belongs to the open file, so it ends with it (fcntl(2))."""
    return fcntl.fcntl(file, command, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
