"""python -m pipeline.history: what the recorded runs did, where a version comes from, tidying up, rolling back."""

import sys

from pipeline.history.cli import main

if __name__ == "__main__":
    sys.exit(main())
