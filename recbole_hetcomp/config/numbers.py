"""Numbers that the command line gives as text."""

from __future__ import annotations

import argparse
from typing import Any

from recbole_hetcomp.config.errors import UserError, shown

DIGITS = 9  # at most; no count of anything here is larger


def whole_number(flag: str, text: str, least: int) -> int:
    """A flag's value, written in the digits 0 to 9.

    Raises:
        UserError: it is no such number, below `least`, or of more than `DIGITS` digits.
    """
    plain = text.isascii() and text.isdigit()
    if plain and len(text) > DIGITS:
        raise UserError(f"{flag}: {shown(text)} is no whole number of at least {least} and at most {DIGITS} digits")
    if not plain or int(text) < least:
        raise UserError(f"{flag}: {shown(text)} is no whole number of at least {least}")
    return int(text)


def number(flags: argparse.Namespace, flag: str, kind: type) -> Any:
    """The flag's value as an int or a float, None where it is not given."""
    text = vars(flags)[flag]
    try:
        return None if text is None else kind(text)
    except ValueError as error:
        raise UserError(f"{flag}: {shown(text)} is no {'whole ' if kind is int else ''}number") from error
