"""Locks: one process at a time makes a thing, and the next one knows for whom it waits.

The lock of `<folder>/<name>` is the file `<folder>/.<name>.lock`, and `.<name>.owner` beside it says who holds it. The
system frees the lock of a process that has ended; where its machine cannot be asked, `break_lock` takes it. A process may
hold several, in this order: a benchmark's result, the progress of a student, a trained model, a table. So none waits in a
circle.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import date, datetime
from logging import getLogger
from pathlib import Path
from time import sleep, time

from filelock import FileLock, Timeout

from recbole_hetcomp import console
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.files.atomic import write
from recbole_hetcomp.files.process import Process

SECONDS = 0.2  # between two looks at a lock


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, and for what.

    Attributes:
        process: that holds it
        doing: what it has done since then, such as `trained`
        since: when it took the lock, in seconds of the system's clock
    """

    process: Process
    doing: str
    since: float

    @classmethod
    def read(cls, path: Path) -> Holder | None:
        """From the file beside a lock; None where there is none that can be read."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            owner = content["process"]
            process = Process(str(owner["host"]), int(owner["pid"]), int(owner["started"]))
            return cls(process, str(content["doing"]), float(content["since"]))
        except (OSError, ValueError, TypeError, LookupError):
            return None

    def __str__(self) -> str:
        began = datetime.fromtimestamp(self.since)
        when = f"{began:%H:%M}" if began.date() == date.today() else f"{began:%d %B, %H:%M}"
        return f"process {self.process.pid} on {self.process.host}, which has {self.doing} since {when}"


@contextmanager
def held(path: Path, doing: str, *, break_lock: bool = False) -> Iterator[None]:
    """While nobody else makes `path`. Waits for whoever does, and says so.

    Args:
        path: what is made; its folder exists
        doing: what others read of this process, such as `trained`
        break_lock: whether the lock of a process on another machine is taken from it

    Raises:
        UserError: the lock's files cannot be written.
    """
    try:
        lock = FileLock(str(_lock_file(path)))
        if not _taken(lock, path, doing):
            _wait(lock, path, doing, break_lock)
    except OSError as error:
        raise UserError(
            f"checkpoint_dir: {str(path.parent)!r} cannot be written ({error.strerror}); choose another folder"
        ) from error
    try:
        yield
    finally:
        forget_owner(path)
        lock.release()


@contextmanager
def unless_held(path: Path) -> Iterator[bool]:
    """Whether nobody makes `path` now; if so, nobody does inside."""
    if not _lock_file(path).exists():  # it was never locked
        yield True
        return
    lock = FileLock(str(_lock_file(path)))
    try:
        lock.acquire(timeout=0)
    except OSError:  # filelock's Timeout is one
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def abandoned(folder: Path) -> list[Path]:
    """What processes of this machine were making in `folder` when they ended, and nobody has made since."""
    owners = [(path, Holder.read(path)) for path in folder.glob(".*.owner")]
    return [path.with_name(path.stem[1:]) for path, holder in owners if holder and holder.process.is_gone]


def forget_owner(path: Path) -> None:
    """Remove the file that says who makes `path`."""
    with suppress(OSError):
        _owner_file(path).unlink()


def _lock_file(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _owner_file(path: Path) -> Path:
    return path.with_name(f".{path.name}.owner")


def _taken(lock: FileLock, path: Path, doing: str) -> bool:
    """Take the lock if it is free, and write down who has it."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    try:
        write(_owner_file(path), json.dumps(asdict(Holder(Process.current(), doing, time()))))
    except OSError:
        lock.release()
        raise
    return True


def _wait(lock: FileLock, path: Path, doing: str, break_lock: bool) -> None:
    """Until the lock is ours. Each process that has it meanwhile is named once."""
    sleep(SECONDS)  # until its new owner has written down who it is
    while not _taken(lock, path, doing):
        holder = Holder.read(_owner_file(path))
        if break_lock and holder and not holder.process.is_here and _broken(lock, path, doing):
            return
        with console.stage(f"waiting for {holder or 'another process'} in {path}"):
            while Holder.read(_owner_file(path)) == holder:
                if _taken(lock, path, doing):
                    return
                sleep(SECONDS)


def _broken(lock: FileLock, path: Path, doing: str) -> bool:
    """Take the lock from a process of another machine, unless somebody here has just done so."""
    with FileLock(f"{lock.lock_file}.break"):
        holder = Holder.read(_owner_file(path))
        if holder is None or holder.process.is_here:
            return False
        getLogger().warning(f"break_lock: {path} is taken from {holder}")
        _lock_file(path).unlink(missing_ok=True)
        return _taken(lock, path, doing)
