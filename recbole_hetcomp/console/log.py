"""The log file that RecBole writes, and what of it comes to the console."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recbole.config import Config
from recbole.utils import init_logger
from rich.console import Console

from recbole_hetcomp.console.events import display
from recbole_hetcomp.console.screen import Bars, Lines, Screen

# Warnings of RecBole's own log that ask for nothing: about long histories, and about an order in time that nothing needs
OF_NO_CONCERN = ("Max value of user's history interaction records", "Timestamp field has not been loaded")
OF_OTHERS = "py.warnings"  # the logger to which `warnings_in_log` gives other packages' warnings
_opened: list[logging.Handler] = []  # by the run that is on


class _Warnings(logging.Handler):
    """Our warnings, for the screen."""

    def emit(self, record: logging.LogRecord) -> None:
        display.screen.warn(record.getMessage())


@contextmanager
def logged(config: Config) -> Iterator[None]:
    """Around a run: its log file, as RecBole writes it, and its screen. Afterwards screen and logging are as they were.

    The console shows `say`'s lines, progress and warnings; with `verbose` it shows what the file gets instead, in RecBole's
    way, and with a `state` of WARNING or above only that. RecBole's own progress bars are for `verbose` alone. A run inside
    another one has a file of its own. Where others have set up logging, theirs is used and there is no file, as RecBole has
    it.
    """
    root, level, outer, known, screen = (
        logging.getLogger(),
        logging.getLogger().level,
        _opened[:],
        display.known,
        display.screen,
    )
    for handler in outer:
        root.removeHandler(handler)
    try:
        _open_log(config)
        yield
    finally:
        for handler in _opened:
            root.removeHandler(handler)
            with suppress(OSError):  # what a full disk has not taken, it does not take now
                handler.close()
        for handler in outer:
            root.addHandler(handler)
        root.setLevel(level)
        _opened[:], display.known, display.screen = outer, known, screen


def _open_log(config: Config) -> None:
    root, level, others = logging.getLogger(), logging.getLogger().level, logging.getLogger().handlers[:]
    _opened.clear()
    display.known = set()
    Path("log", str(config["model"])).mkdir(parents=True, exist_ok=True)  # RecBole stumbles where two make it at once
    init_logger(config)
    root.setLevel(min(level, root.level))  # a handler of somebody else may want more than `state`
    _opened.extend(handler for handler in root.handlers if handler not in others)
    for handler in _opened:
        if isinstance(handler, logging.FileHandler):
            _end_at_a_full_disk(handler)
    if config["verbose"]:
        display.screen = Screen()
        return
    display.screen = _screen(config)
    config["show_progress"] = False
    for handler in _opened[:]:
        if not isinstance(handler, logging.FileHandler):
            if display.screen.watched:
                handler = _instead_of(handler)
            handler.addFilter(_concerns_people)
            handler.addFilter(_once())


def _end_at_a_full_disk(handler: logging.Handler) -> None:
    """Let the error of a log file that cannot be written end the run; logging would print a traceback for each line."""
    usual = handler.handleError

    def hear(record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            raise error
        usual(record)

    handler.handleError = hear  # type: ignore[method-assign]


def _concerns_people(record: logging.LogRecord) -> bool:
    return record.name != OF_OTHERS and not any(words in record.getMessage() for words in OF_NO_CONCERN)


def _once() -> Callable[[logging.LogRecord], bool]:
    """Lets a warning of the same words through once: a model that a run starts from has the run's teachers and data."""
    said: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        known = record.levelno >= logging.WARNING and message in said
        said.add(message)
        return not known

    return is_new


def _screen(config: Config) -> Screen:
    """As `state` and `show_progress` ask for it."""
    if logging.getLevelName(config["state"]) >= logging.WARNING:
        return Screen()
    console, progress = Console(stderr=True, force_jupyter=False, highlight=False), bool(config["show_progress"])
    return Bars(console, progress) if sys.stderr.isatty() and not console.is_dumb_terminal else Lines(progress)


def _instead_of(handler: logging.Handler) -> logging.Handler:
    """Our handler in the place of RecBole's."""
    ours = _Warnings(logging.WARNING)
    logging.getLogger().addHandler(ours)
    logging.getLogger().removeHandler(handler)
    _opened[_opened.index(handler)] = ours
    return ours


def log_file() -> Path | None:
    """The file that the log goes to; None where others have set up logging."""
    return next((Path(handler.baseFilename) for handler in _opened if isinstance(handler, logging.FileHandler)), None)


def log_line() -> list[tuple[str, str]]:
    """The line of `show_lines` that says where the log file is, if there is one."""
    file = log_file()
    return [] if file is None else [("log file", os.path.relpath(file))]


@contextmanager
def warnings_in_log() -> Iterator[None]:
    """Warnings of other packages go to the log, unless PYTHONWARNINGS or -W says what to do with them."""
    if sys.warnoptions:
        yield
        return
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
