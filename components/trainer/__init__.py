"""The Trainer: run.py is the table of contents, the other files are its chapters."""
