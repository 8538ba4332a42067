"""A file that a person asks for by name: whether it can be written, before any long work."""

from __future__ import annotations

from pathlib import Path

from recbole_hetcomp.config.errors import UserError, shown
from recbole_hetcomp.files.atomic import working_folder


def check_output(path: Path, example: str) -> None:
    """Raise a UserError where `path` is a folder or cannot be written; `example` is a name for a file in it."""
    if path.is_dir():
        raise UserError(f"output: {shown(path)} is a folder; name a file, such as {shown(path / example)}")
    try:
        working_folder(path).rmdir()
    except OSError as error:
        raise UserError(f"output: {shown(path)} cannot be written ({error.strerror}); choose another file") from error
