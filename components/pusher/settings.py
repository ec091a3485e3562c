"""The Pusher's settings."""

from pydantic import Field

from data.settings import Section


class Serving(Section):
    """How callers find the pushed model."""

    model_name: str = Field(
        "mnist",
        pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*$",
        max_length=63,
        description="TF Serving's model name, a folder",
    )
    sign_key: str = Field(
        "",
        description="P-256 key that signs each version: path of a PEM file, or $NAME of an environment variable that"
        " holds the path or the PEM. Empty: versions are not signed",
    )
