"""The study: what is searched, where Optuna keeps it, and how far it is."""

from __future__ import annotations

import fcntl
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.trial import TrialState

from pipeline.config import Config, with_overrides
from pipeline.tune.ranges import Range, override, value_of

Metric = Literal["val_loss", "val_accuracy"]
HEARTBEAT = 5
"""Seconds between the signs of life of a process. After two of them are missing, its trial is tried again."""
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
        """The study, new or as it was left. A trial whose process was lost is tried again.

        A new study begins with the profile's own values, where they lie in the ranges.
        """
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with self.alone():
            storage = optuna.storages.RDBStorage(
                f"sqlite:///{self.folder / 'study.db'}",
                engine_kwargs={"connect_args": {"timeout": 60}},
                heartbeat_interval=HEARTBEAT,
                heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(RETRIES),
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

    def settings(self, trial: optuna.Trial) -> Config:
        """The settings of a trial: the profile's, with the values that Optuna suggests.

        Raises:
            SettingsError: the values do not fit together.
        """
        return with_overrides(self.config, [override(found.key, found.suggest(trial)) for found in self.ranges])


def count(study: optuna.Study, *states: TrialState) -> int:
    """How many trials are in one of `states`."""
    return len(study.get_trials(deepcopy=False, states=states))


def finished(study: optuna.Study) -> int:
    """How many trials have a result: to the end, or pruned."""
    return count(study, TrialState.COMPLETE, TrialState.PRUNED)


def text(value: Any) -> str:
    """A value for people: four digits of a float."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
