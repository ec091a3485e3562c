"""The infra check: component.py is the step, checks.py what a served model is asked, warmup.py its first requests."""

REASON = "reason"
"""The InfraBlessing's property that says why a model was not blessed."""
REPORT = "report.md"
"""The report's name beside the verdict."""
