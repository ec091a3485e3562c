"""The record of runs: the run root, the view of ML Metadata, and what a run is. Runners write it, others read it."""
