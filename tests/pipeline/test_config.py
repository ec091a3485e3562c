"""Profiles and overrides: what is right gets in, typed; what is wrong gets one sentence."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from components.trainer.settings import TrainerSettings, Training
from data.errors import SettingsError
from pipeline.config import Config, given_way, load, profiles, with_overrides
from pipeline.exit_codes import WRONG_USE
from pipeline.local.cli import main


@pytest.mark.parametrize("profile", profiles())
def test_every_profile_loads(profile: str) -> None:
    assert isinstance(load(profile), Config)


def test_the_first_article_is_reproduced_to_the_letter() -> None:
    config = load("article-simple-rnn")
    assert (config.model.cell, config.model.units, config.model.activation) == ("simple_rnn", 128, "relu")
    assert (config.model.layers, config.model.bidirectional, config.model.dropout) == (1, False, 0)
    training = config.training
    assert (training.optimizer, training.learning_rate, training.schedule) == ("adam", 1e-3, "constant")
    assert (training.epochs, training.batch_size, training.validation_split) == (10, 128, 0.2)
    assert (training.patience, training.clip_norm) == (0, 0)


def test_overrides_are_typed_and_win() -> None:
    config = load("default", ["training.epochs=3", "model.cell=gru", "model.bidirectional=true", "data.path=a b"])
    assert (config.training.epochs, config.model.cell, config.model.bidirectional) == (3, "gru", True)
    assert config.data.path == "a b"
    assert load("default", [], ["--runner=X"]).beam.args == ("--runner=X",)


def test_a_default_gives_way_to_what_is_set_and_says_so(tmp_path: Path) -> None:
    config = load("default", ["training.epochs=1"])
    assert (config.training.epochs, config.training.warmup_epochs) == (1, 0.5)
    assert given_way(config) == ["training.warmup_epochs is 0.5: its default, 1.0, does not fit what is set."]
    longer = with_overrides(config, ["training.epochs=2"])
    assert longer.training.warmup_epochs == 1.0 and given_way(longer) == []
    assert Training.model_validate_json(config.training.model_dump_json()).warmup_epochs == 0.5  # as the Trainer has it
    for profile in profiles():
        assert given_way(load(profile)) == []
    with pytest.raises(SettingsError, match=r"warmup_epochs = 1\.0 must be smaller than epochs = 1"):
        load("default", ["training.epochs=1", "training.warmup_epochs=1"])
    (tmp_path / "mine.toml").write_text("[training]\nwarmup_epochs = 1\n")
    with pytest.raises(SettingsError, match=r"warmup_epochs = 1\.0 must be smaller than epochs = 1"):
        load(str(tmp_path / "mine.toml"), ["training.epochs=1"])


def test_nothing_changes_after_the_start() -> None:
    with pytest.raises(ValidationError):
        load("default").training.epochs = 3  # type: ignore[misc]


def test_what_the_trainer_is_given_survives_the_trip_through_json() -> None:
    config = load("article-lstm")
    settings = TrainerSettings(
        example=config.data.example, model=config.model, training=config.training, backup_dir="b", hardware="1 x 1 CPU"
    )
    assert TrainerSettings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.epoch=3", "there is no setting training.epoch; this section has epochs, batch_size"),
        ("trainings.epochs=3", "there is no setting trainings; this section has name, data"),
        ("training.epochs=0", "training.epochs = 0: input should be greater than or equal to 1"),
        ("training.epochs=three", "training.epochs = 'three': input should be a valid integer"),
        ("training.epochs=2.5", "training.epochs = 2.5: input should be a valid integer"),
        ("model.cell=transformer", "model.cell = 'transformer': input should be 'lstm', 'gru' or 'simple_rnn'"),
        ("model.dropout=1.0", "model.dropout = 1.0: input should be less than 1"),
        ("gates.accuracy=98", "gates.accuracy = 98: input should be less than or equal to 1"),
        ("training.warmup_epochs=7", "warmup_epochs = 7.0 must be smaller than epochs = 7"),
        ("training.validation_split=1.0", "training.validation_split = 1.0: input should be less than 1"),
        ("serving.model_name=a/b", "serving.model_name = 'a/b': it must match the pattern"),
        ("serving.model_name=..", "serving.model_name = '..': it must match the pattern"),
        (f"serving.model_name={64 * 'a'}", "string should have at most 63 characters"),
        (f"name={64 * 'a'}", "string should have at most 63 characters"),
        ("name=digits-", "name = 'digits-': it must match the pattern"),
        ("training.learning_rate=inf", "training.learning_rate = inf: input should be a finite number"),
        ("training.seed=-1", "training.seed = -1: input should be greater than or equal to 0"),
        ("training.epochs=99999999999999999999", "training.epochs = 99999999999999999999: "),
        ("training=3", "training = 3: this is a section, with settings of its own"),
        ("training", "is not section.key=value"),
        ("training.epochs.x=1", "goes through epochs, which is no section"),
    ],
)
def test_a_wrong_override_is_a_sentence_and_exit_code_2(
    override: str, words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["--run-root", str(tmp_path / "root"), "--set", override]) == WRONG_USE
    error = capsys.readouterr().err
    assert words in error and "Traceback" not in error
    assert not (tmp_path / "root").exists()


def test_a_wrong_profile_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"There is no profile nothing: choose one of article-lstm, .*default"):
        load("nothing")
    (tmp_path / "broken.toml").write_text("[training\n")
    with pytest.raises(SettingsError, match=r"broken\.toml is not valid TOML"):
        load(str(tmp_path / "broken.toml"))
    (tmp_path / "mine.toml").write_text("[training]\nepochs = -1\n")
    with pytest.raises(SettingsError, match=r"mine\.toml: training\.epochs = -1"):
        load(str(tmp_path / "mine.toml"))
    with pytest.raises(SettingsError, match=r"There is no file nope\.toml: choose one of"):
        load("nope.toml")
    (tmp_path / "utf16.toml").write_text("[training]\n", encoding="utf-16")
    with pytest.raises(SettingsError, match=r"utf16\.toml is not valid TOML: it is not UTF-8"):
        load(str(tmp_path / "utf16.toml"))


def test_a_profile_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "bom.toml").write_text("[training]\nepochs = 3\n", encoding="utf-8-sig")
    assert load(str(tmp_path / "bom.toml")).training.epochs == 3


def test_a_reproduction_never_replaces_the_served_model() -> None:
    names = [load(profile).serving.model_name for profile in profiles()]
    assert len(set(names)) == len(names)
