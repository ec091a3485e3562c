"""The infra check: component.py is the step, checks.py calls a served model, report.py has the verdict."""
