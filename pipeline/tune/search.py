"""The search: processes that train trial after trial."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import ExitStack

import optuna
from optuna.trial import FrozenTrial, TrialState

from data.errors import SettingsError, UserError
from data.quiet import quiet
from data.signals import interruptible
from data.storage import storage_problem
from pipeline.exit_codes import FAILED, exit_code
from pipeline.tune.study import Search, count, finished, text

LOG = "search.log"

log = logging.getLogger(__name__)


def run(search: Search, jobs: int) -> int:
    """Works on the search in `jobs` processes, which share this machine's cores, until it has all its trials.

    Returns the exit code of the first process that failed, or 0.
    """
    spawn = multiprocessing.get_context("spawn")
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    processes = [spawn.Process(target=_work, args=(search, number, threads), daemon=True) for number in range(jobs)]
    with interruptible():
        try:
            for process in processes:
                process.start()
            for process in processes:
                process.join()
        finally:
            for process in processes:
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


def _work(search: Search, number: int, threads: int) -> None:
    """One process."""
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads)
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"  # or the first process takes all of a GPU's memory
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes; the parent handles it
    logging.basicConfig(filename=search.folder / LOG, format="%(asctime)s %(process)d %(message)s", level=logging.INFO)
    # Optuna's signs of life come from a thread. Its errors are those of the next access to the study.
    threading.excepthook = lambda args: log.error("In a thread: %s", args.exc_value)
    try:
        with quiet():
            from components.trainer.cluster import end_with_parent
        end_with_parent()
        Worker(search, number).work()
    except Exception as error:
        log.exception("The search failed.")
        print(f"tune: {sentence(error, search)}", file=sys.stderr)
        sys.exit(exit_code(error))


class Worker:
    """Trains trial after trial, until the search has all and no other process has one to finish."""

    def __init__(self, search: Search, number: int) -> None:
        self._search, self._study = search, search.open_study()
        # A fixed seed would repeat its values after a restart, and in every process.
        self._study.sampler = optuna.samplers.TPESampler(seed=len(self._study.trials) + 1000 * number)
        self._alone = ExitStack()

    def work(self) -> None:
        study, trials = self._study, self._search.trials
        while finished(study) < trials:
            with self._alone:
                self._alone.enter_context(self._search.alone())
                optuna.storages.fail_stale_trials(study)
                free = finished(study) + count(study, TrialState.RUNNING) < trials
                if free:
                    study.optimize(self._objective, n_trials=1, callbacks=[self._tell])
            if not free:
                time.sleep(1)

    def _objective(self, trial: optuna.Trial) -> float:
        self._alone.close()  # the trial counts as running now
        from pipeline.tune.trial import train_trial

        try:
            config = self._search.settings(trial)
        except SettingsError as error:
            _say(trial.number, f"pruned: {error}")
            raise optuna.TrialPruned from error
        _say(trial.number, "begins  " + "  ".join(f"{key}={text(value)}" for key, value in trial.params.items()))
        value = train_trial(self._search, trial, config)
        if not math.isfinite(value):
            _say(trial.number, "diverged: the loss became NaN or infinite")
            raise optuna.TrialPruned
        return value

    def _tell(self, study: optuna.Study, trial: FrozenTrial) -> None:
        seconds = trial.duration.total_seconds() if trial.duration else 0
        if trial.state == TrialState.PRUNED:
            _say(trial.number, f"pruned after {len(trial.intermediate_values)} epochs, {seconds:.0f} s")
        elif trial.state == TrialState.COMPLETE:
            _say(trial.number, f"{self._search.metric} {trial.value:.4f}, {seconds:.0f} s")


def sentence(error: Exception, search: Search) -> str:
    """What went wrong, for people; the traceback is in the log."""
    if isinstance(error, UserError):
        return str(error)
    if problem := storage_problem(error):
        return f"The search {search.folder} cannot be written: {problem}."
    return f"A trial failed: {type(error).__name__}. The full error is in {search.folder / LOG}."


def _say(number: int, what: str) -> None:
    print(f"Trial {number:>3}  {what}", flush=True)
