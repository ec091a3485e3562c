"""Database servers for ML Metadata: MariaDB and PostgreSQL of this machine, in folders and on ports of their own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path

PASSWORD = "pa$$ word'"
"""Of the user mlmd. ML Metadata gets it from the environment."""
CONNECTIONS = {
    "mysql": "mysql {{ host: '127.0.0.1' port: {port} database: 'mlmd' user: 'mlmd' password: '$MLMD_PASSWORD' }}",
    "postgresql": "postgresql {{ host: '127.0.0.1' port: '{port}' dbname: 'mlmd' user: 'mlmd'"
    " password: '$MLMD_PASSWORD' }}",
}


def find(kind: str) -> str | None:
    """The path of the server's program; None if it is not installed."""
    if kind == "mysql":
        return shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin")
    return next(iter(sorted(glob("/usr/lib/postgresql/*/bin/postgres"))), None)


@contextmanager
def running(kind: str, folder: Path) -> Iterator[int]:
    """A server with an empty database `mlmd`, in `folder`; yields its port."""
    program = find(kind)
    assert program is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = _mariadb if kind == "mysql" else _postgresql
    with open(folder / "server.log", "w") as log:
        process = start(program, folder, port, log)
        try:
            yield port
        finally:
            process.send_signal(signal.SIGTERM if kind == "mysql" else signal.SIGINT)  # PostgreSQL ends its clients too
            process.wait(60)


def _mariadb(program: str, folder: Path, port: int, log: object) -> subprocess.Popen:
    user = ["--user=root"] if os.getuid() == 0 else []
    common = ["--no-defaults", f"--datadir={folder / 'data'}", *user]
    install = ["mariadb-install-db", *common, "--auth-root-authentication-method=normal", "--skip-test-db"]
    subprocess.run(install, check=True, stdout=log, stderr=log)
    place = [f"--socket={folder / 'socket'}", f"--port={port}", "--bind-address=127.0.0.1"]
    process = subprocess.Popen([program, *common, *place], stdout=log, stderr=log)
    quoted = PASSWORD.replace("'", "''")
    _repeat(
        [
            *("mariadb", "--no-defaults", "--user=root", f"--socket={folder / 'socket'}", "--execute"),
            f"create user 'mlmd'@'localhost' identified by '{quoted}'; create database mlmd;"
            " grant all on mlmd.* to 'mlmd'@'localhost'",
        ]
    )
    return process


def _postgresql(program: str, folder: Path, port: int, log: object) -> subprocess.Popen:
    (folder / "password").write_text(PASSWORD)
    other: list[str] = []
    if os.getuid() == 0:  # which PostgreSQL refuses
        other = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        shutil.chown(folder, "postgres")
        for parent in folder.parents[:-1]:
            if not parent.stat().st_mode & 1:
                parent.chmod(parent.stat().st_mode | 1)
    data = ["-D", str(folder / "data")]
    access = ["--username=mlmd", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}"]
    subprocess.run([*other, str(Path(program).with_name("initdb")), *data, *access], check=True, stdout=log, stderr=log)
    place = ["-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}"]
    process = subprocess.Popen([*other, program, *data, *place], stdout=log, stderr=log)
    psql = [str(Path(program).with_name("psql")), "--host=127.0.0.1", f"--port={port}", "--username=mlmd", "postgres"]
    _repeat([*psql, "--command=create database mlmd"], {**os.environ, "PGPASSWORD": PASSWORD})
    return process


def _repeat(command: list[str], environment: dict[str, str] | None = None) -> None:
    """Runs a command until the server, which is starting, answers it."""
    end = time.monotonic() + 60
    while subprocess.run(command, capture_output=True, env=environment, check=False).returncode:
        assert time.monotonic() < end, command
        time.sleep(0.2)
