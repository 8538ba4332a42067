"""Three screens: nothing, plain lines, and live bars on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from time import monotonic

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

SECONDS, SHARE = 30.0, 0.1  # at least so long, and so much of all epochs, between two lines about one training


class Screen:
    """What a person looks at. This one shows nothing."""

    watched = False  # whether anything is seen on it

    def say(self, subject: str, text: str) -> None:
        """A line about `subject`, which may be empty."""

    def warn(self, text: str) -> None:
        """A line that calls for attention."""

    def begin(self, title: str, epochs: int | None) -> None:
        """Something that takes time begins: a training of at most `epochs` epochs, or a stage of unknown length."""

    def advance(self, title: str, epoch: int, score: str, note: str) -> None:
        """`title` has trained `epoch` epochs; its last validation score and the state of its method, or empty strings."""

    def end(self, title: str) -> None:
        """It is over."""


class Lines(Screen):
    """Plain lines on the standard error, for a file or a pipe; with `progress` a few about each long training."""

    watched = True

    def __init__(self, progress: bool) -> None:
        self.progress = progress
        self.epochs: dict[str, int] = {}
        self.last: dict[str, tuple[float, int]] = {}  # title -> time and epoch of its last line

    def say(self, subject: str, text: str) -> None:
        """The line, with its subject before it."""
        print(f"{subject}: {text}" if subject else text, file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """The line behind the word `warning`."""
        print(f"warning: {text}", file=sys.stderr, flush=True)

    def begin(self, title: str, epochs: int | None) -> None:
        """Remember the training, so that `advance` can say how far it is; nothing is printed, and nothing of a stage."""
        if epochs is not None and self.progress:
            self.epochs[title], self.last[title] = epochs, (monotonic(), 0)

    def advance(self, title: str, epoch: int, score: str, note: str) -> None:
        """A line about the epoch, where SECONDS and a SHARE of all epochs have passed since the last one."""
        if title not in self.epochs:
            return
        time, before = self.last[title]
        if monotonic() - time >= SECONDS and epoch - before >= SHARE * self.epochs[title]:
            self.last[title] = (monotonic(), epoch)
            self.say(title, ", ".join(filter(None, (f"epoch {epoch} of {self.epochs[title]}", score, note))))

    def end(self, title: str) -> None:
        """Forget the training."""
        self.epochs.pop(title, None)


class Bars(Screen):
    """Lines on a terminal; with `progress` live bars below them, one for each training that runs."""

    watched = True

    def __init__(self, console: Console, progress: bool) -> None:
        self.console, self.progress = console, progress
        self.bars: _Bars | None = None  # while something runs
        self.tasks: dict[str, TaskID] = {}
        self.epochs: dict[str, int | None] = {}

    def say(self, subject: str, text: str) -> None:
        """The line above the bars, its subject in bold."""
        line = Text.assemble((subject, "bold"), ": ", text) if subject else Text(text)
        self.console.print(line, soft_wrap=True)

    def warn(self, text: str) -> None:
        """The line above the bars, behind the word `warning` in yellow."""
        self.console.print(Text.assemble(("warning: ", "bold yellow"), text), soft_wrap=True)

    def begin(self, title: str, epochs: int | None) -> None:
        """Add a bar, which pulses where the number of epochs is unknown."""
        if not self.progress:
            return
        if self.bars is None:
            self.bars = _Bars(console=self.console, transient=True)
            self.bars.start()
        self.epochs[title] = epochs
        begun = "" if epochs is None else f"0/{epochs}"
        self.tasks[title] = self.bars.add_task(title, total=epochs, epoch=begun, score="", note="")

    def advance(self, title: str, epoch: int, score: str, note: str) -> None:
        """Move the bar of `title` to the epoch, with the score and the note beside it."""
        if self.bars is not None and title in self.tasks:
            done = f"{epoch}/{self.epochs[title]}"
            self.bars.update(self.tasks[title], completed=epoch, epoch=done, score=score, note=note)

    def end(self, title: str) -> None:
        """Remove the bar of `title`; with the last one the live display ends."""
        if self.bars is None or title not in self.tasks:
            return
        self.bars.remove_task(self.tasks.pop(title))
        if not self.tasks:
            self.bars.stop()
            self.bars = None


class _Bars(Progress):
    """A row a training, and below them the states of the methods that have one."""

    @classmethod
    def get_default_columns(cls) -> tuple[ProgressColumn, ...]:
        title = TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis"))
        epoch, score = TextColumn("{task.fields[epoch]}"), TextColumn("{task.fields[score]}")
        return SpinnerColumn(), title, BarColumn(bar_width=20), epoch, score, TimeElapsedColumn()

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            if task.fields["note"]:
                yield Text(f"  {task.fields['note']}", style="dim", no_wrap=True, overflow="ellipsis")
