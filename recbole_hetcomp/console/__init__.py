"""What a person sees while a command runs: a few lines, a live bar, the final table; everything else is in the log file.

`say` tells what has happened, `about` whose it is; `shown` makes a RecBole trainer show its epochs; `logged` is around
a run. Library calls outside a run show nothing.
"""

from __future__ import annotations

from recbole_hetcomp.console.events import about, counted, listed, muted, note, say, say_first, stage, subject
from recbole_hetcomp.console.log import log_file, log_line, logged, warnings_in_log
from recbole_hetcomp.console.relay import follow, relayed
from recbole_hetcomp.console.table import Table, print_table, show_lines, show_table
from recbole_hetcomp.console.training import shown

__all__ = [
    "Table",
    "about",
    "counted",
    "follow",
    "listed",
    "log_file",
    "log_line",
    "logged",
    "muted",
    "note",
    "print_table",
    "relayed",
    "say",
    "say_first",
    "show_lines",
    "show_table",
    "shown",
    "stage",
    "subject",
    "warnings_in_log",
]
