"""A run's settings: one frozen, typed tree, read from a TOML profile and command-line overrides."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from components.data_validation.settings import Validation
from components.evaluator.settings import Gates
from components.infra_validator.settings import Infra
from components.pusher.settings import Serving
from components.trainer.settings import Augmentation, Model, Training
from data.days import days_problem, has_days
from data.errors import SettingsError
from data.example import ExampleSpec
from data.settings import Section
from pipeline.engines.settings import Beam
from pipeline.settings import Kubeflow, Metadata, Notify

PROFILES = Path(__file__).parent / "profiles"


class Data(ExampleSpec):
    """Where the examples lie, and the size of one. A relative path counts from the current directory."""

    path: str = Field(
        "data/mnist",
        description="folder of shards, or days: digits/{YYYY}-{MM}-{DD}, digits/{SPAN}, digits/{SPAN:4}/{VERSION}",
    )
    window: int = Field(7, ge=1, description="how many days are taken: the newest that are complete")
    golden: str = Field("", description="folder with a test split that never changes; every gate holds for it, too")

    @field_validator("path")
    @classmethod
    def _names_days(cls, path: str) -> str:
        if has_days(path) and (problem := days_problem(path)):
            raise ValueError(f"it {problem}")
        return path

    @property
    def example(self) -> ExampleSpec:
        return ExampleSpec.model_validate(self.model_dump(include=set(ExampleSpec.model_fields)))


class Config(Section):
    """The whole tree."""

    name: str = Field(
        "digit-rows",
        pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
        max_length=63,
        description="the pipeline's name in ML Metadata, and on Kubeflow, which takes no other names",
    )
    data: Data = Data()
    validation: Validation = Validation()
    model: Model = Model()
    training: Training = Training()
    augmentation: Augmentation = Augmentation()
    gates: Gates = Gates()
    infra: Infra = Infra()
    serving: Serving = Serving()
    metadata: Metadata = Metadata()
    notify: Notify = Notify()
    beam: Beam = Beam()
    kubeflow: Kubeflow = Kubeflow()

    @model_validator(mode="after")
    def _starts_from_days(self) -> Config:
        if self.training.warm_start and not has_days(self.data.path):
            raise ValueError(
                "training.warm_start needs days, so that it knows what is new: set data.path, as in"
                " digits/{YYYY}-{MM}-{DD}"
            )
        return self


def profiles() -> list[str]:
    """Names of the profiles that come with the project."""
    return sorted(path.stem for path in PROFILES.glob("*.toml"))


def load(profile: str, overrides: Sequence[str] = (), beam_args: Sequence[str] = ()) -> Config:
    """Reads a profile, by name or as a path to a TOML file, and applies `section.key=value` overrides.

    `beam_args` are added to the profile's; of an option given twice Beam takes the last.

    Raises:
        SettingsError: no such profile, TOML that does not parse, an unknown key, a value out of range.
    """
    path = Path(profile) if profile.endswith(".toml") else PROFILES / f"{profile}.toml"
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        what = "file" if profile.endswith(".toml") else "profile"
        raise SettingsError(
            f"There is no {what} {profile}: choose one of {', '.join(profiles())}, or name a .toml file that exists."
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not valid TOML: it is not UTF-8. Save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}.") from None
    except OSError as error:
        raise SettingsError(f"The profile {path} cannot be read: {error.strerror}.") from None
    config = _validated(tree, overrides, path.name)
    beam = config.beam.model_copy(update={"args": (*config.beam.args, *beam_args)})
    return config.model_copy(update={"beam": beam})


def with_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """`config` with `section.key=value` overrides.

    Raises:
        SettingsError: an unknown key, a value out of range, or values that do not fit together.
    """
    return _validated(config.model_dump(exclude_unset=True), overrides, "the settings")


def given_way(section: Section, prefix: str = "") -> list[str]:
    """A sentence for each default that is another one because of the settings that are given."""
    sentences = []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            sentences += given_way(value, f"{prefix}{name}.")
        elif name not in section.model_fields_set and value != field.default:
            sentences.append(f"{prefix}{name} is {value}: its default, {field.default}, does not fit what is set.")
    return sentences


def _validated(tree: dict[str, Any], overrides: Sequence[str], place: str) -> Config:
    for override in overrides:
        _apply(tree, override)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        sentences = (_sentence(problem, place, overrides) for problem in error.errors())
        raise SettingsError("\n".join(sentences)) from None


def _apply(tree: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    keys = name.strip().split(".")
    if not equals or not all(keys):
        raise SettingsError(f"The override {override!r} is not section.key=value, such as training.epochs=3.")
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise SettingsError(f"The override {override!r} goes through {key}, which is no section.")
    tree[keys[-1]] = parse_value(text)


def parse_value(text: str) -> Any:
    """The value that `text` is in TOML, or `text` itself if it is none."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def _sentence(problem: Any, profile: str, overrides: Sequence[str]) -> str:
    """One pydantic error as a sentence: the place, the key, what is wrong and what would be right."""
    where = ".".join(str(part) for part in problem["loc"])
    place = _place(where, profile, overrides)
    if problem["type"] == "extra_forbidden":
        section: Any = Config
        for part in problem["loc"][:-1]:
            section = section.model_fields[part].annotation
        return f"{place}: there is no setting {where}; this section has {', '.join(section.model_fields)}."
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] in ("model_type", "model_attributes_type"):
        message = "this is a section, with settings of its own"
    elif problem["type"] == "string_pattern_mismatch":
        message = f"it must match the pattern {problem['ctx']['pattern']}"
    value = "" if isinstance(problem["input"], dict) else f" = {problem['input']!r}"
    what = f"{where}{value}: " if where else ""
    return f"{place}: {what}{message[0].lower()}{message[1:]}."


def _place(where: str, profile: str, overrides: Sequence[str]) -> str:
    """The overrides that set `where` or a part of it; else the profile."""
    keys = {override: override.partition("=")[0].strip() for override in overrides}
    given = [
        override for override, key in keys.items() if f"{key}.".startswith(f"{where}.") or where.startswith(f"{key}.")
    ]
    return f"--set {' '.join(given)}" if given else profile
