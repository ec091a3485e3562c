"""A training host that is not the chief: it trains with the chief and runs no other step."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from data.process import interruptible
from pipeline.exit_codes import INTERRUPTED, PUSHED, exit_code
from pipeline.local.output import redirect_output

if TYPE_CHECKING:
    from components.trainer.cluster import Host


def find_worker(verbose: bool) -> Host | None:
    """This host, if TF_CONFIG lists several and another one is the chief; the chief runs the pipeline.

    Raises:
        SettingsError: TF_CONFIG cannot be used.
    """
    with redirect_output(Path(os.devnull), verbose):
        from components.trainer.cluster import this_host

        host = this_host()
    return None if host is None or host.is_chief else host


def run_worker(host: Host, verbose: bool) -> int:
    """Waits for the chief's Trainer and trains with it; does not use the run root's lock or metadata."""
    from components.trainer.cluster import launch
    from components.trainer.run import train

    name = f"Worker {host.index} of {host.count - 1}"
    with redirect_output(Path(os.devnull), verbose) as screen:
        print(f"{name}: waits for the Trainer of the chief {host.chief}.", file=screen, flush=True)
        try:
            with interruptible():
                launch(train, None)
        except KeyboardInterrupt:
            print(f"{name}: interrupted.", file=screen)
            return INTERRUPTED
        except Exception as error:
            print(f"{name}: {error}", file=screen)
            return exit_code(error)
        print(f"{name}: the training has ended; the chief continues alone.", file=screen)
        return PUSHED
