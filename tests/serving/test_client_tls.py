"""TLS and mutual TLS with certificates of the test."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from serving import errors
from serving.client import Client, Tls
from tests.serving.clients import Connect, numbered
from tests.serving.conftest import Fake, by_field, listening, refuse


class Authority:
    """A certificate authority, and PEM files in a folder: ca.pem, cert.pem and key.pem."""

    def __init__(self, folder: Path, identity: str, **validity: Any) -> None:
        folder.mkdir()
        authority = trustme.CA()
        issued = authority.issue_cert(identity, **validity)
        self.ca, self.cert, self.key = (folder / f"{name}.pem" for name in ("ca", "cert", "key"))
        authority.cert_pem.write_to_path(str(self.ca))
        issued.private_key_pem.write_to_path(str(self.key))
        self.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))

    def server(self, clients: Authority | None = None) -> grpc.ServerCredentials:
        pair = (self.key.read_bytes(), self.cert.read_bytes())
        return grpc.ssl_server_credentials(
            [pair], clients.ca.read_bytes() if clients else None, require_client_auth=clients is not None
        )


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, Authority]:
    """The authority of the server and the authority of its clients."""
    folder = tmp_path_factory.mktemp("tls")
    return Authority(folder / "server", "localhost"), Authority(folder / "client", "client@example.org")


def test_tls_and_mutual_tls(connect: Connect, authorities: tuple[Authority, Authority]) -> None:
    ours, clients = authorities
    with listening(Fake(by_field), credentials=ours.server()) as address:
        for tls in (Tls.from_files(ours.ca), Tls(ours.ca.read_bytes()), Tls.from_files(str(ours.ca))):
            with connect(address, tls=tls) as client:
                assert client.predict(numbered(4)).class_ids.tolist() == [4]
    mutual = Tls.from_files(ours.ca, clients.cert, clients.key)
    with listening(Fake(by_field), credentials=ours.server(clients)) as address, connect(address, tls=mutual) as client:
        assert client.predict(numbered(4)).class_ids.tolist() == [4]


def test_a_server_that_is_reached_by_another_name_than_its_certificate_s(
    connect: Connect, tmp_path: Path, fast_retries: None
) -> None:
    inside = Authority(tmp_path / "inside", "models.example.org")
    with listening(Fake(by_field), credentials=inside.server()) as address:
        for tls in (
            Tls.from_files(inside.ca, server_name="models.example.org"),
            Tls(inside.ca.read_bytes(), server_name="models.example.org"),
        ):
            with connect(address, tls=tls) as client:
                assert client.predict(numbered(4)).class_ids.tolist() == [4]
        for name in (None, "other.example.org"):
            with (
                connect(address, tls=Tls.from_files(inside.ca, server_name=name)) as client,
                pytest.raises(errors.UnavailableError),
            ):
                client.predict(numbered(4), timeout=1)


def test_who_is_not_trusted_is_unavailable_and_nothing_is_answered(
    authorities: tuple[Authority, Authority], fast_retries: None
) -> None:
    ours, clients = authorities
    one_way, mutual, clear = Fake(by_field), Fake(by_field), Fake(by_field)
    with (
        listening(one_way, credentials=ours.server()) as tls_address,
        listening(mutual, credentials=ours.server(clients)) as mutual_address,
        listening(clear) as clear_address,
        ThreadPoolExecutor(6) as threads,
    ):

        def call(address: str, tls: Tls | None) -> BaseException | None:
            with Client(address, tls=tls) as client:
                try:
                    client.predict(numbered(4))
                except errors.ServingError as error:
                    return error
            return None

        cases = [
            (tls_address, Tls.from_files(clients.ca)),
            (tls_address, None),
            (tls_address, Tls()),  # the authorities of the system
            (mutual_address, Tls.from_files(ours.ca)),
            (mutual_address, Tls.from_files(ours.ca, ours.cert, ours.key)),
            (clear_address, Tls.from_files(ours.ca)),
        ]
        found = list(threads.map(call, *zip(*cases, strict=True)))
    assert [type(error) for error in found] == [errors.UnavailableError] * 6
    assert all("Either both sides use TLS" in str(error) for error in found)
    assert not (one_way.requests or mutual.requests or clear.requests)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_the_cause_of_a_failed_handshake_is_told(
    host: str, connect: Connect, authorities: tuple[Authority, Authority], tmp_path: Path, fast_retries: None
) -> None:
    ours, clients = authorities
    old = Authority(tmp_path / "old", "localhost", not_before=datetime(2019, 1, 1), not_after=datetime(2020, 1, 1))
    other = Authority(tmp_path / "other", "models.example.org")
    for credentials, tls, cause in (
        (ours.server(), Tls.from_files(clients.ca), "unable to get local issuer certificate"),
        (old.server(), Tls.from_files(old.ca), "certificate has expired"),
        (other.server(), Tls.from_files(other.ca), "not valid for 'localhost'"),
        (None, Tls.from_files(ours.ca), r"the server does not use TLS \("),
        (ours.server(clients), Tls.from_files(ours.ca), "does it want another certificate of the client"),
    ):
        with (
            listening(Fake(by_field), credentials=credentials, host=host) as address,
            connect(address, tls=tls, timeout=2) as client,
            pytest.raises(errors.UnavailableError, match=f"UNAVAILABLE: TLS with {host.strip('[]')}: .*{cause}"),
        ):
            client.predict(numbered(1))


def test_a_busy_server_with_tls_has_its_own_words(
    connect: Connect, authorities: tuple[Authority, Authority], fast_retries: None
) -> None:
    ours, _ = authorities
    busy = Fake(refuse(grpc.StatusCode.UNAVAILABLE, "the queue is full"))
    with (
        listening(busy, credentials=ours.server()) as address,
        connect(address, tls=Tls.from_files(ours.ca)) as client,
        pytest.raises(errors.UnavailableError, match="the queue is full"),
    ):
        client.predict(numbered(1))


def test_pem_files_that_cannot_work_are_refused_before_anything_is_sent(
    authorities: tuple[Authority, Authority], tmp_path: Path
) -> None:
    ours, clients = authorities
    empty, garbage, cut = (tmp_path / name for name in ("empty.pem", "garbage.pem", "cut.pem"))
    empty.touch()
    garbage.write_bytes(bytes(range(256)))
    cut.write_bytes(ours.ca.read_bytes()[:200])
    for arguments, message in (
        ({"ca": tmp_path / "none.pem"}, r"cannot be used: .*No such file or directory: .*none\.pem"),
        ({"ca": tmp_path}, "cannot be used: .*Is a directory"),
        ({"cert": clients.cert}, "certificate and its key: give both or neither"),
        ({"key": clients.key}, "certificate and its key: give both or neither"),
        ({"ca": empty}, "The TLS ca must be PEM text with -----BEGIN CERTIFICATE-----"),
        ({"ca": garbage}, "The TLS ca must be PEM text"),
        ({"ca": clients.key}, "The TLS ca must be PEM text"),
        ({"cert": clients.key, "key": clients.cert}, "The TLS cert must be PEM text with -----BEGIN CERTIFICATE-----"),
        ({"cert": clients.cert, "key": clients.cert}, "The TLS key must be PEM text with -----BEGIN PRIVATE KEY-----"),
        ({"ca": cut}, r"cut\.pem cannot be used"),
        ({"cert": clients.cert, "key": ours.key}, "cannot be used: .*: the key is not that of the certificate"),
    ):
        with pytest.raises(errors.ConfigError, match=message):
            Tls.from_files(**arguments)
    # gRPC would end the process.
    with pytest.raises(errors.ConfigError, match="give both or neither"):
        Tls(cert=clients.cert.read_bytes())
    # gRPC would say that the connection was not ready.
    with pytest.raises(errors.ConfigError, match="the key is not that of the certificate"):
        Tls(cert=clients.cert.read_bytes(), key=ours.key.read_bytes())
