"""What each step does: one file per step of the chain, in the order of pipeline.definition."""
