"""The local runner's settings."""

from pydantic import Field, field_validator

from data.settings import Section


class Notify(Section):
    """Who hears that a run of run_local has ended."""

    url: str = Field(
        "",
        description="where to POST the result as JSON; $VARIABLES are filled in from the environment, and the value of"
        " NOTIFY_TOKEN is sent as a bearer token. Empty: nowhere",
    )

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        if url and not url.startswith(("http://", "https://", "$")):
            raise ValueError("it must begin with http:// or https://, or with a $VARIABLE")
        return url
