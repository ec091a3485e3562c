"""The log as its users see it: requests go in, and never wait for the disk."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import mmap
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from serving.errors import LogError
from serving.request_log.interceptors import AsyncLogInterceptor, LogInterceptor
from serving.request_log.writer import COUNTS, HEAD, NAMES

MAX_MB, MAX_DAYS = 1000.0, 30.0
_WAITING_BYTES = 64 * 2**20
_PIPE_BYTES = 2**20
_RESTART_SECONDS = 1.0
_CLOSE_SECONDS = 10.0

log = logging.getLogger(__name__)


class Counts(NamedTuple):
    """What became of the answered requests: written, left out by the sampling, or dropped; the rest is on its way."""

    answered: int
    logged: int
    sampled_out: int
    dropped: int

    def __str__(self) -> str:
        return (
            f"Answered {self.answered:,} requests: logged {self.logged:,}, sampled out {self.sampled_out:,},"
            f" dropped {self.dropped:,}."
        )


class RequestLog:
    """Writes requests and their answers to files, in a process of its own. Threads may share it.

    Nothing waits for the disk: when it stalls, at most 64 MiB of requests wait in memory, and further ones are
    dropped and counted. When the process of the caller is killed, what has gone into the pipe, at most 1 MiB, is
    still written.

    Args:
        folder: the folder of the log, of mode 0700. See `serving.request_log.files` for the files in it.
        sample: the share of the requests to log. A request is in or out by its id alone: the same id has the same
            fate everywhere.
        redact: leave out the inputs, and keep the answers.
        max_mb: how many MB (10⁶ bytes) the files may have. Above that, the oldest are removed.
        max_days: after how many days a file is removed.

    Raises:
        LogError: the folder cannot be made or written.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        sample: float = 1.0,
        redact: bool = False,
        max_mb: float = MAX_MB,
        max_days: float = MAX_DAYS,
    ) -> None:
        self._folder, self._limit = Path(folder).absolute(), int(sample * 2**64)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self._folder).close()
        except OSError as error:
            raise LogError(
                f"{folder} cannot hold a request log: {error.strerror}. Give a folder that can be written."
            ) from None
        self._flags = [f"--sampling_rate={sample}", f"--max_mb={max_mb}", f"--max_days={max_days}"]
        self._flags += ["--redact"] * redact
        self._answered = self._sampled_out = self._dropped = self._waiting = 0
        # The entries that are not wholly in the pipe, and how many bytes of the first one are.
        self._backlog: deque[tuple[bytes, ...]] = deque()
        self._sent, self._closing, self._closed = 0, False, False
        self._changed = threading.Condition()
        self._shared = os.memfd_create("counters of the request log")
        os.truncate(self._shared, COUNTS.size)
        self._counters = mmap.mmap(self._shared, COUNTS.size)
        self._start()
        self._thread = threading.Thread(target=self._send_backlog, name="request log", daemon=True)
        self._thread.start()

    def add(self, method: str, request: bytes, response: bytes, request_id: str | None = None) -> None:
        """Logs an answered request. It takes some microseconds and raises nothing.

        Args:
            method: "Predict" or "Classify".
            request: the serialized request message.
            response: the serialized response message.
            request_id: the id that the caller gave, such as the metadata `x-request-id`; without it one is made.
        """
        name = (request_id or uuid.uuid4().hex).encode()
        sampled = self._limit >= 2**64 or self._fate(name) < self._limit
        with self._changed:
            self._answered += 1
            if not sampled:
                self._sampled_out += 1
                return
            head = HEAD.pack(NAMES.index(method), time.time_ns(), len(name), len(request), len(response)) + name
            size = len(head) + len(request) + len(response)
            if self._closing or (self._backlog and self._waiting + size > _WAITING_BYTES):
                self._dropped += 1
                return
            self._backlog.append((head, request, response))
            self._waiting += size
            if len(self._backlog) == 1:
                self._send()
            if self._backlog:
                self._changed.notify()

    def drop(self) -> None:
        """Counts an answered request that cannot be logged."""
        with self._changed:
            self._answered += 1
            self._dropped += 1

    def interceptor(self, library: Any) -> Any:
        """An interceptor that logs what a client is answered, for the channels of `library`: grpc or grpc.aio."""
        return (AsyncLogInterceptor if library is grpc.aio else LogInterceptor)(self.add)

    @property
    def counts(self) -> Counts:
        """The counts until now. After `close`, everything that was not logged has been dropped."""
        written, failed = COUNTS.unpack_from(self._counters)
        with self._changed:
            rest = self._answered - self._sampled_out - written
            return Counts(self._answered, written, self._sampled_out, rest if self._closed else self._dropped + failed)

    def close(self) -> None:
        """Writes what waits and completes the file, within ten seconds. Further requests are dropped."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify()
        end = time.monotonic() + _CLOSE_SECONDS
        self._thread.join(_CLOSE_SECONDS)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(end - time.monotonic(), 0.1))
        self._closed = True

    def __enter__(self) -> RequestLog:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @staticmethod
    def _fate(name: bytes) -> int:
        return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest())

    def _start(self) -> None:
        """Starts the process that writes."""
        reading, self._pipe = os.pipe()
        with contextlib.suppress(OSError):  # a user may have too many pipes of this size
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        os.set_blocking(self._pipe, False)
        root = str(Path(__file__).parents[2])
        command = [sys.executable, "-c", "from serving.request_log.writer import main; main()", str(self._folder)]
        try:
            self._process = subprocess.Popen(
                [*command, f"--counters={self._shared}", *self._flags],
                stdin=reading,
                stdout=subprocess.DEVNULL,
                pass_fds=[self._shared],
                env={**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])},
            )
        finally:
            os.close(reading)

    def _send(self) -> None:
        """Puts into the pipe what fits."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            while self._backlog:
                self._sent += os.writev(self._pipe, _rest(self._backlog[0], self._sent))
                size = sum(map(len, self._backlog[0]))
                if self._sent == size:
                    self._backlog.popleft()
                    self._waiting, self._sent = self._waiting - size, 0

    def _send_backlog(self) -> None:
        """Sends what did not fit into the pipe at once, and starts the process again if it has ended."""
        while True:
            with self._changed:
                while not self._backlog and not self._closing:
                    self._changed.wait()
                if not self._backlog:
                    os.close(self._pipe)
                    os.close(self._shared)
                    return
            poll = select.poll()
            poll.register(self._pipe, select.POLLOUT)
            events = dict(poll.poll()).get(self._pipe, 0)
            if events & select.POLLERR:
                log.error("The process of the request log ended with exit code %d.", self._process.wait())
                time.sleep(_RESTART_SECONDS)
            with self._changed:
                if events & select.POLLERR:
                    os.close(self._pipe)
                    self._sent = 0
                    self._start()
                self._send()


def _rest(parts: tuple[bytes, ...], sent: int) -> list[Any]:
    """The parts without their first `sent` bytes."""
    rest: list[Any] = []
    for part in parts:
        if sent < len(part):
            rest.append(memoryview(part)[sent:] if sent else part)
        sent = max(sent - len(part), 0)
    return rest
