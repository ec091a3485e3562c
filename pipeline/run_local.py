"""python -m pipeline.run_local: the whole pipeline on this machine, with Beam."""

from pipeline.exit_codes import leave
from pipeline.local.cli import main

if __name__ == "__main__":
    leave(main())
