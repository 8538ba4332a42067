"""Where the processes that this one starts look for modules: where this one does, and nowhere else.

Until a new process has been given the `sys.path` of the one that started it, Python looks into the working directory first.
A file `numpy.py` that happens to lie there would be run.
"""

from __future__ import annotations

import os
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path

from recbole_hetcomp.config.errors import UserError

SWITCH = "PYTHONSAFEPATH"  # read by Python 3.11 and later


@contextmanager
def shared_search_path() -> Iterator[None]:
    """Around the start of processes: none imports what only the working directory has.

    Raises:
        UserError: Python is older than 3.11, and a file of the working directory would hide a module.
    """
    if sys.version_info < (3, 11):
        refuse_hidden_modules(Path.cwd())
    before = os.environ.get(SWITCH)
    os.environ[SWITCH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[SWITCH]
        else:
            os.environ[SWITCH] = before


def refuse_hidden_modules(folder: Path) -> None:
    """Raise a UserError where a module in `folder` would be imported in the place of another one.

    Where this process itself looks into `folder`, as for a script in it, that is what the user has chosen.
    """
    paths = [path for path in sys.path if Path(path).resolve() != folder.resolve()]
    if len(paths) < len(sys.path):
        return
    for module in pkgutil.iter_modules([str(folder)]):
        if PathFinder.find_spec(module.name, paths) is not None:
            raise UserError(
                f"nproc, teacher_workers: on Python before 3.11 the processes would run {module.name!r} of "
                f"{str(folder)[:150]!r} in the place of the module of this name; rename it, or work in another folder"
            )
