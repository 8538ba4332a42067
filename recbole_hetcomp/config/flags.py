"""The flags of the command line: RecBole's and a sub-command's; what is left are settings."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.reading import MOST_BYTES


def parsed(arguments: Sequence[str], usage: str, **options: str | None) -> tuple[argparse.Namespace, list[str]]:
    """RecBole's flags and `options` (flag -> default); what is left are settings.

    Raises:
        UserError: a flag is misspelt, or one that the checkpoint decides.
    """
    for argument in arguments:
        if re.fullmatch(r"-(m(?!odel)|d(?!ataset))[^-=][^=]*", argument):
            flag, value = argument[:2], argument[2:]
            raise UserError(f"{argument}: write {flag} {value} for the flag, or -{argument}=VALUE for a setting")
        if re.match(r"-[A-Za-z_]{2}", argument):  # argparse would read -model=MF as the model odel=MF
            raise UserError(f"{argument}: the name of a setting has two dashes; write -{argument}")
    parser = argparse.ArgumentParser(usage=usage, allow_abbrev=False, add_help=False)
    parser.add_argument("-m", "--model")
    parser.add_argument("-d", "--dataset")
    parser.add_argument("--config_files")
    for flag, default in options.items():
        parser.add_argument(f"--{flag}", default=default)
    found, settings = parser.parse_known_args(list(arguments))
    _check_flags(settings, list(vars(found)))
    decided = [flag for flag in ("model", "dataset", "config_files") if "checkpoint" in options and vars(found)[flag]]
    if decided:
        raise UserError(
            f"{decided[0]}: the checkpoint decides it; leave --{decided[0]} out, and give settings as --key=value"
        )
    found.config_files = found.config_files.split() if found.config_files else None
    found.dataset = found.dataset or (None if _names_dataset(found.config_files) else "ml-100k")
    return found, settings


def _check_flags(settings: Sequence[str], flags: Sequence[str]) -> None:
    """Raise a UserError for the first of `settings` that is a misspelt flag. A Config refuses misspelt settings."""
    from recbole.utils import argument_list

    from recbole_hetcomp.config.recbole import READ_BY_RECBOLE
    from recbole_hetcomp.config.registry import settings_of_any_model

    common = {*argument_list.general_arguments, *argument_list.training_arguments}  # which may be meant as well
    for name in (argument[2:].partition("=")[0] for argument in settings if argument.startswith("--")):
        if not difflib.get_close_matches(name.lower(), flags):
            continue
        known = {*settings_of_any_model(), *READ_BY_RECBOLE}
        near = difflib.get_close_matches(name.lower(), [*flags, *(common & known)], n=1)
        if name not in known and near[0] in flags:
            raise UserError(f"--{name}: there is no such flag or setting; did you mean --{near[0]}?")


def _names_dataset(config_files: Sequence[str] | None) -> bool:
    """Whether a configuration file has a line for the dataset."""
    return any(
        re.search(r"^\ufeff?[\"']?dataset[\"']?\s*:", Path(path).read_text("utf-8", errors="replace"), re.MULTILINE)
        for path in config_files or ()
        if Path(path).is_file() and Path(path).stat().st_size <= MOST_BYTES  # a larger one is refused later
    )
