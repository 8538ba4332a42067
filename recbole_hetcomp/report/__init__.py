"""The page about a run, a benchmark or a search: what it needs is recorded as JSON, and a page is made of the records."""

from __future__ import annotations

from recbole_hetcomp.report.page import write_report
from recbole_hetcomp.report.recording import recorded
from recbole_hetcomp.report.records import write_record

__all__ = ["recorded", "write_record", "write_report"]
