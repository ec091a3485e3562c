"""python -m pipeline.tune: a search over the Trainer's settings, judged on the eval split."""
