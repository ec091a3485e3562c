"""The Trainer: run.py is the table of contents, each other file is a chapter."""
