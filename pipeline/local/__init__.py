"""The local runner: the command, the run root, the run itself, and what it prints."""
