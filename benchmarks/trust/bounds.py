"""Bounds to what the reading of a file may take: memory and time."""

from __future__ import annotations

import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 30  # after which a file counts as one that hangs


class Late(BaseException):
    """A reading takes too long; no reader takes it for an error of the file."""


@contextmanager
def bounded(n_bytes: int) -> Iterator[None]:
    """Within it, this process can ask for so much more memory than it has now, where the system can tell (Linux)."""
    if sys.platform != "linux":
        yield
        return
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def in_time() -> Iterator[None]:
    """Within it, Late comes after SECONDS."""

    def late(*_: object) -> None:
        raise Late(f"not read within {SECONDS} s")

    previous = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
