"""Errors that a person can mend: one sentence that names the setting, its value and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input, found before any long work. The command line prints the sentence alone and exits with code 2."""


def close_matches(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'BPR'?`, or the empty string where nothing known is near `name`, in whatever case.

    The known names may be numpy's strings, as a dataset's tokens are, whose `repr` in numpy 2 is no plain quotation.
    """
    by_lower = {str(candidate).lower(): str(candidate) for candidate in known}
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(repr(by_lower[match]) for match in near)}?" if near else ""
