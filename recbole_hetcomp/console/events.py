"""What happens, told to whatever screen there is, and to the log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from logging import getLogger

from recbole_hetcomp.console.screen import Screen


@dataclass
class _Display:
    """The process's screen, and what it is about.

    Attributes:
        screen: shows what is told
        subjects: of what is told, the innermost last
        muted: how many `muted` there are around
        note: the state of the method that trains now
        known: subjects of which this run has told something
    """

    screen: Screen = field(default_factory=Screen)
    subjects: list[str] = field(default_factory=list)
    muted: int = 0
    note: str = ""
    known: set[str] = field(default_factory=set)

    def say(self, subject: str, text: str) -> None:
        """A line on the screen, unless muted."""
        self.known.add(subject)
        if not self.muted:
            self.screen.say(subject, text)


display = _Display()


@contextmanager
def about(subject: str) -> Iterator[None]:
    """Whatever is told inside is about `subject`, such as `teacher BPR`."""
    display.subjects.append(subject)
    try:
        yield
    finally:
        display.subjects.pop()


def subject() -> str:
    """Whom the next line is about; the empty string for nobody."""
    return display.subjects[-1] if display.subjects else ""


def counted(number: int, noun: str) -> str:
    """`1 epoch`, `2 epochs`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listed(settings: Mapping[str, object]) -> str:
    """`learning_rate 0.01, student MF`."""
    return ", ".join(f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in settings.items())


def say(text: str) -> None:
    """A line for a person, which begins with its subject; the log has it too."""
    getLogger().info(f"{subject()}: {text}" if subject() else text)
    display.say(subject(), text)


def say_first(text: str) -> None:
    """`say` for what is news only where nothing has been told about the subject yet; the log has it in any case."""
    if subject() in display.known:
        getLogger().info(f"{subject()}: {text}")
    else:
        say(text)


@contextmanager
def muted() -> Iterator[None]:
    """Lines are for the log alone, bars and warnings stay: around a part of something that has a line of its own."""
    display.muted += 1
    try:
        yield
    finally:
        display.muted -= 1


def note(text: str) -> None:
    """The state of the method that trains now, such as how far its curriculum is: shown beside its bar."""
    display.note = text


@contextmanager
def stage(text: str) -> Iterator[None]:
    """Something that takes a while and has no epochs: a line, and a spinner on a terminal."""
    say(text)
    display.screen.begin(text, None)
    try:
        yield
    finally:
        display.screen.end(text)
