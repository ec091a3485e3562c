"""TFRecord files without TensorFlow.

A record is its length (uint64), a checksum of the length, its bytes, and a checksum of the bytes, little-endian; see
https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import google_crc32c

from serving.errors import LogError

_HEAD, _CHECKSUM = struct.Struct("<QI"), struct.Struct("<I")


def frame(record: bytes) -> bytes:
    """The record as it lies in a file."""
    length = struct.pack("<Q", len(record))
    return b"".join((length, _CHECKSUM.pack(_masked(length)), record, _CHECKSUM.pack(_masked(record))))


def read_records(path: Path) -> Iterator[bytes]:
    """Yields the records of a file that is not compressed.

    Raises:
        LogError: the file cannot be read, or a record is damaged or cut off. The records before it were yielded.
    """
    end = 0
    for end, record in _records(path):
        if record is None:
            raise LogError(
                f"{path} is no TFRecord file, or damaged or cut off at byte {end}. Leave the file out, or keep the"
                f" records before: truncate --size={end} FILE."
            )
        yield record


def whole_bytes(path: Path) -> int:
    """How many bytes of a file are whole records, up to the first one that is damaged or cut off.

    Raises:
        LogError: the file cannot be read.
    """
    return max((end for end, _ in _records(path)), default=0)


def _records(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """Each record with its end in bytes; at last None with the end of the one before, if bytes follow it."""
    end = 0
    try:
        with path.open("rb") as file:
            while head := file.read(_HEAD.size):
                record = None
                if len(head) == _HEAD.size and _masked(head[:8]) == _HEAD.unpack(head)[1]:
                    length = _HEAD.unpack(head)[0]
                    record, tail = file.read(length), file.read(_CHECKSUM.size)
                    if len(tail) < _CHECKSUM.size or _CHECKSUM.unpack(tail)[0] != _masked(record):
                        record = None
                if record is None:
                    yield end, None
                    return
                end += _HEAD.size + length + _CHECKSUM.size
                yield end, record
    except OSError as error:
        raise LogError(f"{path} cannot be read: {error.strerror}.") from None


def _masked(data: bytes) -> int:
    """The CRC-32C, rotated and moved as TFRecords have it."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF
