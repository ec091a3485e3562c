"""The Evaluator: config.py says what is measured and gated, component.py runs it, report.py reads the verdict."""
