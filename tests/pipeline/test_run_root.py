"""The run root: one holder at a time, any metadata connection, and a screen that libraries cannot write to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from data.errors import SettingsError, UserError
from pipeline.config import Config, load
from pipeline.exit_codes import FAILED, PUSHED, WRONG_USE
from pipeline.local.cli import main
from pipeline.local.output import redirect_output
from pipeline.runs.root import RunRoot
from tests.conftest import MNIST, ROOT


def test_a_second_run_on_one_root_says_who_holds_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import sys, pathlib; from pipeline.config import Config; from pipeline.runs.root import RunRoot\n"
        f"with RunRoot(pathlib.Path({str(tmp_path)!r}), Config()).held(): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    assert main(["--run-root", str(tmp_path), "--set", f"data.path={MNIST}"]) == FAILED
    assert f"is held by process {holder.pid} since" in capsys.readouterr().err
    holder.communicate("")
    with RunRoot(tmp_path, Config()).held():
        assert (tmp_path / "lock").read_text().startswith(f"process {os.getpid()} since")


def test_a_root_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"), RunRoot(tmp_path / "file" / "root", Config()).held():
        pass


def test_metadata_is_sqlite_under_the_root_or_any_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert RunRoot(tmp_path, Config()).metadata().sqlite.filename_uri == str(tmp_path / "metadata.db")
    mysql = "mysql { host: 'db' port: 3306 database: 'm' user: 'u' password: '$MLMD_PASSWORD' }"
    root = RunRoot(tmp_path, load("default", [f'metadata.connection="{mysql}"']))
    with pytest.raises(SettingsError, match=r"names \$MLMD_PASSWORD, which is not set"):
        root.metadata()
    for password in ("secret", "pa$$word", "it's", 'a"b', "$HOME", "${X} }", "\\"):
        monkeypatch.setenv("MLMD_PASSWORD", password)
        assert (root.metadata().mysql.host, root.metadata().mysql.password) == ("db", password)
    with pytest.raises(SettingsError, match=r"not an ml_metadata\.ConnectionConfig"):
        RunRoot(tmp_path, load("default", ["metadata.connection=nonsense"])).metadata()


@pytest.mark.parametrize("and_screen", [False, True])
def test_what_libraries_write_goes_to_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], and_screen: bool
) -> None:
    log = tmp_path / "run.log"
    with redirect_output(log, and_screen) as screen:
        os.write(1, b"from C++ to standard output\n")
        os.write(2, b"from C++ to standard error\n")
        print("to the person", file=screen)
    print("afterwards")
    shown = "".join(capfd.readouterr())
    assert log.read_text() == "from C++ to standard output\nfrom C++ to standard error\n"
    assert "to the person" in shown and "afterwards" in shown
    assert ("from C++" in shown) is and_screen


def test_a_damaged_metadata_store_is_a_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "metadata.db").write_bytes(bytes(range(256)) * 20)
    assert main(["--run-root", str(tmp_path), "--set", f"data.path={MNIST}"]) == FAILED
    shown = "".join(capfd.readouterr())
    assert f"The ML Metadata store {tmp_path / 'metadata.db'} cannot be read: " in shown
    assert "file is not a database. Restore it from a backup" in shown and "CREATE TABLE" not in shown


def test_a_reader_that_goes_away_does_not_end_the_run(tmp_path: Path, small_mnist: Path) -> None:
    options = f"--run-root {tmp_path} --to ExampleGen --set data.path={small_mnist}"
    command = f"{sys.executable} -m pipeline.run_local {options} | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == PUSHED, done.stderr
    assert done.stdout.count("\n") == 1 and not done.stderr
    assert list(tmp_path.glob("artifacts/ExampleGen/examples/*"))


def test_steps_in_the_wrong_order_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--run-root", str(tmp_path), "--from", "Trainer", "--to", "Transform"])
    assert caught.value.code == WRONG_USE
    assert "--to Transform comes before --from Trainer" in capsys.readouterr().err


def test_a_wrong_connection_is_a_sentence_and_exit_code_2(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = ["--run-root", str(tmp_path), "--set", f"data.path={MNIST}", "metadata.connection=nonsense"]
    assert main(options) == WRONG_USE
    shown = "".join(capfd.readouterr())
    assert "metadata.connection is not an ml_metadata.ConnectionConfig" in shown and "Traceback" not in shown
