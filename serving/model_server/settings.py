"""The flags of tensorflow_model_server that the stand-in supports, and the files they name."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import grpc

from serving import textformat
from serving.errors import ConfigError
from serving.protos import SSLConfig

# TensorFlow Serving's flags for speed, REST, monitoring and logging. The stand-in gives the same answers without them.
_SWITCHES = """
    enable_batching enable_grpc_healthcheck_service enable_model_warmup enable_per_model_batching_parameters
    enable_profiler flush_filesystem_caches remove_unused_fields_from_bundle_metagraph rest_api_enable_cors_support
    skip_initialize_tpu xla_cpu_compilation_enabled"""
_VALUES = """
    batching_parameters_file grpc_channel_arguments grpc_max_threads load_retry_interval_micros max_num_load_retries
    monitoring_config_file num_load_threads num_request_iterations_for_warmup num_tflite_interpreters_per_pool
    num_tflite_pools num_unload_threads per_process_gpu_memory_fraction rest_api_num_threads rest_api_port
    rest_api_timeout_in_ms tensorflow_inter_op_parallelism tensorflow_intra_op_parallelism
    tensorflow_session_config_file tensorflow_session_parallelism thread_pool_factory_config_file"""

_IGNORED = sorted((_SWITCHES + " " + _VALUES).split())


@dataclass(frozen=True)
class Settings:
    """The values of the flags. A poll interval of 0 seconds or less means: no poll."""

    host: str
    port: int
    model_name: str
    model_base_path: str
    model_config_file: Path | None
    model_config_file_poll_wait_seconds: float
    file_system_poll_wait_seconds: float
    allow_version_labels_for_unavailable_models: bool
    credentials: grpc.ServerCredentials | None
    ignored_flags: tuple[str, ...]

    def model_config(self) -> Any:
        """The ModelServerConfig: the current content of the config file, or the one model of the flags.

        Raises:
            ConfigError: the file cannot be read, or it is not a ModelServerConfig.
        """
        from tensorflow_serving.config import model_server_config_pb2  # imports TensorFlow

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
        ConfigError: an unsupported flag, a contradiction between flags, or a file that is not valid.
    """
    options, unsupported = _parser().parse_known_args(arguments)
    if unsupported:
        flag = unsupported[0].partition("=")[0]
        raise ConfigError(f"The stand-in does not support {flag}: see --help for its flags, or use TensorFlow Serving.")
    if bool(options.model_base_path) == bool(options.model_config_file):
        raise ConfigError("Give the models with --model_base_path (and --model_name) or with --model_config_file.")
    return Settings(
        host=options.host,
        port=options.port,
        model_name=options.model_name,
        model_base_path=options.model_base_path,
        model_config_file=Path(options.model_config_file) if options.model_config_file else None,
        model_config_file_poll_wait_seconds=options.model_config_file_poll_wait_seconds,
        file_system_poll_wait_seconds=options.file_system_poll_wait_seconds,
        allow_version_labels_for_unavailable_models=options.allow_version_labels_for_unavailable_models,
        credentials=_credentials(options.ssl_config_file),
        ignored_flags=tuple(f"--{name}" for name in _IGNORED if name in options),
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see --help for the flags.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m serving.model_server",
        description="A stand-in for tensorflow_model_server on one machine, with the same flags."
        " In production use TensorFlow Serving.",
        epilog=f"Accepted and ignored, with a warning: {', '.join(_IGNORED)}.",
        allow_abbrev=False,
    )

    def flag(name: str, help: str, kind: Any = str, default: Any = "") -> None:
        switch: dict[str, Any] = {"nargs": "?", "const": True} if kind is _boolean else {}
        parser.add_argument(f"--{name}", type=kind, default=default, help=help, metavar=_METAVARS[kind], **switch)

    flag("port", "gRPC port; 0 means a free port", _port, 8500)
    flag("host", "address to listen on; tensorflow_model_server has no such flag", str, "localhost")
    flag("model_name", "name of the model in --model_base_path", str, "default")
    flag("model_base_path", "folder with one folder per version")
    flag("model_config_file", "ModelServerConfig in text format")
    flag("model_config_file_poll_wait_seconds", "interval between two reads of that file; 0: no poll", float, 0)
    flag("file_system_poll_wait_seconds", "interval between two looks for new versions; 0: no poll", float, 1)
    flag("allow_version_labels_for_unavailable_models", "let labels name versions that are not loaded", _boolean, False)
    flag("ssl_config_file", "SSLConfig in text format")
    for name in _IGNORED:
        flag(name, argparse.SUPPRESS, _boolean if name in _SWITCHES.split() else str, argparse.SUPPRESS)
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port, 0 to 65535")
    return int(text)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError(f"{text} is neither true nor false")
    return text.lower() in ("true", "1")


_METAVARS: dict[Any, str] = {_port: "PORT", _boolean: "true|false", str: "TEXT", float: "SECONDS"}


def _credentials(file: str) -> grpc.ServerCredentials | None:
    if not file:
        return None
    config = textformat.parse(Path(file), SSLConfig())
    if not config.server_key or not config.server_cert:
        raise ConfigError(f"{file} must hold the PEM texts server_key and server_cert.")
    if config.client_verify and not config.custom_ca:
        raise ConfigError(f"{file} requires client certificates (client_verify) but has no custom_ca to check them.")
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )
