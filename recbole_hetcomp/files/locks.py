"""Locks: one process at a time makes a thing, and the next one knows for whom it waits.

The lock of `<checkpoint_dir>/<name>` is the file `<checkpoint_dir>/locks/<name>.lock`, and `<name>.owner` beside it says who
holds it. The system frees the lock of a process that has ended; where its machine cannot be asked, `break_lock` takes it. A
process may hold several, in this order: a benchmark's result, the progress of a student, a trained model, a table; those of
a search and of student.yaml are held alone. So none waits in a circle.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import date, datetime
from logging import getLogger
from pathlib import Path
from time import sleep, time
from typing import NamedTuple

from filelock import FileLock, Timeout

from recbole_hetcomp import console
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.files.atomic import write
from recbole_hetcomp.files.process import Process

SECONDS = 0.2  # between two looks at a lock
PATIENCE = 10  # seconds for what takes another process milliseconds


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
            holder = cls(process, str(content["doing"]), float(content["since"]))
            str(holder)  # a time that is none
        except (OSError, ValueError, TypeError, LookupError, OverflowError):
            return None
        return holder

    def __str__(self) -> str:
        began = datetime.fromtimestamp(self.since)
        when = f"{began:%H:%M}" if began.date() == date.today() else f"{began:%d %B, %H:%M}"
        return f"process {self.process.pid} on {self.process.host}, which has {self.doing} since {when}"


@contextmanager
def held(path: Path, root: Path, doing: str, *, break_lock: bool = False) -> Iterator[None]:
    """While nobody else makes `path`. Waits for whoever does, and says so.

    Args:
        path: what is made
        root: the folder, such as `checkpoint_dir`, that holds `path` and all its locks
        doing: what others read of this process, such as `trained`
        break_lock: whether the lock of a process on another machine is taken from it

    Raises:
        UserError: the lock's files cannot be written, or their file system knows no locks.
    """
    try:
        files = _Files.of(path, root)
        files.lock.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(str(files.lock))
        if not _taken(lock, files, doing):
            _wait(lock, files, path, doing, break_lock)
    except NotImplementedError as error:  # of versions of filelock that put no marker file there
        raise UserError(
            f"checkpoint_dir: {str(root)!r} is on a file system without locks; choose another folder, or upgrade filelock"
        ) from error
    except OSError as error:
        raise UserError(
            f"checkpoint_dir: {str(root)!r} cannot be written ({error.strerror}); choose another folder"
        ) from error
    try:
        yield
    finally:
        holder = Holder.read(files.owner)
        if holder is None or holder.process == Process.current():  # it may have been taken by break_lock
            with suppress(OSError):
                files.owner.unlink()
        lock.release()


@contextmanager
def unless_held(path: Path, root: Path) -> Iterator[bool]:
    """Whether nobody makes `path` now; if so, nobody does inside. The arguments are those of `held`."""
    with _unless_held(_Files.of(path, root).lock) as free:
        yield free


def forget_the_gone(root: Path) -> None:
    """Remove the notes of processes of this machine that ended while they held a lock."""
    for note in (root / "locks").rglob("*.owner"):
        holder = Holder.read(note)
        if holder and holder.process.is_gone:
            with _unless_held(note.with_suffix(".lock")) as free, suppress(OSError):
                if free:
                    note.unlink()


class _Files(NamedTuple):
    """Of one lock."""

    lock: Path
    owner: Path  # of whom it says who he is

    @classmethod
    def of(cls, path: Path, root: Path) -> _Files:
        place = root / "locks" / path.relative_to(root)
        return cls(place.with_name(f"{place.name}.lock"), place.with_name(f"{place.name}.owner"))

    def guard(self) -> AbstractContextManager[object]:
        """While nobody breaks the lock, nor takes one with another's note beside it.

        Raises:
            Timeout: somebody has done so for `PATIENCE` seconds.
        """
        return FileLock(f"{self.lock}.break").acquire(timeout=PATIENCE)


@contextmanager
def _unless_held(file: Path) -> Iterator[bool]:
    if not file.exists():  # it was never locked
        yield True
        return
    lock = FileLock(str(file))
    try:
        lock.acquire(timeout=0)
    except (OSError, NotImplementedError):  # filelock's Timeout is an OSError
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _taken(lock: FileLock, files: _Files, doing: str) -> bool:
    """Take the lock if it is free, and write down who has it.

    Where somebody has left a note, a process that reads it may be about to break the lock. So the new owner writes its own
    under the guard, and has lost the lock if the note has changed.
    """
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    try:
        left = Holder.read(files.owner)
        if left is None:
            _note(files, doing)
            return True
        with files.guard():
            if Holder.read(files.owner) == left:
                _note(files, doing)
                return True
    except Timeout:
        pass
    except OSError:
        lock.release()
        raise
    lock.release()
    return False


def _note(files: _Files, doing: str) -> None:
    write(files.owner, json.dumps(asdict(Holder(Process.current(), doing, time()))))


def _wait(lock: FileLock, files: _Files, path: Path, doing: str, break_lock: bool) -> None:
    """Until the lock is ours. Each process that has it meanwhile is named once."""
    sleep(SECONDS)  # until its new owner has written down who it is
    while not _taken(lock, files, doing):
        holder = Holder.read(files.owner)
        if break_lock and holder and not holder.process.is_here and _broken(lock, files, path, holder, doing):
            return
        with console.stage(f"waiting for {holder or 'another process'} in {path}"):
            while Holder.read(files.owner) in (holder, None):  # None: it is just leaving, or the next one is just coming
                if _taken(lock, files, doing):
                    return
                sleep(SECONDS)


def _broken(lock: FileLock, files: _Files, path: Path, holder: Holder, doing: str) -> bool:
    """Take the lock from `holder`, a process of another machine, unless somebody has just done so.

    The lock goes before the note: of a kill in between a note is left, which keeps nobody out.
    """
    try:
        with files.guard():
            if Holder.read(files.owner) != holder:
                return False
            files.lock.unlink(missing_ok=True)
            getLogger().warning(f"break_lock: {path} is taken from {holder}")
            try:
                lock.acquire(timeout=0)
            except Timeout:  # whoever was quicker finds no note now, and tries again
                files.owner.unlink(missing_ok=True)
                return False
            _note(files, doing)
    except Timeout:  # of the guard
        return False
    except OSError:
        lock.release()
        raise
    return True
