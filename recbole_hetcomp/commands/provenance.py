"""What a record says of where its numbers come from: command, data, split, versions, machine, settings."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import recbole
import torch

import recbole_hetcomp
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.family import MIXED, are_sequential
from recbole_hetcomp.config.registry import is_distilled
from recbole_hetcomp.data.split import Split, is_sequential, split_seed
from recbole_hetcomp.teacher_training.cache import settings_of


def about(config: Config, split: Split, command: str) -> dict[str, Any]:
    """The entries that every record begins with (docs/report.md)."""
    return {
        "command": command,
        "dataset": {
            "name": config.dataset,
            "users": split.whole.user_num - 1,  # without the padding
            "items": split.whole.item_num - 1,
            "parts": {part: len(data) for part, data in zip(("training", "validation", "test"), split.parts)},
            "split": split_in_words(config),
            "fingerprint": split.fingerprint,
        },
        "versions": {
            "recbole_hetcomp": recbole_hetcomp.__version__,
            "recbole": recbole.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "Python": platform.python_version(),
        },
        "machine": {"device": str(config["device"]), "threads": str(config["threads"]), "system": platform.platform()},
        "settings": settings_of(config),
        "valid_metric": str(config["valid_metric"]),
        "larger_is_better": bool(config["valid_metric_bigger"]),
    }


def command_of(config: Config, verb: str = "", flags: Mapping[str, object] | None = None) -> str:
    """The command that gives the run of `config`, whether it was made on the command line or from Python.

    Args:
        verb: the sub-command
        flags: those of the sub-command; by default the model
    """
    named = {"model": config.model} if flags is None else dict(flags)
    by_file = all(len(file.split()) == 1 for file in config.files)  # the flag parts them at spaces
    files = {"config_files": " ".join(config.files)} if config.files and by_file else {}
    settings = {**({} if by_file else config.file_config_dict), **config.variable_config_dict, **config.cmd_config_dict}
    own = {key: value for key, value in settings.items() if key not in {*named, "dataset", "config_files"}}
    return spelt(verb, {**named, "dataset": config.dataset, **files, **own})


def spelt(verb: str, flags: Mapping[str, object], arguments: Sequence[str] = ()) -> str:
    """`hetcomp verb --key=value ...`, as a shell reads it; `arguments` are spelt already."""
    words = [f"--{key}={value if isinstance(value, str) else repr(value)}" for key, value in flags.items()]
    return " ".join(map(_quoted, ["hetcomp", *filter(None, [verb]), *words, *arguments]))


def _quoted(word: str) -> str:
    """A word as a shell reads it; one with quotation marks such as '['BPR']' in double ones, where these change nothing."""
    return f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word)


def split_in_words(config: Config) -> str:
    """How the three parts were made, and what test items are ranked against."""
    if config["benchmark_filename"]:
        return f"as given in the files {', '.join(map(str, config['benchmark_filename']))}"
    asked: Mapping[str, Any] = config["eval_args"]
    kind, value = next(iter(asked["split"].items()))
    group, order = asked.get("group_by"), asked.get("order")
    whose = "each user's interactions" if group == "user" else "all interactions"
    how = "in the order of time" if order == "TO" else "in random order"
    if kind == "RS":
        parts = f"{_percentages(value)} % of {whose}, {how}"
    elif kind == "LS":
        parts = f"the last interactions of each user left out ({value}), {how}"
    else:
        parts = f"{kind} {value}, {whose}, {how}"
    modes = asked.get("mode", "full")
    mode = modes.get("test", "full") if isinstance(modes, Mapping) else modes
    if mode == "labeled":
        return f"{parts}, seed {split_seed(config)}; rows are scored, nothing is ranked"
    against = _candidates(config) if mode == "full" else f"drawn items ({mode})"
    return f"{parts}, seed {split_seed(config)}; ranked against {against}"


def _candidates(config: Config) -> str:
    """Which items a full ranking holds: that of a run's models, or of a benchmark's first and those of the other family."""
    of_run = are_sequential(config) if is_distilled(config.model_class) else [is_sequential(config)]
    remark = unlike_candidates(config, [True, False] if config[MIXED] else of_run)
    if remark:
        return f"all items; {remark}"
    masked = config["mask_seen"] if config.family == "sequential" else not config["repeatable"]
    return "all items that the user has not had" if masked else "all items, those that the user has had among them"


def unlike_candidates(config: Config, sequential: Collection[bool]) -> str:
    """What is to be said below a table whose models are not all ranked against the same items; else nothing.

    Args:
        config: of a run, or of one model of a benchmark
        sequential: whether the model of each row is asked by sequences
    """
    if config.family != "sequential" or config["mask_seen"] or len(set(sequential)) == 1:
        return ""
    return "mask_seen: False lets sequential models recommend what a user has had; general ones never do"


def _percentages(ratios: Sequence[float]) -> str:
    total = sum(ratios) or 1
    return " / ".join(f"{100 * ratio / total:g}" for ratio in ratios)
