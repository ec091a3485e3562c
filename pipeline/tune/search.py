"""The search: an Optuna study in the run root, and the processes that work on it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from data.errors import SettingsError, UserError
from data.quiet import quiet
from data.signals import interruptible
from data.storage import storage_problem
from pipeline.config import Config, load
from pipeline.exit_codes import FAILED, INTERRUPTED, exit_code
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


def run(search: Search, jobs: int) -> int:
    """Works on the search in `jobs` processes, which share this machine's cores, until it has all its trials.

    Returns the exit code of the first process that failed, or 0.
    """
    spawn = multiprocessing.get_context("spawn")
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // jobs))
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"  # or the first process takes all of a GPU's memory
    processes = [spawn.Process(target=_work, args=(search, number), daemon=True) for number in range(jobs)]
    with interruptible():
        try:
            for process in processes:
                process.start()
            for process in processes:
                process.join()
        finally:
            for process in processes:
                process.kill()
    return next((process.exitcode or FAILED for process in processes if process.exitcode), 0)


def _work(search: Search, number: int) -> None:
    """One process: trial after trial."""
    import signal

    import optuna

    with quiet():
        from components.trainer.cluster import end_with_parent
        from pipeline.tune.trial import train_trial

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes; the parent handles it
    end_with_parent()
    logging.getLogger().setLevel(logging.ERROR)
    try:
        study = search.open_study()
        # Optuna would suggest the same values again after a restart, and in every process.
        study.sampler = optuna.samplers.TPESampler(seed=len(study.trials) + 1000 * number)

        def objective(trial: optuna.Trial) -> float:
            try:
                config = search.settings(trial)
                values = "  ".join(f"{key}={text(value)}" for key, value in trial.params.items())
                _say(trial.number, f"begins  {values}")
                return train_trial(search, trial, config)
            except SettingsError as error:
                _say(trial.number, f"pruned: {error}")
                raise optuna.TrialPruned from error

        def stop(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
            if trial.state != optuna.trial.TrialState.FAIL:
                _say(trial.number, _result(search, trial))
            if finished(study) + running(study) >= search.trials:
                study.stop()

        if finished(study) < search.trials:
            study.optimize(objective, callbacks=[stop])
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except UserError as error:
        print(f"tune: {error}", file=sys.stderr)
        sys.exit(exit_code(error))
    except Exception as error:
        problem = storage_problem(error)
        print(f"tune: {problem or f'a trial failed: {type(error).__name__}: {error}'}", file=sys.stderr)
        sys.exit(FAILED)


def _result(search: Search, trial: optuna.trial.FrozenTrial) -> str:
    seconds = trial.duration.total_seconds() if trial.duration else 0
    if trial.value is None or trial.state.name == "PRUNED":
        return f"pruned after {len(trial.intermediate_values)} epochs, {seconds:.0f} s"
    return f"{search.metric} {trial.value:.4f}, {seconds:.0f} s"


def text(value: Any) -> str:
    """A value for people: four digits of a float."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _say(number: int, what: str) -> None:
    print(f"Trial {number:>3}  {what}", flush=True)
