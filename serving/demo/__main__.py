"""`python -m serving.demo`; see `--help`."""

import sys

from serving.demo.cli import main

if __name__ == "__main__":
    sys.exit(main())
