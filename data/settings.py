"""The base of all settings."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of settings: frozen, without unknown keys, without silent conversions, without NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
