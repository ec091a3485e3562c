"""What a search found: the best settings as a profile, a table of the trials, and a page with pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from optuna.trial import FrozenTrial, TrialState

from data.files import write_file
from data.pages.html import templates
from data.pages.svg import FIRST, GRID, SECOND, Chart, canvas, finish
from pipeline.config import with_overrides
from pipeline.runs.settings import dump
from pipeline.tables import console, plain, section
from pipeline.tune.ranges import Range, override
from pipeline.tune.study import CUT, SPENT, Search

_SHOWN = 10
_ENOUGH = 10
"""Complete trials. Of random trials of three settings, 10 name the decisive one first in 11 of 12 searches."""


def write_report(search: Search, study: optuna.Study) -> None:
    """Writes `best.toml` and `report.html` into the search's folder, and prints the best trials, and where all is."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    complete = [trial for trial in trials if _complete(trial)]
    if not complete:
        print("\nNo trial came to its end: all were pruned or diverged. Give the search other ranges.")
        return
    ranked = sorted(complete, key=lambda trial: trial.value or 0.0, reverse=search.metric == "val_accuracy")
    rows = [
        {"trial": trial.number, search.metric: f"{trial.value:.4f}"}
        | {key: plain(value) for key, value in trial.params.items()}
        | ({"trained": _trained(trial)} if search.budget else {})
        for trial in ranked
    ]
    section(console(), f"The best of {len(trials)} trials", rows[:_SHOWN])
    if importance := importances(study):
        print("\nImportance  " + "  ".join(f"{key} {share:.0%}" for key, share in importance.items()))
    profile, page = search.folder / "best.toml", search.folder / "report.html"
    write_file(profile_text(search, ranked[0]), profile)
    # The page contains everything that it shows, and no script.
    template = templates("pipeline.tune").get_template("page.html.j2")
    charts = [history_chart(search, trials), *(range_chart(search, trials, found) for found in search.ranges)]
    pruned = len(trials) - len(rows)
    write_file(template.render(search=search, rows=rows, pruned=pruned, importance=importance, charts=charts), page)
    print(f"Profile     {profile}")
    print(f"            python -m pipeline.run_local --run-root {search.folder.parents[1]} --profile {profile}")
    print(f"Report      {page}")
    print(f"TensorBoard tensorboard --logdir {search.folder / 'trials'}")


def importances(study: optuna.Study) -> dict[str, float]:
    """How much each setting decides, as shares, the largest first. Empty for too few trials to say.

    PED-ANOVA compares the better half of the trials with all of them. Its usual tenth would be one or two trials.
    """
    if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < _ENOUGH:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.5)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def profile_text(search: Search, best: FrozenTrial) -> str:
    """The settings of a trial as a TOML profile: those that are not the defaults, and without secrets."""
    config = with_overrides(search.config, [override(key, value) for key, value in best.params.items()])
    head = (
        f"# Trial {best.number} of {search.folder.name}: {search.metric} {best.value:.4f} on the validation examples."
    )
    if search.budget:
        head += f"\n# It trained {_trained(best)}."
    if CUT in best.user_attrs:
        head += " With this profile it trains to the end."
    return "\n".join([head, *toml(dump(config, given=True)), ""])


def toml(tree: Mapping[str, Any], section: str = "") -> Iterator[str]:
    """The lines of a TOML document. JSON's literals are TOML's."""
    values = {key: value for key, value in tree.items() if not isinstance(value, Mapping)}
    if section and values:
        yield f"\n[{section}]"
    for key, value in values.items():
        yield f"{_key(key)} = {json.dumps(value, ensure_ascii=False)}"
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from toml(value, f"{section}.{_key(key)}" if section else _key(key))


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def history_chart(search: Search, trials: Sequence[FrozenTrial]) -> Chart:
    """Each trial's value, and the best so far."""
    numbers = [trial.number for trial in trials]
    with _axes(search, "trial") as axes:
        _points(axes, numbers, trials)
        values = np.array([trial.value if _complete(trial) else np.nan for trial in trials], np.float64)
        so_far = (np.fmin if search.metric == "val_loss" else np.fmax).accumulate(values)
        axes.step(numbers, so_far, where="post", color=SECOND, label="best so far")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        title = "Each trial, and the best so far"
        return finish(axes, "chart-history", title, f"{title}.")


def range_chart(search: Search, trials: Sequence[FrozenTrial], found: Range) -> Chart:
    """The trials' values over one of the settings."""
    values = [trial.params[found.key] for trial in trials]
    with _axes(search, found.key) as axes:
        _points(axes, [str(value) for value in values] if found.choices else values, trials)
        if found.log:
            axes.set_xscale("log")
            _plain(axes.xaxis)
        title = f"Each trial, by {found.key}"
        return finish(axes, f"chart-{found.key.replace('.', '-')}", title, f"{title}.")


@contextmanager
def _axes(search: Search, label: str) -> Iterator[Axes]:
    """Axes for the trials' values."""
    with canvas(230) as (axes,):
        axes.grid(axis="y")
        axes.set(xlabel=label, ylabel=search.metric)
        if search.metric == "val_loss":
            axes.set_yscale("log")
            _plain(axes.yaxis)
        yield axes


def _points(axes: Axes, places: Sequence[Any], trials: Sequence[FrozenTrial]) -> None:
    for complete, colour, marker, label in ((False, GRID, "x", "pruned"), (True, FIRST, "o", "complete")):
        chosen = [
            (place, trial.value)
            for place, trial in zip(places, trials, strict=True)
            if _complete(trial) == complete and trial.value is not None
        ]
        if chosen:
            axes.plot(*zip(*chosen, strict=True), marker, color=colour, markersize=5, label=label)


def _plain(axis: Axis) -> None:
    """Labels a logarithmic axis with plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _trained(trial: FrozenTrial) -> str:
    cut = f", cut {trial.user_attrs[CUT]}" if CUT in trial.user_attrs else ""
    return f"{trial.user_attrs[SPENT]:.0f} s{cut}"


def _complete(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.COMPLETE
