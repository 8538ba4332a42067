"""What a killed process leaves behind: its unfinished files and folders, which may be large."""

from __future__ import annotations

import shutil
from contextlib import suppress
from logging import getLogger
from pathlib import Path

from recbole_hetcomp.files.atomic import unfinished
from recbole_hetcomp.files.locks import is_free


def remove_abandoned(folder: Path) -> None:
    """Remove from `folder` what processes of this machine had not finished when they ended.

    A folder stays as long as anybody holds the lock of what it is to become: two containers may have one name, and none sees
    the other's processes.
    """
    for path, name, owner in unfinished(folder):
        if not owner.is_gone or (path.is_dir() and not is_free(folder / name)):
            continue
        getLogger().info(f"{path}: left by an interrupted process, removed")
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()
