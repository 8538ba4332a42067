"""The end of a run on the screen: the table, where everything is, and what to do next."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_hetcomp import console
from recbole_hetcomp.commands.compare import comparison_table
from recbole_hetcomp.commands.provenance import unlike_candidates
from recbole_hetcomp.commands.reporting import report_lines
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.family import are_sequential
from recbole_hetcomp.console import Table
from recbole_hetcomp.data.split import Split
from recbole_hetcomp.evaluation.ctr import click_remark
from recbole_hetcomp.serving.text import quoted


def show_result(config: Config, split: Split, result: Mapping[str, Any], report: Path | None) -> None:
    """Print and log the comparison, or the test metrics of a model that has none; the files, and the next command."""
    if "comparison" in result:
        title, rows = f"comparison on {config.dataset}, test part", result["comparison"]
        remark = click_remark(rows) or unlike_candidates(config, are_sequential(config))
        console.show_table(title, comparison_table(rows, config), remark)
    else:
        metrics = result["test_result"]
        row = [config.model, *(f"{value:.4f}" for value in metrics.values())]
        console.show_table(f"{config.dataset}, test part", Table(["model", *metrics], [row]))
    lines = console.log_line()
    if result["checkpoint"]:
        checkpoint = str(result["checkpoint"])
        lines.insert(0, ("checkpoint", checkpoint))
        if "comparison" in result:
            lines.insert(1, ("comparison", str(Path(checkpoint).with_name("comparison.md"))))
        lines += report_lines(report)
        lines.append(("next", _predict(checkpoint) if config.family == "context" else _recommend(split, checkpoint)))
    console.show_lines(lines)


def _recommend(split: Split, checkpoint: str) -> str:
    """The command that recommends to two users."""
    users = split.history.active_users[:2].tolist()
    tokens = ",".join(quoted(str(token)) for token in split.whole.id2token(split.whole.uid_field, users))
    return f"{hetcomp()} recommend --checkpoint={shlex.quote(checkpoint)} --users={shlex.quote(tokens)} --k=10"


def _predict(checkpoint: str) -> str:
    """The command that predicts clicks for the rows of a file."""
    return f"{hetcomp()} predict --checkpoint={shlex.quote(checkpoint)} --input=rows.csv"


def hetcomp() -> str:
    """`hetcomp`, or where it is while the environment that it is installed in is not the shell's."""
    beside = Path(sys.executable).with_name("hetcomp")
    if shutil.which("hetcomp") or not beside.is_file():
        return "hetcomp"
    return os.path.relpath(beside)
