"""The search: processes that train trial after trial."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import sys
import time
import traceback
from contextlib import suppress
from typing import IO

import optuna
from optuna.trial import TrialState

from data.errors import SettingsError, UserError, storage_problem
from data.process import interruptible, quiet
from pipeline.exit_codes import FAILED, exit_code
from pipeline.tables import settings_text
from pipeline.tune.study import BACKUP, CUT, Search, finished, retry

LOG = "search.log"


def run(search: Search, jobs: int) -> int:
    """Works on the search in `jobs` processes, which share this machine's cores, until it has all its trials.

    Returns the exit code of the first process that failed, or 0.
    """
    spawn = multiprocessing.get_context("spawn")
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    processes = [spawn.Process(target=_process, args=(search, threads), daemon=True) for _ in range(jobs)]
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


def _process(search: Search, threads: int) -> None:
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
        work(search)
    except Exception as error:
        sys.exit(tell(error, search))


def work(search: Search) -> None:
    """Trains trial after trial, until the search has all and no other process has one to finish."""
    study, told = search.open_study(), False
    while finished(study) < search.trials:
        if owned := next_trial(search, study):
            trial, lock = owned
            with lock:
                _train(search, study, trial)
            continue
        if not told:
            print("Waits for the last trials of the other processes.", flush=True)
        told = True
        time.sleep(1)


def next_trial(search: Search, study: optuna.Study) -> tuple[optuna.Trial, IO[str]] | None:
    """A trial, and the lock that makes it one of this process; None if other processes have the last ones."""
    with search.alone():
        search.retry_lost(study)
        if finished(study, TrialState.RUNNING) >= search.trials:
            return None
        trial = study.ask()
        return trial, search.own(trial.number)


def _train(search: Search, study: optuna.Study, trial: optuna.Trial) -> None:
    """Trains one trial, and tells the study what came of it. If the training fails, the trial is queued again."""
    from pipeline.tune.trial import train_trial

    try:
        config = search.settings(trial)
        _say(trial, f"begins  {settings_text(trial.params)}")
        ended = study.tell(trial, train_trial(search, trial, config))
        result = f"{search.metric} {ended.value:.4f}, "
        if CUT in ended.user_attrs:
            result += f"cut {ended.user_attrs[CUT]}, "
    except (SettingsError, optuna.TrialPruned) as reason:
        ended = study.tell(trial, state=TrialState.PRUNED)
        result = f"pruned: {reason}, "
    except Exception:
        retry(study, study.trials[trial.number])
        raise
    _say(trial, f"{result}{ended.duration.total_seconds() if ended.duration else 0:.0f} s")
    shutil.rmtree(search.trial_folder(ended) / BACKUP, ignore_errors=True)


def tell(error: Exception, search: Search) -> int:
    """Prints what went wrong, and adds the traceback to the log. Returns the exit code."""
    with suppress(OSError), open(search.folder / LOG, "a") as file:
        traceback.print_exception(error, file=file)
    sentence = f"The search failed: {type(error).__name__}. The full error is in {search.folder / LOG}."
    if problem := storage_problem(error):
        sentence = f"The search {search.folder} cannot be written: {problem}."
    print(f"tune: {error if isinstance(error, UserError) else sentence}", file=sys.stderr)
    return exit_code(error)


def _say(trial: optuna.Trial, what: str) -> None:
    print(f"Trial {trial.number:>3}  {what}", flush=True)
