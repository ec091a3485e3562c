"""The exceptions whose messages are written for the user."""


class UserError(Exception):
    """A mistake or a condition that the user can correct.

    The message is one sentence or two: what is wrong, where, and the remedy. The commands print it without a
    traceback and exit with a code other than 0.
    """


class SettingsError(UserError):
    """A profile, an override or an environment variable that cannot be used."""


class DataError(UserError):
    """The data on disk is not what it must be."""
