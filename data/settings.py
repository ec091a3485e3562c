"""The base of all settings."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of settings: frozen, without unknown keys, without silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
