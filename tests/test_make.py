"""`make` takes the newest TFX that fits the machine, and says what is missing where none does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT


def make(folder: Path, target: str, glibc: str, pythons: tuple[str, ...], *options: str) -> tuple[int, str]:
    """The exit code and the output of make, on a machine with this glibc and these Pythons and nothing installed."""
    tools = {"getconf": f"echo glibc {glibc}"}
    for version in pythons:
        tools[f"python{version}"] = f"[ $1 = -c ] && echo {version}"
    (folder / "bin").mkdir()
    for name, line in tools.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / "bin" / name).chmod(0o755)
    for name in ("make", "sh", "cut", "sort", "uname", "rm", "awk", "touch", "ls"):
        (folder / "bin" / name).symlink_to(shutil.which(name) or name)
    done = subprocess.run(
        ["make", *options, target, f"VENV={folder / 'venv'}"],
        cwd=ROOT,
        env={"PATH": str(folder / "bin")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("glibc", "pythons", "python", "tfx"),
    [
        ("2.36", ("3.11",), "3.11", "1.16"),
        ("2.36", ("3.13", "3.12", "3.11"), "3.11", "1.16"),
        ("2.39", ("3.12",), "3.12", "1.21"),
        ("2.41", ("3.13", "3.12", "3.11"), "3.13", "1.21"),
        ("2.41", ("3.14", "3.11"), "3.11", "1.16"),
        ("2.100", ("3.12",), "3.12", "1.21"),
    ],
)
def test_the_newest_tfx_that_fits(glibc: str, pythons: tuple[str, ...], python: str, tfx: str, tmp_path: Path) -> None:
    code, printed = make(tmp_path, "setup", glibc, pythons, "--dry-run")
    assert code == 0, printed
    assert f"with TFX {tfx}, because of Python {python} and glibc {glibc}" in printed
    assert f"--requirement requirements-tfx-{tfx}.lock" in printed


def test_a_named_python_overrides_the_choice(tmp_path: Path) -> None:
    _, printed = make(tmp_path, "setup", "2.41", ("3.13", "3.11"), "--dry-run", f"PYTHON={tmp_path}/bin/python3.11")
    assert "with TFX 1.16, because of Python 3.11" in printed


@pytest.mark.parametrize(
    ("glibc", "pythons", "words"),
    [
        ("2.36", (), "no Python was found: TFX takes Python 3.11 with glibc 2.36."),
        ("2.36", ("3.13",), "no Python was found: TFX takes Python 3.11 with glibc 2.36."),
        ("2.41", ("3.14",), "no Python was found: TFX takes Python 3.13 3.12 3.11 with glibc 2.41."),
    ],
)
def test_a_machine_without_a_python_that_fits(glibc: str, pythons: tuple[str, ...], words: str, tmp_path: Path) -> None:
    code, printed = make(tmp_path, "run", glibc, pythons)
    assert code == 2 and words in printed and "apt-get install python3 python3-venv" in printed
    assert not (tmp_path / "venv").exists()


def test_a_named_python_that_does_not_fit(tmp_path: Path) -> None:
    python = f"{tmp_path}/bin/python3.13"
    code, printed = make(tmp_path, "run", "2.36", ("3.13", "3.11"), f"PYTHON={python}")
    assert code == 2 and f"{python} is Python 3.13: TFX takes Python 3.11 with glibc 2.36." in printed


def test_serve_takes_the_model_of_another_profile(tmp_path: Path) -> None:
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / ".ready").touch()
    code, printed = make(tmp_path, "serve", "2.36", ("3.11",), "MODEL=mnist-none")
    assert code == 2 and "runs/serving_models/mnist-none holds no model yet" in printed
