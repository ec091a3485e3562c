"""python -m pipeline.run_local: the whole pipeline on this machine, with Beam."""

import sys

from pipeline.local.cli import main

if __name__ == "__main__":
    sys.exit(main())
