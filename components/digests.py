"""The digests of the imported shards, as ExampleGen leaves them; readable without TFX."""

from __future__ import annotations

DIGESTS = "SHA256SUMS"
"""The file beside the imported examples, as sha256sum prints it."""
DIGEST = "data_digest"
"""The custom property of the examples: SHA-256 of the file SHA256SUMS."""


def parse_digests(text: str) -> dict[str, str]:
    """The SHA-256 of each shard by its name."""
    return {name: digest for digest, name in (line.split("  ", 1) for line in text.splitlines())}
