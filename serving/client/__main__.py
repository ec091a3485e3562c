"""`python -m serving.client`; see `--help`."""

import sys

from serving.client.cli import main

if __name__ == "__main__":
    sys.exit(main())
