"""A file that a person asks for by name: whether it can be written, before any long work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from recbole_hetcomp.config.errors import UserError, shown
from recbole_hetcomp.files.atomic import working_folder


def check_output(path: Path, example: str, inputs: Mapping[str, str | None]) -> None:
    """Raise a UserError where `path` cannot be replaced by a file: it is a folder, no plain file, or one that is read.

    Args:
        path: that is to be written
        example: a name for a file, if it is a folder
        inputs: the files that the command reads, by their flags; those that are None were not given
    """
    if path.is_dir():
        raise UserError(f"output: {shown(path)} is a folder; name a file, such as {shown(path / example)}")
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise UserError(f"output: {shown(path)} is no plain file, and would be replaced by one; name another")
    for flag, given in inputs.items():
        if given is not None and path.exists() and Path(given).exists() and path.samefile(given):
            raise UserError(f"output: {shown(path)} is the {flag} as well, and would be replaced; name another file")
    try:
        working_folder(path).rmdir()
    except OSError as error:
        raise UserError(f"output: {shown(path)} cannot be written ({error.strerror}); choose another file") from error
