"""The result: a table as wide as the terminal, GitHub's markdown for a pipe, and lines below it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from logging import getLogger

import rich.table
from rich import box
from rich.console import Console, JustifyMethod
from rich.measure import Measurement
from rich.text import Text
from tabulate import tabulate

from recbole_hetcomp.console.events import display


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        headers: one a column
        rows: a text a column; `**text**` is bold
        n_left: so many first columns hold words, the others numbers
        dispensable: headers of the columns that a narrow terminal goes without, the first to go first
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    n_left: int = 1
    dispensable: Sequence[str] = ()

    @property
    def github(self) -> str:
        """As GitHub's markdown."""
        alignment = ["left"] * self.n_left + ["right"] * (len(self.headers) - self.n_left)
        return tabulate(self.rows, self.headers, tablefmt="github", disable_numparse=True, colalign=alignment)

    def fitted(self, console: Console) -> tuple[rich.table.Table, list[str]]:
        """For a terminal, words wrapped where need be; and the headers of the columns for which it is too narrow."""
        left_out: list[str] = []
        for header in (*self.dispensable, None):
            drawn = self._drawn([i for i, name in enumerate(self.headers) if name not in left_out])
            fits = Measurement.get(console, console.options, drawn).minimum <= console.width
            if fits or header is None:
                break
            left_out.append(header)
        return drawn, left_out

    def _drawn(self, columns: Sequence[int]) -> rich.table.Table:
        drawn = rich.table.Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
        for i in columns:
            words = " ".join([self.headers[i], *(row[i].replace("**", "") for row in self.rows)]).split()
            justify: JustifyMethod = "left" if i < self.n_left else "right"
            drawn.add_column(self.headers[i], justify=justify, min_width=max(map(len, words)))
        for row in self.rows:
            drawn.add_row(*(_styled(row[i]) for i in columns))
        return drawn


def _styled(text: str) -> Text:
    bold = text.startswith("**")
    return Text(text.replace("**", "").replace("\\*", "*"), style="bold" if bold else "")


def show_table(title: str, table: Table, remark: str = "") -> None:
    """Log the table, and print it on the standard output if a person looks at it, with a remark below."""
    below = f"\n\n{remark}" if remark else ""
    getLogger().info(f"{title}:\n{table.github}{below}")
    if not _seen():
        return
    if not sys.stdout.isatty():
        print(f"\n{title}:\n\n{table.github}{below}", flush=True)
        return
    console = Console(force_jupyter=False, highlight=False)
    drawn, left_out = table.fitted(console)
    console.print(Text(f"\n{title}", style="bold"), drawn, sep="\n")
    if remark:
        console.print(Text(remark.replace("\\*", "*")))
    if left_out:
        console.print(Text(f"not shown for lack of width: {', '.join(left_out)}", style="dim"))


def show_lines(lines: Sequence[tuple[str, str]]) -> None:
    """Log and print what is where: `(what, where)` each."""
    width = max(len(what) for what, _ in lines) + 2
    text = "\n".join(f"{what + ':':{width}}{where}" for what, where in lines)
    getLogger().info(text)
    if _seen():
        print(f"\n{text}", flush=True)


def _seen() -> bool:
    return display.screen.watched and not display.muted
