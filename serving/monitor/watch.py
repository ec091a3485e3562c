"""From a log and the folder of a model's versions to a verdict on each version."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from data.errors import UserError
from data.reference import IN_VERSION, Reference, read_reference
from serving.errors import printable
from serving.model_server.base_path import complete_versions
from serving.monitor.answers import Answers, read_answers
from serving.monitor.labels import Labels
from serving.monitor.served import Served
from serving.monitor.verdict import Verdict, judge

BASE_PATHS = Path("runs/serving_models")
"""Where the versions are, unless another folder is given."""


@dataclass(frozen=True)
class Watched:
    """What was found about one version. Without a reference there is no verdict, and `missing` is a sentence why."""

    model: str
    version: int | None
    answers: int
    missing: str = ""
    reference: Reference | None = None
    served: Served | None = None
    verdict: Verdict | None = None


class Versions:
    """The references of the versions in TensorFlow Serving's base paths.

    Args:
        folder: the base path of one model, or one version in it, or None: then each model's is in BASE_PATHS.
    """

    def __init__(self, folder: Path | None) -> None:
        if folder and not folder.is_dir():
            raise UserError(f"{folder} is no folder: --model names the folder of a model's versions, or one version.")
        folder = folder.absolute() if folder else None
        is_version = folder and folder.name.isdecimal() and (folder / "saved_model.pb").is_file()
        self._one = int(folder.name) if folder and is_version else None
        self._base = folder.parent if folder and self._one is not None else folder

    @property
    def name(self) -> str | None:
        """The name of the base path, which mostly is the model's."""
        return self._base.name if self._base else None

    def wants(self, found: Answers) -> bool:
        """Whether these answers are to be judged, and not those of another version than the one that was named."""
        return self._one is None or found.version == self._one

    def base(self, model: str) -> Path:
        """The base path of a model, whose name is empty in a table.

        Raises:
            UserError: nothing says where the versions are.
        """
        if self._base or model:
            return self._base or BASE_PATHS / model
        bases = [folder for folder in BASE_PATHS.glob("*") if folder.is_dir()]
        if len(bases) != 1:
            raise UserError("A table does not name the model: say with --model in which folder its versions are.")
        return bases[0]

    def reference(self, model: str, version: int | None) -> Reference | str:
        """The reference of a version, or why there is none.

        Raises:
            UserError: the file is damaged, or nothing says where the versions are.
        """
        base = self.base(model)
        if version is None:
            return "The log does not say which version answered."
        try:
            folder = complete_versions(base).get(version)
        except OSError:
            folder = None
        if folder is None:
            return f"There is no version {version} in {base}: say with --model where it is."
        reference = read_reference(str(folder / IN_VERSION))
        return reference or (
            f"{folder} has no {IN_VERSION}: this version was pushed without a reference, and cannot be watched."
            " The next version that the pipeline pushes has one."
        )


def watch(log: Path, versions: Versions, since: datetime | None, labels: Labels | None, drop: float) -> list[Watched]:
    """Judges each version that answered, by model and version.

    Args:
        log: a request log, or tables of `pipeline.predict`.
        versions: where the references are.
        since: the time of the first answer, or None.
        labels: true labels by the ids of requests, or None.
        drop: of the accuracy, a share; see `judge`.

    Raises:
        LogError, UserError: the log or a reference cannot be read, or the log is of other models.
    """
    served: dict[tuple[str, int | None], Served] = {}
    missing: dict[tuple[str, int | None], str] = {}
    answers: dict[tuple[str, int | None], int] = {}
    for found in filter(versions.wants, read_answers(log, since)):
        key = printable(found.model) or versions.base("").name, found.version
        if key not in answers:
            answers[key] = 0
            reference = versions.reference(found.model, found.version)
            if isinstance(reference, Reference):
                served[key] = Served(reference, labels)
            else:
                missing[key] = reference
        answers[key] += 1 if found.probabilities is None else len(found.probabilities)
        if key in served:
            served[key].add(found)
    models = {model for model, _ in answers}
    if versions.name and len(models) > 1:
        if versions.name not in models:
            raise UserError(
                f"{log} has answers of {', '.join(sorted(models))}, and --model names the folder {versions.name}: give"
                " the folder of one of these models."
            )
        answers = {key: count for key, count in answers.items() if key[0] == versions.name}
    ordered = sorted(answers, key=lambda key: (key[0], key[1] or 0))
    return [
        Watched(*key, answers[key], missing[key]) if key in missing else _judged(*key, served[key], drop)
        for key in ordered
    ]


def newest(found: list[Watched]) -> list[Watched]:
    """The newest version of each model: it decides, since a new training cannot improve an older one."""
    return list({watched.model: watched for watched in found}.values())


def _judged(model: str, version: int | None, served: Served, drop: float) -> Watched:
    verdict = judge(served.reference, *served.arrays(), drop)
    return Watched(model, version, served.answers, "", served.reference, served, verdict)
