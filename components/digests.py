"""The digests of the imported shards, as ExampleGen leaves them; readable without TFX."""

from data.files import file_system

DIGESTS = "SHA256SUMS"
"""The file beside the imported examples, as sha256sum prints it."""
DIGEST = "data_digest"
"""The custom property of the examples: SHA-256 of the file SHA256SUMS."""


def read_digests(uri: str) -> dict[str, str]:
    """The SHA-256 of each shard by its name, from the artifact of the examples at `uri`."""
    with file_system(uri).GFile(f"{uri}/{DIGESTS}", "r") as file:
        return {name: digest for digest, name in (line.split("  ", 1) for line in file.read().splitlines())}
