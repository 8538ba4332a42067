"""The result: a table as wide as the terminal, GitHub's markdown for a pipe, and lines below it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from logging import getLogger

import rich.table
from rich import box
from rich.console import Console, JustifyMethod
from rich.text import Text
from tabulate import tabulate

from recbole_hetcomp.console.events import display

GAP = 2  # between two columns on a terminal


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

    def fitted(self, width: int) -> tuple[rich.table.Table, list[str]]:
        """For a terminal of `width` columns, wrapped between words alone; and the headers of the columns left out for it."""
        columns, may_go = list(range(len(self.headers))), list(self.dispensable)
        while may_go and self._width_left(columns, width) < 0:
            columns.remove(list(self.headers).index(may_go.pop(0)))
        width_left = self._width_left(columns, width)
        drawn = rich.table.Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
        for i in columns:
            longest = max(map(len, self._texts(i)))
            more = max(0, min(width_left, longest - self._widest_word(i)))
            width_left -= more
            justify: JustifyMethod = "left" if i < self.n_left else "right"
            drawn.add_column(self.headers[i], justify=justify, width=self._widest_word(i) + more)
        for row in self.rows:
            drawn.add_row(*(_styled(row[i]) for i in columns))
        return drawn, [header for header in self.dispensable if header not in may_go]

    def _width_left(self, columns: Sequence[int], width: int) -> int:
        """How many characters are left when each of the columns is as narrow as its words allow."""
        return width - sum(map(self._widest_word, columns)) - GAP * (len(columns) - 1)

    def _texts(self, column: int) -> list[str]:
        return [self.headers[column], *(row[column].replace("**", "") for row in self.rows)]

    def _widest_word(self, column: int) -> int:
        return max(len(word) for text in self._texts(column) for word in [*text.split(), ""])


def _styled(text: str) -> Text:
    bold = text.startswith("**")
    return Text(text.replace("**", "").replace("\\*", "*"), style="bold" if bold else "")


def show_table(title: str, table: Table, remark: str = "") -> None:
    """Log the table, and print it on the standard output if a person looks at it, with a remark below."""
    below = f"\n\n{remark}" if remark else ""
    getLogger().info(f"{title}:\n{table.github}{below}")
    if not _seen():
        return
    print_table(title, table, remark)


def print_table(title: str, table: Table, remark: str = "") -> None:
    """Print the table on the standard output, as wide as the terminal or for a pipe, with a remark below."""
    if not sys.stdout.isatty():
        below = f"\n\n{remark}" if remark else ""
        print(f"\n{title}:\n\n{table.github}{below}", flush=True)
        return
    console = Console(force_jupyter=False, highlight=False)
    drawn, left_out = table.fitted(console.width)
    console.print(Text(f"\n{title}", style="bold"), drawn, sep="\n")
    if remark:
        console.print(Text(remark.replace("\\*", "*")))
    if left_out:
        console.print(Text(f"not shown for lack of width: {', '.join(left_out)}", style="dim"))


def show_lines(lines: Sequence[tuple[str, str]]) -> None:
    """Log and print what is where: `(what, where)` each."""
    if not lines:
        return
    width = max(len(what) for what, _ in lines) + 2
    text = "\n".join(f"{what + ':':{width}}{where}" for what, where in lines)
    getLogger().info(text)
    if _seen():
        print(f"\n{text}", flush=True)


def _seen() -> bool:
    return display.screen.watched and not display.muted
