"""Records: what a run, a benchmark or a search came to, one JSON file each in the folder `report` of `checkpoint_dir`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from recbole_hetcomp.config.errors import UserError, shown
from recbole_hetcomp.files.atomic import write
from recbole_hetcomp.files.locks import held
from recbole_hetcomp.report.schema import FORMS, VERSION, read

FOLDER = "report"


class DamagedRecordError(UserError):
    """A record that cannot be read, or whose numbers do not go together."""


def path_of(folder: Path, kind: str) -> Path:
    """Where the record of a kind is, one of FORMS."""
    return folder / FOLDER / f"{kind}.json"


def write_record(folder: Path, kind: str, content: Mapping[str, Any], *, break_lock: bool = False) -> None:
    """Write the record of a kind, one of FORMS, in the place of the one before; `made` and `version` are added.

    Raises:
        OSError: it cannot be written.
    """
    made = datetime.now().astimezone().isoformat(timespec="seconds")
    record = finite({"version": VERSION, "made": made, **content})
    path = path_of(folder, kind)
    with held(path, folder, "written", break_lock=break_lock):
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, json.dumps(record, default=str) + "\n")


def read_records(folder: Path) -> dict[str, dict[str, Any]]:
    """The records in a folder by their kinds, the newest first.

    Raises:
        DamagedRecordError: one of them is damaged.
        UserError: there is none.
    """
    remedy = "delete the file, and run its command again"
    present = {kind: form for kind, form in FORMS.items() if path_of(folder, kind).is_file()}
    try:
        found = {kind: read(path_of(folder, kind), form, remedy) for kind, form in present.items()}
    except UserError as error:
        raise DamagedRecordError(str(error)) from error
    if not found:
        raise UserError(
            f"report: there is no record in {shown(folder / FOLDER)}; give the checkpoint_dir of a run, a benchmark or a "
            "search"
        )
    return dict(sorted(found.items(), key=lambda entry: entry[1]["made"], reverse=True))


def finite(value: Any) -> Any:
    """The same plain data with None for each number that JSON does not have."""
    if isinstance(value, Mapping):
        return {str(key): finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
