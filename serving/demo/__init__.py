"""A web page on which the served model reads a digit row by row. `python -m serving.demo`; see `--help`."""
