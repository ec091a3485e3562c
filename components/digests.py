"""The digests of the data's shards. ExampleGen leaves them beside the imported examples; readable without TFX."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from data.files import file_system, sha256
from data.shards import Shard, day_of, imported_name

DIGESTS = "SHA256SUMS"
"""The file beside the imported examples, as sha256sum prints it."""
DIGEST = "data_digest"
"""The custom property of the examples: SHA-256 of the file SHA256SUMS."""
DAYS = "days"
"""The custom property of the examples: their days, as `data.days.to_text` has them."""
_THREADS = 8  # hashlib and the reading leave Python's lock, and an object store answers many at once


def shard_digests(shards: Iterable[Shard]) -> str:
    """The SHA-256 of each shard, as sha256sum prints them; sorted by name. It reads every byte."""
    paths = {shard.name: shard.path for shard in shards}
    names = sorted(paths)
    with ThreadPoolExecutor(_THREADS) as pool:
        digests = pool.map(sha256, (paths[name] for name in names))
        return "".join(f"{digest}  {name}\n" for digest, name in zip(digests, names, strict=True))


def day_digests(files: Mapping[str, str]) -> dict[str, str]:
    """What identifies the content of each day, by its label; empty for a data folder.

    Args:
        files: the SHA-256 of each shard by its name, as `read_digests` gives them.
    """
    days: dict[str, list[str]] = defaultdict(list)
    for name, digest in sorted(files.items()):
        if day := day_of(name):
            days[day].append(f"{digest}  {name.rpartition('/')[2]}\n")
    return {day: digest_of("".join(lines)) for day, lines in days.items()}


def learned_days(provenance: Mapping[str, Any]) -> dict[str, str]:
    """What identifies the content of each day that a pushed model has learned, from the provenance of its version."""
    return day_digests((provenance.get("data") or {}).get("files") or {})


def days_of_files(uri: str) -> dict[str, str]:
    """The day of each imported file by its name, from the artifact of the examples at `uri`."""
    return {imported_name(name): day_of(name) for name in read_digests(uri)}


def digest_of(text: str) -> str:
    """SHA-256 of a text, in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_digests(uri: str) -> dict[str, str]:
    """The SHA-256 of each shard by its name, from the artifact of the examples at `uri`."""
    with file_system(uri).GFile(f"{uri}/{DIGESTS}", "r") as file:
        return parse_digests(file.read())


def parse_digests(text: str) -> dict[str, str]:
    """The SHA-256 of each shard by its name, from what `shard_digests` returns."""
    return {name: digest for digest, name in (line.split("  ", 1) for line in text.splitlines())}
