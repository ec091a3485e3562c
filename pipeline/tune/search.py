"""The search: processes that train trial after trial."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys

import optuna

from data.errors import SettingsError, UserError
from data.quiet import quiet
from data.signals import interruptible
from data.storage import storage_problem
from pipeline.exit_codes import FAILED, INTERRUPTED, exit_code
from pipeline.tune.study import Search, finished, running, text


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


def _say(number: int, what: str) -> None:
    print(f"Trial {number:>3}  {what}", flush=True)
