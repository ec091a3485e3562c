"""`python -m serving.model_server`; see `--help`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from data.errors import SettingsError
from serving.arguments import parse_port, parse_positive
from serving.errors import ConfigError, LogError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the server.

    The exit code is 0 after SIGTERM or SIGINT, 1 if it cannot start, 2 for a wrong command line.
    """
    options = _parse(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname).1s %(message)s")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        from serving.model_server.server import serve  # imports TensorFlow

        serve(options)
    except ModuleNotFoundError as error:
        print(f"error: {error}. The server needs the extra [server]: pip install '.[server]'.", file=sys.stderr)
        return 1
    except (ConfigError, LogError, SettingsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m serving.model_server",
        description="A stand-in for tensorflow_model_server on one machine, with some of its flags."
        " In production use TensorFlow Serving.",
        allow_abbrev=False,
    )
    parser.add_argument("--port", type=parse_port, default=8500, help="gRPC port; 0 is any (default %(default)s)")
    parser.add_argument(
        "--host", default="localhost", help="address to listen on, which tensorflow_model_server does not have"
    )
    parser.add_argument("--model_name", default="default", help="name of the model in --model_base_path")
    models = parser.add_mutually_exclusive_group(required=True)
    models.add_argument("--model_base_path", type=Path, metavar="FOLDER", help="folder with one folder per version")
    models.add_argument("--model_config_file", type=Path, metavar="FILE", help="ModelServerConfig in text format")
    parser.add_argument(
        "--file_system_poll_wait_seconds",
        type=parse_positive,
        default=1.0,
        metavar="SECONDS",
        help="time between two looks for new versions (default %(default)s)",
    )
    parser.add_argument(
        "--verify_key",
        type=Path,
        metavar="PEM",
        help="public key that must have signed a version, which tensorflow_model_server does not have",
    )
    parser.add_argument(
        "--request_log",
        type=Path,
        metavar="DIR",
        help="log Predict and Classify as serving.request_log does, which tensorflow_model_server does not have",
    )
    parser.add_argument("--ssl_config_file", type=Path, metavar="FILE", help="SSLConfig in text format")
    options, unsupported = parser.parse_known_args(arguments)
    if unsupported:
        flag = unsupported[0].partition("=")[0]
        parser.error(f"the stand-in does not support {flag}; leave it out, or use TensorFlow Serving")
    return options


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)  # without this TensorFlow and gRPC take seconds to end
