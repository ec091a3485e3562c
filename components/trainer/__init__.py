"""The Trainer: run.py has run_fn, each other file has one part of the training."""
