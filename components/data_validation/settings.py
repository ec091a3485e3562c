"""The data gate's settings."""

from pydantic import Field

from data.settings import Section


class Validation(Section):
    """What the data must have, beyond the schema."""

    min_class_examples: int = Field(1, ge=0, description="examples of each class in each split")
