"""The digests of the data's shards. ExampleGen leaves them beside the imported examples; readable without TFX."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

from data.files import file_system
from data.splits import SPLITS, shard_pattern

DIGESTS = "SHA256SUMS"
"""The file beside the imported examples, as sha256sum prints it."""
DIGEST = "data_digest"
"""The custom property of the examples: SHA-256 of the file SHA256SUMS."""
_THREADS = 8  # hashlib and the reading leave Python's lock, and an object store answers many at once
_PART = 2**18


def shard_digests(folder: str) -> str:
    """The SHA-256 of each shard of a data folder, as sha256sum prints them; sorted by name. It reads every byte."""
    files = file_system(folder)
    names = sorted(
        path.rpartition("/")[2] for split in SPLITS for path in files.glob(f"{folder}/{shard_pattern(split)}")
    )
    with ThreadPoolExecutor(_THREADS) as pool:
        digests = pool.map(sha256, (f"{folder}/{name}" for name in names))
        return "".join(f"{digest}  {name}\n" for digest, name in zip(digests, names, strict=True))


def digest_of(text: str) -> str:
    """SHA-256 of a text, in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256(path: str) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with file_system(path).GFile(path, "rb") as file:
        while content := file.read(_PART):
            digest.update(content)
    return digest.hexdigest()


def read_digests(uri: str) -> dict[str, str]:
    """The SHA-256 of each shard by its name, from the artifact of the examples at `uri`."""
    with file_system(uri).GFile(f"{uri}/{DIGESTS}", "r") as file:
        return {name: digest for digest, name in (line.split("  ", 1) for line in file.read().splitlines())}
