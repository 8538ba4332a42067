"""From worker processes to the one that shows and logs: a file of events, one JSON line each.

A worker neither logs nor prints by itself, so that bars and lines of several do not mix. A file serves other machines too,
where they see the folder.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from recbole_hetcomp.console.events import display
from recbole_hetcomp.console.log import warnings_in_log
from recbole_hetcomp.console.screen import Screen

SECONDS = 0.1  # between two looks into the file


class _Relay(Screen, logging.FileHandler):
    """A worker's screen and its log: both go into the file."""

    def __init__(self, file: Path) -> None:
        logging.FileHandler.__init__(self, file, encoding="utf-8")

    def emit(self, record: logging.LogRecord) -> None:
        """A record of the log."""
        self._write("log", record.name, record.levelno, record.getMessage())

    def say(self, subject: str, text: str) -> None:
        self._write("say", subject, text)

    def begin(self, title: str, epochs: int | None) -> None:
        self._write("begin", title, epochs)

    def advance(self, title: str, epoch: int, score: str, note: str) -> None:
        self._write("advance", title, epoch, score, note)

    def end(self, title: str) -> None:
        self._write("end", title)

    def _write(self, *event: object) -> None:
        with Path(self.baseFilename).open("ab", buffering=0) as file:  # one write at the end of the file each
            file.write((json.dumps(event) + "\n").encode())


@contextmanager
def relayed(file: Path) -> Iterator[None]:
    """In a worker: what is told and logged inside goes to the process that follows `file`."""
    root, relay = logging.getLogger(), _Relay(file)
    handlers, level, screen = root.handlers[:], root.level, display.screen
    root.handlers[:], display.screen = [relay], relay
    root.setLevel(logging.INFO)
    try:
        with warnings_in_log():
            yield
    finally:
        root.handlers[:], display.screen = handlers, screen
        root.setLevel(level)
        relay.close()


@contextmanager
def follow(file: Path) -> Iterator[None]:
    """Show and log here what workers tell in `file`, inside and until all of it is told.

    What a worker has begun and not ended, such as one that was killed, ends with it. A line that cannot be read, such as one
    that was cut off, is logged as it is.
    """
    file.touch()
    over = Event()
    follower = Thread(target=_replay, args=(file, over), daemon=True)
    follower.start()
    try:
        yield
    finally:
        over.set()
        follower.join()


def _replay(file: Path, over: Event) -> None:
    running: set[str] = set()  # titles
    with file.open("rb") as lines:
        rest, last = b"", False
        while not last:
            last = over.wait(SECONDS)
            *whole, rest = (rest + lines.read()).split(b"\n")
            for line in whole:
                try:
                    kind, *values = json.loads(line)
                except (ValueError, TypeError):
                    logging.getLogger().info(f"a line of {file.name} cannot be read: {line!r}")
                    continue
                _tell(kind, *values)
                if kind == "begin":
                    running.add(values[0])
                elif kind == "end":
                    running.discard(values[0])
    for title in running:
        display.screen.end(title)


def _tell(kind: str, *values: str | int | bool | None) -> None:
    if kind == "log":
        name, level, text = values
        logging.getLogger(str(name)).log(int(level or 0), "%s", text)
    else:
        getattr(display if kind == "say" else display.screen, kind)(*values)
