"""What a killed process leaves behind: its unfinished files and folders, which may be large."""

from __future__ import annotations

import shutil
from contextlib import suppress
from logging import getLogger
from pathlib import Path

from recbole_hetcomp.files.atomic import unfinished
from recbole_hetcomp.files.locks import unless_held


def remove_abandoned(folder: Path, root: Path) -> None:
    """Remove from `folder` what processes of this machine had not finished when they ended.

    Nothing is removed while anybody holds the lock of what it was to become: two containers may have one name, and none sees
    the other's processes. `root` is the folder that holds the locks.
    """
    for path, name, owner in unfinished(folder):
        if owner.is_gone:
            with unless_held(folder / name, root) as free:
                if free:
                    _remove(path)


def _remove(path: Path) -> None:
    getLogger().info(f"{path}: left by an interrupted process, removed")
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
