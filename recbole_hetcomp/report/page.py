"""The page: one HTML file of all records in a folder, which needs no network and no script to be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from recbole_hetcomp.files.atomic import write
from recbole_hetcomp.files.locks import held
from recbole_hetcomp.report.benchmark_part import benchmark_part
from recbole_hetcomp.report.drawing import N_COLOURS
from recbole_hetcomp.report.records import DamagedRecordError, read_records
from recbole_hetcomp.report.run_part import run_part
from recbole_hetcomp.report.search_parts import student_search_part, teacher_search_part
from recbole_hetcomp.report.views import Part

NAME = "report.html"
TEMPLATES = Path(__file__).parent / "templates"
PARTS: dict[str, Callable[[Mapping[str, Any]], Part]] = {
    "run": run_part,
    "benchmark": benchmark_part,
    "teacher_search": teacher_search_part,
    "student_search": student_search_part,
}


def write_report(folder: Path, *, break_lock: bool = False) -> Path:
    """Make `report.html` in `folder` from the records of its runs, benchmarks and searches; returns where it is.

    Raises:
        UserError: there is no record, or one of them is damaged (a DamagedRecordError).
        OSError: the page cannot be written.
    """
    with held(folder / NAME, folder, "written", break_lock=break_lock):
        write(folder / NAME, page_of(read_records(folder)))
    return folder / NAME


def page_of(records: Mapping[str, Mapping[str, Any]]) -> str:
    """The HTML of records by their kinds, the newest first.

    Raises:
        DamagedRecordError: a record holds numbers that nothing measures, such as none where others have some.
    """
    parts = []
    for kind, record in records.items():
        try:
            parts.append(PARTS[kind](record))
        except (ArithmeticError, LookupError, ValueError) as error:
            raise DamagedRecordError(
                f"report: the record {kind}.json does not go together ({type(error).__name__}: {str(error)[:80]}); delete "
                "the file, and run its command again"
            ) from error
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["together"] = lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%")
    return environment.get_template(NAME).render(parts=parts, n_colours=N_COLOURS)
