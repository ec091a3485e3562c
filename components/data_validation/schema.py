"""The curated schema as a step: its text travels in the pipeline, so that no path has to exist elsewhere."""

from importlib.resources import files

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import v1 as tfx
from tfx.utils import io_utils

from data.features import LABEL


def curated_schema(classes: int) -> str:
    """The text of schema.pbtxt with the label's domain set to 0 … `classes` - 1."""
    schema = text_format.Parse(files(__package__).joinpath("schema.pbtxt").read_text(), schema_pb2.Schema())
    label = next(feature for feature in schema.feature if feature.name == LABEL)
    label.int_domain.max = classes - 1
    return text_format.MessageToString(schema)


@tfx.dsl.components.component
def CuratedSchema(
    schema: tfx.dsl.components.OutputArtifact[tfx.types.standard_artifacts.Schema],
    text: tfx.dsl.components.Parameter[str],
    code: tfx.dsl.components.Parameter[str],
) -> None:
    """Writes `text` as the Schema artifact the other steps read."""
    io_utils.write_string_file(f"{schema.uri}/schema.pbtxt", text)
