"""python -m pipeline.report: the report of any run."""

import sys

from pipeline.report.cli import main

if __name__ == "__main__":
    sys.exit(main())
