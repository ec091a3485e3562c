"""The flags of tensorflow_model_server that the stand-in honours, and the files they name."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import grpc
from tensorflow_serving.config import model_server_config_pb2

from serving import protos, textformat
from serving.errors import ConfigError
from serving.model_server.batching import Parameters, parameters_of


@dataclass(frozen=True)
class Settings:
    """What the server was told. Seconds of 0 or less: look once."""

    host: str
    port: int
    rest_api_port: int
    model_name: str
    model_base_path: str
    model_config_file: Path | None
    model_config_file_poll_wait_seconds: float
    file_system_poll_wait_seconds: float
    allow_version_labels_for_unavailable_models: bool
    batching: Parameters | None
    metrics_path: str | None
    credentials: grpc.ServerCredentials | None
    session_parallelism: int
    channel_arguments: tuple[tuple[str, str | int], ...]

    def model_config(self) -> model_server_config_pb2.ModelServerConfig:
        """The models to serve: those of the config file, read anew, or the one of the flags.

        Raises:
            ConfigError: a file that cannot be read, or is no ModelServerConfig.
        """
        config = model_server_config_pb2.ModelServerConfig()
        if self.model_config_file is not None:
            return textformat.parse(self.model_config_file, config)
        config.model_config_list.config.add(
            name=self.model_name, base_path=str(Path(self.model_base_path).absolute()), model_platform="tensorflow"
        )
        return config


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """The settings of a command line.

    Raises:
        ConfigError: a flag that is not honoured, flags that contradict each other, or a file that does not parse.
    """
    parser = _parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        honoured = ", ".join(action.option_strings[0] for action in parser._actions[1:])
        raise ConfigError(
            f"This stand-in does not honour {unknown[0].partition('=')[0]}: leave it out, or use TensorFlow Serving."
            f" It honours {honoured}."
        )
    if bool(options.model_base_path) == bool(options.model_config_file):
        raise ConfigError("Name the models by --model_base_path (and --model_name) or by --model_config_file.")
    if options.batching_parameters_file and not options.enable_batching:
        raise ConfigError("--batching_parameters_file without --enable_batching would do nothing; give both.")
    monitoring = _read(options.monitoring_config_file, protos.MonitoringConfig()).prometheus_config
    if monitoring.enable and not options.rest_api_port:
        raise ConfigError("--monitoring_config_file serves its metrics at --rest_api_port; name that port too.")
    batching = _read(options.batching_parameters_file, protos.BatchingParameters())
    return Settings(
        host=options.host,
        port=options.port,
        rest_api_port=options.rest_api_port,
        model_name=options.model_name,
        model_base_path=options.model_base_path,
        model_config_file=Path(options.model_config_file) if options.model_config_file else None,
        model_config_file_poll_wait_seconds=options.model_config_file_poll_wait_seconds,
        file_system_poll_wait_seconds=options.file_system_poll_wait_seconds,
        allow_version_labels_for_unavailable_models=options.allow_version_labels_for_unavailable_models,
        batching=_batching(batching) if options.enable_batching else None,
        metrics_path=(monitoring.path or "/monitoring/prometheus/metrics") if monitoring.enable else None,
        credentials=_credentials(_read(options.ssl_config_file, protos.SSLConfig()), options.ssl_config_file),
        session_parallelism=options.tensorflow_session_parallelism,
        channel_arguments=_channel_arguments(options.grpc_channel_arguments),
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; --help lists the flags.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m serving.model_server",
        description="A stand-in for tensorflow_model_server on one machine; its flags by their names."
        " For production, use TensorFlow Serving.",
        allow_abbrev=False,
    )

    def flag(name: str, help: str, kind: Any = str, default: Any = "") -> None:
        boolean: dict[str, Any] = {"nargs": "?", "const": True} if kind is _boolean else {}
        parser.add_argument(f"--{name}", type=kind, default=default, help=help, metavar=_METAVARS[kind], **boolean)

    flag("port", "gRPC port; 0 takes a free one", _port, 8500)
    flag("host", "address to listen on (not tensorflow_model_server's; that one listens on all)", str, "localhost")
    flag("rest_api_port", "port of the metrics; this stand-in has no REST API", _port, 0)
    flag("model_name", "name of the model under --model_base_path", str, "default")
    flag("model_base_path", "folder of version folders")
    flag("model_config_file", "ModelServerConfig in text format")
    flag("model_config_file_poll_wait_seconds", "how often to read that file again; 0: never", float, 0)
    flag("file_system_poll_wait_seconds", "how often to look for new versions; 0: once", float, 1)
    flag("allow_version_labels_for_unavailable_models", "let labels name versions still to come", _boolean, False)
    flag("enable_batching", "compute requests together", _boolean, False)
    flag("batching_parameters_file", "BatchingParameters in text format")
    flag("monitoring_config_file", "MonitoringConfig in text format")
    flag("ssl_config_file", "SSLConfig in text format")
    flag("tensorflow_session_parallelism", "TensorFlow's threads for one request; 0: as many as cores", int, 0)
    flag("grpc_channel_arguments", "key=value,… for the gRPC server")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port, 0 to 65535")
    return int(text)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError(f"{text} is neither true nor false")
    return text.lower() in ("true", "1")


def _read(name: str, message: Any) -> Any:
    return textformat.parse(Path(name), message) if name else message


_METAVARS: dict[Any, str] = {_port: "PORT", _boolean: "true|false", str: "TEXT", int: "N", float: "SECONDS"}


def _batching(message: Any) -> Parameters:
    parameters = parameters_of(message, os.cpu_count() or 1)
    allowed = parameters.allowed_batch_sizes
    if message.pad_variable_length_inputs:
        raise ConfigError("This stand-in does not honour pad_variable_length_inputs; use TensorFlow Serving for it.")
    if parameters.max_batch_size < 1 or parameters.num_batch_threads < 1 or parameters.max_enqueued_batches < 1:
        raise ConfigError("max_batch_size, num_batch_threads and max_enqueued_batches must be at least 1.")
    if allowed and (list(allowed) != sorted(set(allowed)) or allowed[-1] != parameters.max_batch_size):
        raise ConfigError("allowed_batch_sizes must increase, and the last of them must equal max_batch_size.")
    return parameters


def _credentials(config: Any, file: str) -> grpc.ServerCredentials | None:
    if not file:
        return None
    if not config.server_key or not config.server_cert:
        raise ConfigError(f"{file} must hold the PEM texts server_key and server_cert.")
    if config.client_verify and not config.custom_ca:
        raise ConfigError(f"{file} asks for client certificates (client_verify) but has no custom_ca to check them by.")
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )


def _channel_arguments(text: str) -> tuple[tuple[str, str | int], ...]:
    arguments: list[tuple[str, str | int]] = []
    for item in text.split(",") if text else []:
        key, equals, value = item.partition("=")
        if not key or not equals:
            raise ConfigError(f"--grpc_channel_arguments takes key=value,…; {item!r} is neither.")
        # gRPC's numbers are C's int.
        number = value.removeprefix("-").isdecimal() and abs(int(value)) < 2**31
        arguments.append((key, int(value) if number else value))
    return tuple(arguments)
