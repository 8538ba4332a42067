"""`hetcomp recommend`: for some users or all of them, to the screen or into a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from recbole.data.dataset import Dataset

from recbole_hetcomp.config.errors import UserError, close_matches, shown
from recbole_hetcomp.config.numbers import whole_number
from recbole_hetcomp.config.recbole import READ_BY_RECBOLE
from recbole_hetcomp.config.registry import settings_of_any_model
from recbole_hetcomp.files.output import check_output
from recbole_hetcomp.serving.new_users import ranked_for
from recbole_hetcomp.serving.recommending import Ranked, all_users, by_user, frame_of, ranked
from recbole_hetcomp.serving.student import load_student
from recbole_hetcomp.serving.text import lines_of, titles, tokens_in, tokens_of_file
from recbole_hetcomp.serving.writing import format_of, write_frames

ALL = "all"
NEW = "new"  # the name of whom `--history` is of


@dataclass(frozen=True)
class Request:
    """The flags of the command, as they are written.

    Attributes:
        checkpoint: the file
        users: tokens in a line of CSV, or `all`
        users_file: a file with a token a line
        history: items of somebody new in a line of CSV
        histories_file: a file with such a line for each of them: a name, then items
        k: items a user
        output: a file; None: the screen
        format: of the file; None: what its name says
    """

    checkpoint: str | None = None
    users: str | None = None
    users_file: str | None = None
    history: str | None = None
    histories_file: str | None = None
    k: str = "10"
    output: str | None = None
    format: str | None = None


def recommend_to_users(asked: Request, arguments: Sequence[str] = ()) -> None:
    """Print or write the recommendations that were asked for.

    Args:
        asked: the flags
        arguments: `--key=value` settings that replace saved ones

    Raises:
        UserError: a flag or a setting is wrong, or the checkpoint cannot be loaded.
    """
    whom = [asked.users, asked.users_file, asked.history, asked.histories_file]
    if not asked.checkpoint or whom.count(None) != len(whom) - 1:
        raise UserError(
            "recommend: give --checkpoint=FILE --users=TOKEN,TOKEN; in place of the latter, --users=all, --users_file=FILE, "
            "--history=ITEM,ITEM or --histories_file=FILE"
        )
    refuse_unknown(arguments)
    k = whole_number("k", asked.k, 1)
    form = _form(asked)
    histories = _histories(asked)
    named = None if asked.users == ALL or histories else _named(asked)
    _, model, dataset = load_student(asked.checkpoint, arguments=arguments)
    if histories:
        found = ranked_for(model, dataset, histories, k)
    else:
        found = ranked(model, dataset, all_users(dataset) if named is None else named, k)
    if form is None or asked.output is None:
        _print(found, dataset)
        return
    n_rows = write_frames(Path(asked.output), form, (frame_of(block, dataset) for block in found))
    print(f"{asked.output}: {n_rows:,} recommendations")


def _form(asked: Request) -> str | None:
    """The format of the file; None: there is none."""
    if asked.output is None:
        if asked.format is not None:
            raise UserError("format: the screen has one format; name a file with --output, or leave --format out")
        return None
    form = format_of(asked.output, asked.format)
    read = {key: getattr(asked, key) for key in ("checkpoint", "users_file", "histories_file")}
    check_output(Path(asked.output), f"recommendations.{form}", read)
    return form


def _histories(asked: Request) -> dict[str, list[str]]:
    """A name -> items; empty where users are asked for."""
    if asked.history is not None:
        return {NEW: tokens_in(asked.history, "history")}
    if asked.histories_file is None:
        return {}
    lines = tokens_of_file(Path(asked.histories_file), "histories_file")
    found: dict[str, list[str]] = {}
    for line in lines:
        name, *items = tokens_in(line, "histories_file")
        if name in found or not items:
            raise UserError(
                f"histories_file: {shown(name)} {'stands twice' if name in found else 'has no item'} in "
                f"{shown(Path(asked.histories_file))}; write a line for each, such as anna,item,item"
            )
        found[name] = items
    return found


def _named(asked: Request) -> list[str]:
    """The users that were named, each once."""
    if asked.users_file is not None:
        return list(dict.fromkeys(tokens_of_file(Path(asked.users_file), "users_file")))
    if not asked.users:
        raise UserError("users: nobody is named; give tokens, such as --users=196,242, or --users=all")
    return list(dict.fromkeys(tokens_in(asked.users)))


def _print(found: Iterator[Ranked], dataset: Dataset) -> None:
    """Lines for the screen, each block's when it is known."""
    title_of = titles(dataset)
    for block in found:
        for user, items in by_user(block, dataset):
            sys.stdout.writelines(f"{line}\n" for line in lines_of(user, items, title_of))


def refuse_unknown(arguments: Sequence[str]) -> None:
    """Raise a UserError for the first of `--key=value` arguments that no yaml file and no code of RecBole reads."""
    names = [argument[2:].partition("=")[0] for argument in arguments if argument.startswith("--")]
    known = {*settings_of_any_model(), *READ_BY_RECBOLE}
    for name in names:
        if name not in known:
            near = close_matches(name, known) or "; see hetcomp --help"
            raise UserError(f"--{name}: there is no such flag or setting{near}")
