"""Files and folders that get their name when they are whole; until then they are hidden and bear their process's name.

The standard library and psutil are all that this module needs: `compat/` reaches it while the package is being imported.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Union
from uuid import uuid4

from recbole_hetcomp.files.process import Process

PathLike = Union[str, "os.PathLike[str]"]
END = ".tmp"  # of a file's temporary name; a folder's has none


class Unfinished(NamedTuple):
    """A file or folder that has not got its name yet."""

    path: Path
    name: str  # what it is to be
    owner: Process


def write(path: PathLike, content: str | bytes | memoryview) -> None:
    """Write a file; whatever happens, either the old content or all of the new one is there. Text is written as UTF-8.

    Raises:
        OSError: it cannot be written, `filename` says which; the old file is as it was.
    """
    with replacing(path) as temporary, open(temporary, "xb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """A temporary path in the folder of `path`; what is written there becomes `path` at the end, unless an error comes.

    Raises:
        OSError: as `write`
    """
    target = Path(path)
    temporary = target.with_name(_hidden(target.name) + END)
    try:
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(target)) from error
    finally:
        temporary.unlink(missing_ok=True)


def working_folder(target: Path) -> Path:
    """A new hidden folder beside `target`, for what is to become it.

    Raises:
        OSError: it cannot be made.
    """
    folder = target.with_name(_hidden(target.name))
    folder.mkdir()
    return folder


def _hidden(name: str) -> str:
    """A name that nothing else has: hidden, with this process's host, number and start."""
    own = Process.current()
    return f".{name}.{own.host}-{own.pid}-{own.started}-{uuid4().hex[:8]}"


def unfinished(folder: Path) -> list[Unfinished]:
    """What processes of this machine have not finished in `folder`, be they still at it or gone."""
    host = socket.gethostname()
    form = re.compile(rf"\.(?P<name>.+)\.{re.escape(host)}-(?P<pid>\d+)-(?P<started>\d+)-\w{{8}}(?:{re.escape(END)})?")
    found = ((path, form.fullmatch(path.name)) for path in (folder.iterdir() if folder.is_dir() else ()))
    return [
        Unfinished(path, match["name"], Process(host, int(match["pid"]), int(match["started"])))
        for path, match in found
        if match
    ]
