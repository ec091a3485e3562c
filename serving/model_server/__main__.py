"""`python -m serving.model_server`; see `--help`."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from serving.errors import ConfigError
from serving.model_server.settings import parse

log = logging.getLogger(__name__)


def main() -> int:
    """Runs the server. The exit code is 0 after SIGTERM or SIGINT, 2 for flags or files that are not valid."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname).1s %(message)s")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        settings = parse()
        if settings.ignored_flags:
            log.warning("The stand-in ignores these flags: %s.", ", ".join(settings.ignored_flags))

        from serving.model_server.server import serve  # imports TensorFlow

        asyncio.run(serve(settings, _announce))
    except ModuleNotFoundError as error:
        print(f"error: {error}. The server needs the extra [server]: pip install '.[server]'.", file=sys.stderr)
        return 2
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _announce(address: str) -> None:
    log.info("This is a stand-in for TensorFlow Serving, for one machine. In production use tensorflow_model_server.")
    log.info("Running ModelServer at %s ...", address)


if __name__ == "__main__":
    sys.exit(main())
