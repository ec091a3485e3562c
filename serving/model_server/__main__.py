"""`python -m serving.model_server`; see `--help`."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from serving.errors import ConfigError


def main() -> int:
    """Runs the server; the exit code is 0 after a stop by signal, 2 for what it cannot be told to do."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname).1s %(message)s")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        from serving.model_server.server import serve
        from serving.model_server.settings import parse

        asyncio.run(serve(parse(), _announce))
    except ModuleNotFoundError as error:
        print(f"error: {error}. The server needs the extra [server]: pip install '.[server]'.", file=sys.stderr)
        return 2
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _announce(address: str) -> None:
    logging.info("A stand-in for TensorFlow Serving, for one machine; production is tensorflow_model_server.")
    logging.info("Running ModelServer at %s ...", address)


if __name__ == "__main__":
    sys.exit(main())
