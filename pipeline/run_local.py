"""python -m pipeline.run_local: the whole pipeline on this machine, with Beam."""

import sys
from pathlib import Path

if not __package__:  # run as a file, as TFX's command does it: the packages are beside this folder, not in it
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipeline.arguments import of_file
from pipeline.exit_codes import leave
from pipeline.local.cli import main

if __name__ == "__main__":
    leave(main(None if __package__ else of_file()))
