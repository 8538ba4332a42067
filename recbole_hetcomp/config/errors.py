"""Errors that a person can mend: one sentence that names the setting, its value and the remedy."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable

LONGEST = 400  # characters of a sentence
LONGEST_VALUE, LONGEST_PATH, LONGEST_NAME = 80, 160, 24  # characters of a value in it


class UserError(ValueError):
    """Bad input, found before any long work. The command line prints the sentence alone and exits with code 2."""

    @property
    def sentence(self) -> str:
        """Its text in one line of at most LONGEST characters; of a longer one the middle is left out."""
        text = " ".join(str(self).split())
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 155]} ... {text[-150:]}"


def shown(value: object) -> str:
    """A value as a sentence shows it: its `repr`, or of a long one the beginning and the end; a path is a string."""
    try:
        text = repr(os.fspath(value) if isinstance(value, os.PathLike) else value)
    except (RecursionError, ValueError):  # a whole number of thousands of digits has no decimal text
        return f"a {type(value).__name__} that is too long to show"
    return shorter(text, LONGEST_PATH if isinstance(value, os.PathLike) else LONGEST_VALUE)


def shorter(text: str, longest: int = LONGEST_VALUE) -> str:
    """The text itself; of a longer one the beginning and the end."""
    return text if len(text) <= longest else f"{text[: longest - 35]} ... {text[-30:]}"


def named(names: Iterable[object], most: int = 3) -> str:
    """The first few of some names, and of each the beginning, as a sentence shows them: `'a', 'b', 'c', ...`."""
    few = [str(name) for name, _ in zip(names, range(most + 1))]
    begun = [repr(name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}...") for name in few[:most]]
    return ", ".join([*begun, *(["..."] if len(few) > most else [])])


def close_matches(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'BPR'?`, or the empty string where nothing known is near `name`, in whatever case.

    The known names may be numpy's strings, as a dataset's tokens are, whose `repr` in numpy 2 is no plain quotation.
    """
    by_lower = {str(candidate).lower(): str(candidate) for candidate in known}
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(repr(by_lower[match]) for match in near)}?" if near else ""
