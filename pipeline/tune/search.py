"""The search: processes that train trial after trial."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import shutil
import signal
import sys
import time
import traceback
from contextlib import ExitStack, suppress

import optuna
from optuna.trial import FrozenTrial, TrialState

from data.errors import SettingsError, UserError, storage_problem
from data.process import interruptible, quiet
from pipeline.exit_codes import FAILED, exit_code
from pipeline.tune.study import BACKUP, Search, count, finished, retry, text

LOG = "search.log"


def run(search: Search, jobs: int) -> int:
    """Works on the search in `jobs` processes, which share this machine's cores, until it has all its trials.

    Returns the exit code of the first process that failed, or 0.
    """
    spawn = multiprocessing.get_context("spawn")
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    processes = [spawn.Process(target=_work, args=(search, threads), daemon=True) for _ in range(jobs)]
    with interruptible():
        try:
            for process in processes:
                process.start()
            for process in processes:
                process.join()
        finally:
            for process in processes:
                if process.pid:
                    process.kill()
    codes = [process.exitcode or 0 for process in processes]
    if min(codes) < 0:
        print(
            f"tune: A process of the search was killed by signal {-min(codes)}. If the memory was full, give smaller"
            " ranges or fewer --jobs; the same command goes on.",
            file=sys.stderr,
        )
        return FAILED
    return max(codes)


def _work(search: Search, threads: int) -> None:
    """One process."""
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads)
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"  # or the first process takes all of a GPU's memory
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes; the parent handles it
    logging.raiseExceptions = False  # on a full disk the trial has the error, not each line of the log
    try:
        logging.basicConfig(filename=search.folder / LOG, format="%(asctime)s %(process)d %(message)s", level="INFO")
        with quiet():
            from components.trainer.process import end_with_parent
        end_with_parent()
        Worker(search).work()
    except Exception as error:
        sys.exit(tell(error, search))


class Worker:
    """Trains trial after trial, until the search has all and no other process has one to finish."""

    def __init__(self, search: Search) -> None:
        self._search, self._study = search, search.open_study()
        self._alone, self._trial = ExitStack(), ExitStack()

    def work(self) -> None:
        study, trials, told = self._study, self._search.trials, False
        while finished(study) < trials:
            with self._trial, self._alone:
                self._alone.enter_context(self._search.alone())
                self._search.retry_lost(study)
                free = finished(study) + count(study, TrialState.RUNNING) < trials
                if free:
                    study.optimize(self._objective, n_trials=1, callbacks=[self._tell])
            if not free:
                if not told:
                    print("Waits for the last trials of the other processes.", flush=True)
                    told = True
                time.sleep(1)

    def _objective(self, trial: optuna.Trial) -> float:
        self._trial.enter_context(self._search.owns(trial.number))
        self._alone.close()  # the trial counts as running now
        from pipeline.tune.trial import train_trial

        try:
            config = self._search.settings(trial)
        except SettingsError as error:
            _say(trial.number, f"pruned: {error}")
            raise optuna.TrialPruned from error
        _say(trial.number, "begins  " + "  ".join(f"{key}={text(value)}" for key, value in trial.params.items()))
        try:
            value = train_trial(self._search, trial, config)
        except optuna.TrialPruned:
            raise
        except Exception:
            retry(self._study, self._study.trials[trial.number])
            raise
        if not math.isfinite(value):
            _say(trial.number, "diverged: the loss became NaN or infinite")
            raise optuna.TrialPruned
        return value

    def _tell(self, study: optuna.Study, trial: FrozenTrial) -> None:
        shutil.rmtree(self._search.trial_folder(trial) / BACKUP, ignore_errors=True)
        seconds = trial.duration.total_seconds() if trial.duration else 0
        if trial.state == TrialState.PRUNED:
            _say(trial.number, f"pruned after {len(trial.intermediate_values)} epochs, {seconds:.0f} s")
        elif trial.state == TrialState.COMPLETE:
            _say(trial.number, f"{self._search.metric} {trial.value:.4f}, {seconds:.0f} s")


def tell(error: Exception, search: Search) -> int:
    """Prints what went wrong, and adds the traceback to the log. Returns the exit code."""
    with suppress(OSError), open(search.folder / LOG, "a") as file:
        traceback.print_exception(error, file=file)
    print(f"tune: {_sentence(error, search)}", file=sys.stderr)
    return exit_code(error)


def _sentence(error: Exception, search: Search) -> str:
    if isinstance(error, UserError):
        return str(error)
    if problem := storage_problem(error):
        return f"The search {search.folder} cannot be written: {problem}."
    return f"The search failed: {type(error).__name__}. The full error is in {search.folder / LOG}."


def _say(number: int, what: str) -> None:
    print(f"Trial {number:>3}  {what}", flush=True)
