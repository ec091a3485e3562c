"""What runs, in which order, and where."""

STEPS = (
    "ExampleGen",
    "CuratedSchema",
    "StatisticsGen",
    "ExampleValidator",
    "DataGate",
    "Transform",
    "Trainer",
    "Baseline",
    "Evaluator",
    "InfraValidator",
    "Pusher",
)
"""The steps' ids in the order they run; here so that the command line knows them without loading TFX."""
