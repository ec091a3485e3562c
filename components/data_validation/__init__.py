"""What data must look like, and the gate that stops the run when it does not."""

from data.errors import UserError


class DataGateError(UserError):
    """The data does not match the schema; the message lists each anomaly."""
