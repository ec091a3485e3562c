"""A step that writes the curated schema. The text is an execution property, so the step reads no file."""

from google.protobuf import text_format
from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.utils import io_utils

from data.example import ExampleSpec, schema


def schema_text(spec: ExampleSpec) -> str:
    """The curated schema of `spec` in text format."""
    return text_format.MessageToString(schema(spec))


@component
def CuratedSchema(
    schema: OutputArtifact[standard_artifacts.Schema],
    text: Parameter[str],
) -> None:
    """Writes `text` as the Schema artifact that the other steps read."""
    io_utils.write_string_file(f"{schema.uri}/schema.pbtxt", text)
