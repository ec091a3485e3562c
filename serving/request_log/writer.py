"""The process that writes a request log's files. `RequestLog` starts it and sends it the requests through a pipe.

It ends when the other end of the pipe is closed, also by a SIGKILL of the process there. What was sent until then is
in complete files.
"""

from __future__ import annotations

import argparse
import logging
import mmap
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from serving.request_log.files import Files
from serving.request_log.record import METHODS, encode_record

HEAD = struct.Struct("<BqIQQ")
"""The index of the method in NAMES, the time in ns, and the lengths of the id, the request and the response."""
NAMES = tuple(METHODS.values())
COUNTS = struct.Struct("<QQ")
"""The shared counters: how many requests were written, and how many could not be."""
_READ_BYTES = 2**20
_RETRY_SECONDS = 1.0

log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """A request with its answer, as it comes through the pipe."""

    method: str
    time_ns: int
    request_id: str
    request: bytes
    response: bytes


class Writer:
    """Writes entries to files and counts them. A disk that refuses is tried again every second.

    Args:
        options: the values of the flags.
        counters: at least `COUNTS.size` bytes, in which a predecessor has counted already.
    """

    def __init__(self, options: argparse.Namespace, counters: mmap.mmap) -> None:
        self._options, self._counters = options, counters
        self._files: Files | None = None
        self._written, self._failed = COUNTS.unpack_from(counters)
        self._retry, self._refused = 0.0, False

    def run(self, pipe: int) -> None:
        """Writes what comes until the other end of the pipe is closed."""
        for entry in entries(pipe):
            if time.monotonic() < self._retry:
                self._count(failed=entry is not None)
                continue
            try:
                self._write(entry)
            except OSError as error:
                self._count(failed=entry is not None)
                self._tell(error)
                self._retry = time.monotonic() + _RETRY_SECONDS
            else:
                self._count(written=entry is not None)
                if entry and self._refused:
                    self._refused = False
                    log.info("The request log is written again.")
        try:
            if self._files is not None:
                self._files.close()
        except OSError as error:
            self._tell(error)

    def _write(self, entry: Entry | None) -> None:
        if self._files is None:
            self._files = Files(self._options.folder, self._options.max_mb, self._options.max_days)
        if entry is None:
            return self._files.complete_old()
        record = encode_record(
            **entry._asdict(), sampling_rate=self._options.sampling_rate, redact=self._options.redact
        )
        return self._files.write(record, entry.time_ns)

    def _tell(self, error: OSError) -> None:
        if not self._refused:
            log.error("The request log in %s cannot be written: %s.", self._options.folder, error.strerror)
        self._refused = True

    def _count(self, *, written: bool = False, failed: bool = False) -> None:
        self._written, self._failed = self._written + written, self._failed + failed
        COUNTS.pack_into(self._counters, 0, self._written, self._failed)


def entries(pipe: int) -> Iterator[Entry | None]:
    """Yields the entries of a pipe until its other end is closed; None after each second without one."""
    buffer = bytearray()
    while True:
        while len(buffer) >= HEAD.size:
            method, time_ns, *lengths = HEAD.unpack_from(buffer)
            end = HEAD.size + sum(lengths)
            if len(buffer) < end:
                break
            content = bytes(memoryview(buffer)[HEAD.size : end])
            del buffer[:end]
            first, second = lengths[0], lengths[0] + lengths[1]
            name = content[:first].decode()
            yield Entry(NAMES[method], time_ns, name, content[first:second], content[second:])
        if not select.select([pipe], [], [], 1.0)[0]:
            yield None
        elif data := os.read(pipe, _READ_BYTES):
            buffer += data
        else:
            return


def main() -> None:
    """Writes until the end of stdin."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--counters", type=int, required=True, help="the descriptor of the file with the counters")
    parser.add_argument("--sampling_rate", type=float, required=True)
    parser.add_argument("--redact", action="store_true")
    parser.add_argument("--max_mb", type=float, required=True)
    parser.add_argument("--max_days", type=float, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname).1s %(message)s")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with mmap.mmap(options.counters, COUNTS.size) as counters:
        Writer(options, counters).run(sys.stdin.fileno())
