"""The connection to ML Metadata: SQLite under the run root, or a server that `metadata.connection` names."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import ml_metadata as mlmd
from google.protobuf import text_format
from google.protobuf.message import Message
from ml_metadata.proto import metadata_store_pb2

from data.errors import SettingsError, UserError, storage_problem
from data.process import quiet
from data.settings import fill_in

_SECONDS = 5.0
"""The time that a server has to accept a connection."""
_NEEDED = {"mysql": ("host", "database", "user"), "postgresql": ("host", "dbname", "user")}
_PORTS = {"mysql": 3306, "postgresql": 5432}
# ML Metadata has no reason for these: its library for MySQL gives none, and that for PostgreSQL only logs it.
_REFUSED = ("mysql_real_connect failed", "connection pointer is NULL", "Access denied")


def connection_config(text: str, file: Path) -> metadata_store_pb2.ConnectionConfig:
    """The connection that the setting `text` gives, with the variables of the environment; SQLite in `file` for "".

    Raises:
        SettingsError: text that is not a ConnectionConfig, a field that is missing, or a variable that is not set.
    """
    connection = metadata_store_pb2.ConnectionConfig()
    if not text:
        connection.sqlite.filename_uri = str(file)
        connection.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        return connection
    try:
        text_format.Parse(text, connection)
    except text_format.ParseError as error:
        raise SettingsError(
            f"metadata.connection is not an ml_metadata.ConnectionConfig in text format: {str(error).rstrip('.')}."
        ) from None
    _fill_in_all(connection)
    kind = connection.WhichOneof("config") or ""
    server: Any = getattr(connection, kind, None)
    elsewhere = any(getattr(server, name, "") for name in ("hostaddr", "socket"))
    missing = [n for n in _NEEDED.get(kind, ()) if not getattr(server, n) and not (n == "host" and elsewhere)]
    if missing:
        raise SettingsError(f"metadata.connection gives {kind} no {missing[0]}: add {missing[0]}: '…'.")
    if kind == "postgresql" and server.password:  # ML Metadata puts it into libpq's connection string as it is
        escaped = server.password.replace("\\", "\\\\").replace("'", "\\'")
        server.password = f"'{escaped}'"
    return connection


def connect(connection: metadata_store_pb2.ConnectionConfig) -> mlmd.MetadataStore:
    """Opens the store, and makes its tables where there are none.

    Raises:
        UserError: the server does not answer or refuses the user, or the file is damaged.
    """
    kind = connection.WhichOneof("config")
    place = _place(connection)
    if kind in _PORTS:
        _check_server(place)
    try:
        with quiet():
            return mlmd.MetadataStore(connection)
    except Exception as error:
        if storage_problem(error):
            raise
        reason = " ".join(re.sub(r"^Error when executing query: | query: .*", "", str(error), flags=re.DOTALL).split())
        if kind not in _PORTS:
            raise UserError(
                f"The ML Metadata store {place} cannot be read: {reason[:200]}."
                " Restore it from a backup, or use another --run-root."
            ) from error
        if any(words in reason for words in _REFUSED):
            reason = f"it refused the user {getattr(connection, kind).user}"
        raise UserError(
            f"The ML Metadata server {place} cannot be used: {reason[:200]}. Check the user, the password, the database"
            " and the user's rights in metadata.connection."
        ) from error


def _place(connection: metadata_store_pb2.ConnectionConfig) -> str:
    """The file, or host:port, or the socket."""
    kind = connection.WhichOneof("config") or "fake_database"
    if kind not in _PORTS:
        return getattr(connection.sqlite, "filename_uri", "") or kind
    server = getattr(connection, kind)
    host = getattr(server, "hostaddr", "") or server.host
    return getattr(server, "socket", "") or f"{host}:{server.port or _PORTS[kind]}"


def _check_server(place: str) -> None:
    """Raises a UserError unless a server accepts connections at `place`."""
    try:
        if place.startswith("/"):
            with socket.socket(socket.AF_UNIX) as end:
                end.settimeout(_SECONDS)
                end.connect(place)
        else:
            host, _, port = place.rpartition(":")
            socket.create_connection((host, int(port)), timeout=_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"No ML Metadata server answers at {place}: {reason}. Start it, or correct metadata.connection."
        ) from None


def _fill_in_all(message: Message) -> None:
    """Fills in every string of `message`, after it was parsed: a value may hold any character."""
    for field, value in message.ListFields():
        if isinstance(value, str):
            setattr(message, field.name, fill_in(value, "metadata.connection"))
        elif isinstance(value, Message):
            _fill_in_all(value)
