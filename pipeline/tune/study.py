"""The study: what is searched, where Optuna keeps it, and how far it is.

Locks tell which process has a trial, not Optuna's heartbeats: these cannot tell a process that is suspended from one
that ended. Its trial would be given away, or after an interruption the same command would have to wait for it.
"""

from __future__ import annotations

import fcntl
import shutil
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import optuna
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from pipeline.config import Config, with_overrides
from pipeline.tune.ranges import Range, override, value_of

Metric = Literal["val_loss", "val_accuracy"]
BACKUP = "backup"
"""Where a trial keeps what it continues from, in its folder."""
SPENT, CUT = "seconds of training", "cut"
"""User attributes of a trial with a time budget: how long it has trained, and where it was cut."""
RETRIES = 3
"""How often a trial is tried again. One that takes all memory would end its process each time."""


@dataclass(frozen=True)
class Search:
    """What the processes of one search share: settings, data, and the folder of the study.

    `transform_output` and `examples` are the folders that Transform and ExampleGen wrote. A trial trains for `budget`
    seconds at most; 0 sets no limit.
    """

    folder: Path
    profile: str
    config: Config
    ranges: tuple[Range, ...]
    metric: Metric
    trials: int
    transform_output: str
    examples: str
    budget: int = 0

    def open_study(self) -> optuna.Study:
        """The study, new or as it was left.

        A new study begins with the profile's own values, where they lie in the ranges.
        """
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with self.alone():
            storage = optuna.storages.RDBStorage(
                f"sqlite:///{self.folder / 'study.db'}", engine_kwargs={"connect_args": {"timeout": 60}}
            )
            study = optuna.create_study(
                storage=storage,
                study_name=self.folder.name,
                direction="minimize" if self.metric == "val_loss" else "maximize",
                pruner=optuna.pruners.MedianPruner(n_warmup_steps=3),
                load_if_exists=True,
            )
            if not study.trials:
                shutil.rmtree(self.folder / "trials", ignore_errors=True)
                own = {found.key: value_of(self.config, found.key) for found in self.ranges}
                study.enqueue_trial({found.key: own[found.key] for found in self.ranges if found.holds(own[found.key])})
        return study

    def alone(self) -> IO[str]:
        """A file that keeps the other processes of the search waiting until it is closed, or this process ends."""
        return _lock(self.folder / "lock", fcntl.LOCK_EX)

    def own(self, number: int) -> IO[str]:
        """A file that makes a trial one of this process until it is closed, or this process ends.

        Raises:
            BlockingIOError: the trial is another process's.
        """
        return _lock(self.folder / "trials" / f"{number}.lock", fcntl.LOCK_EX | fcntl.LOCK_NB)

    def retry_lost(self, study: optuna.Study) -> None:
        """Queues the running trials whose processes ended. Only for a process that is alone."""
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            with suppress(BlockingIOError), self.own(trial.number):
                if study.trials[trial.number].state == TrialState.RUNNING:  # it may just have ended
                    retry(study, trial)

    def trial_folder(self, trial: FrozenTrial) -> Path:
        """Where a trial trains. One that is tried again continues in the folder of the first."""
        first = RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)
        return self.folder / "trials" / str(trial.number if first is None else first)

    def settings(self, trial: optuna.Trial) -> Config:
        """The settings of a trial: the profile's, with the values that Optuna suggests.

        Raises:
            SettingsError: the values do not fit together.
        """
        return with_overrides(self.config, [override(found.key, found.suggest(trial)) for found in self.ranges])


def _lock(path: Path, operation: int) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "w")
    fcntl.flock(file, operation)
    return file


def retry(study: optuna.Study, trial: FrozenTrial) -> None:
    """Ends a trial as failed, and queues one with the same values; it continues from the last finished epoch."""
    study.tell(trial.number, state=TrialState.FAIL)
    RetryHeartbeatStaleTrialCallback(RETRIES)(study, trial)


def finished(study: optuna.Study, *others: TrialState) -> int:
    """How many trials have a result, to the end or pruned, or are in one of the other states."""
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, *others)))
