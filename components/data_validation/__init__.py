"""What data must look like, and the gate that stops the run when it does not."""

from data.errors import UserError


class DataGateError(UserError):
    """The data is not what the schema says; the message lists each anomaly."""
