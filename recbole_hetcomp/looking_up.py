"""The commands that train nothing: `hetcomp report`, `hetcomp models`, `hetcomp settings`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.usage import USAGES


def report(arguments: Sequence[str]) -> None:
    """Make the page of a folder anew, and print where it is."""
    from recbole_hetcomp.report import write_report

    print(write_report(Path(_only(arguments, "report", "the folder of a run, its checkpoint_dir"))))


def models(arguments: Sequence[str]) -> None:
    """Print what models there are."""
    from recbole_hetcomp.commands.overview import show_models

    if arguments:
        raise UserError(f"models: {arguments[0]!r} is not used; write hetcomp models, or hetcomp settings MODEL")
    show_models()


def settings(parsed: Callable[..., tuple[Any, list[str]]], arguments: Sequence[str]) -> None:
    """Print the settings of a model.

    Args:
        parsed: makes RecBole's flags, and the settings that are left, of arguments
        arguments: of the command; the model by its name alone, or as --model=NAME
    """
    from recbole_hetcomp.commands.overview import show_settings

    named = [argument for argument in arguments if not argument.startswith("-")]
    flags, given = parsed([argument for argument in arguments if argument.startswith("-")])
    name = _only(named or ([flags.model] if flags.model else []), "settings", "the name of a model")
    show_settings(name, flags.dataset, flags.config_files, given)


def _only(arguments: Sequence[str], command: str, what: str) -> str:
    """The one argument of a command."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise UserError(f"{command}: give {what}, and nothing else: hetcomp {USAGES[command].usage}")
    return arguments[0]
