"""The study: what is searched, where Optuna keeps it, and how far it is."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.config import Config, load
from pipeline.tune.ranges import Range, override, value_of

if TYPE_CHECKING:
    import optuna

Metric = Literal["val_loss", "val_accuracy"]
HEARTBEAT = 10
"""Seconds between the signs of life of a process. After two of them are missing, its trial is tried again."""


@dataclass(frozen=True)
class Search:
    """What the processes of one search share: settings, data, and the folder of the study."""

    folder: Path
    profile: str
    overrides: tuple[str, ...]
    ranges: tuple[Range, ...]
    metric: Metric
    trials: int
    transform_output: str
    examples: str

    def open_study(self) -> optuna.Study:
        """The study, new or as it was left.

        A new study begins with the profile's own values. A trial whose process was lost is tried again.
        """
        import optuna

        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.folder.mkdir(parents=True, exist_ok=True)
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{self.folder / 'study.db'}",
            engine_kwargs={"connect_args": {"timeout": 60}},
            heartbeat_interval=HEARTBEAT,
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
        )
        study = optuna.create_study(
            storage=storage,
            study_name=self.folder.name,
            direction="minimize" if self.metric == "val_loss" else "maximize",
            pruner=optuna.pruners.MedianPruner(n_warmup_steps=2),
            load_if_exists=True,
        )
        if not study.trials:
            config = load(self.profile, self.overrides)
            own = {found.key: value_of(config, found.key) for found in self.ranges}
            study.enqueue_trial({found.key: own[found.key] for found in self.ranges if found.holds(own[found.key])})
        return study

    def settings(self, trial: optuna.Trial) -> Config:
        """The settings of a trial: the profile's, with the values that Optuna suggests.

        Raises:
            SettingsError: the values do not fit together.
        """
        suggested = [override(found.key, found.suggest(trial)) for found in self.ranges]
        return load(self.profile, [*self.overrides, *suggested])


def finished(study: optuna.Study) -> int:
    """How many trials have a result: to the end, or pruned."""
    from optuna.trial import TrialState

    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))


def running(study: optuna.Study) -> int:
    """How many trials a process works on."""
    from optuna.trial import TrialState

    return len(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))


def text(value: Any) -> str:
    """A value for people: four digits of a float."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
