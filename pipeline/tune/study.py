"""The study: what is searched, where Optuna keeps it, and how far it is."""

from __future__ import annotations

import fcntl
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from pipeline.config import Config, with_overrides
from pipeline.tune.ranges import Range, override, value_of

Metric = Literal["val_loss", "val_accuracy"]
BACKUP = "backup"
"""Where a trial keeps what it continues from, in its folder."""
RETRIES = 3
"""How often a trial is tried again. One that takes all memory would end its process each time."""


@dataclass(frozen=True)
class Search:
    """What the processes of one search share: settings, data, and the folder of the study.

    `transform_output` and `examples` are the folders that Transform and ExampleGen wrote.
    """

    folder: Path
    profile: str
    config: Config
    ranges: tuple[Range, ...]
    metric: Metric
    trials: int
    transform_output: str
    examples: str

    def open_study(self) -> optuna.Study:
        """The study, new or as it was left.

        A new study begins with the profile's own values, where they lie in the ranges.
        """
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with self.alone():
            storage = optuna.storages.RDBStorage(
                f"sqlite:///{self.folder / 'study.db'}",
                engine_kwargs={"connect_args": {"timeout": 60}},
            )
            study = optuna.create_study(
                storage=storage,
                study_name=self.folder.name,
                direction="minimize" if self.metric == "val_loss" else "maximize",
                pruner=optuna.pruners.MedianPruner(n_warmup_steps=2),
                load_if_exists=True,
            )
            if not study.trials:
                shutil.rmtree(self.folder / "trials", ignore_errors=True)
                own = {found.key: value_of(self.config, found.key) for found in self.ranges}
                study.enqueue_trial({found.key: own[found.key] for found in self.ranges if found.holds(own[found.key])})
        return study

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps the other processes of the search waiting."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def owns(self, number: int) -> Iterator[None]:
        """Marks a trial as one of this process, until the block or the process ends.

        Raises:
            BlockingIOError: the trial is another process's.
        """
        folder = self.folder / "trials"
        folder.mkdir(exist_ok=True)
        with open(folder / f"{number}.lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield

    def retry_lost(self, study: optuna.Study) -> None:
        """Queues the running trials whose processes ended. Only for a process that is alone."""
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            with suppress(BlockingIOError), self.owns(trial.number):
                if study.trials[trial.number].state == TrialState.RUNNING:  # it may just have ended
                    study.tell(trial.number, state=TrialState.FAIL)
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


def retry(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queues a trial that failed with the same values; it continues from the last finished epoch."""
    RetryHeartbeatStaleTrialCallback(RETRIES)(study, trial)


def count(study: optuna.Study, *states: TrialState) -> int:
    """How many trials are in one of `states`."""
    return len(study.get_trials(deepcopy=False, states=states))


def finished(study: optuna.Study) -> int:
    """How many trials have a result: to the end, or pruned."""
    return count(study, TrialState.COMPLETE, TrialState.PRUNED)


def text(value: Any) -> str:
    """A value for people: four digits of a float."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
