"""`hetcomp export`: a student as files that are served without this package, checked for every user."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from recbole.model.abstract_recommender import AbstractRecommender

from recbole_hetcomp.commands.export_check import DEPTH, compared, users_in_blocks
from recbole_hetcomp.commands.recommending import refuse_unknown
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError, close_matches, shown
from recbole_hetcomp.console import Table
from recbole_hetcomp.data.asked import asked_by
from recbole_hetcomp.data.split import Split
from recbole_hetcomp.evaluation.efficiency import SAMPLE, milliseconds_per_thousand, ranking_milliseconds, serving_bytes
from recbole_hetcomp.files.atomic import working_folder
from recbole_hetcomp.serving.export_readme import write_readme
from recbole_hetcomp.serving.exported import DTYPES, Exported
from recbole_hetcomp.serving.formats import FORMATS, Top, check_libraries, write_model
from recbole_hetcomp.serving.recommending import refuse_clicks, seen_by
from recbole_hetcomp.serving.student import load_with_split
from recbole_hetcomp.teachers.ranking import blocks, full_scores

Costs = dict[str, tuple[float | None, float | None]]  # what -> MB, milliseconds for 1,000 users


def export_student(
    checkpoint: str, form: str, dtype: str = "float32", output: str | None = None, arguments: Sequence[str] = ()
) -> dict[str, Any]:
    """Write a student into a new folder, check it, and measure it.

    Args:
        checkpoint: what this package or RecBole saved
        form: safetensors, npz, onnx or faiss
        dtype: float32, float16 or int8
        output: the folder; None: beside the checkpoint
        arguments: `--key=value` settings that replace saved ones

    Returns:
        what `export.json` in the folder says; `folder`; `costs`, by what was measured MB and milliseconds for 1,000 users

    Raises:
        UserError: a flag is wrong, a library is missing, the model's scores are no inner products, or a float32 export
            does not recommend what the student does.
    """
    if not checkpoint or not form:
        raise UserError("export: --checkpoint or --format is missing; give --checkpoint=FILE.pth --format=safetensors")
    _check(form, dtype)
    refuse_unknown(arguments)
    folder = Path(output or Path(checkpoint).with_suffix("").as_posix() + f"-{form}-{dtype}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"output: {shown(folder)} is there already; remove it, or choose another folder")
    config, model, split = load_with_split(checkpoint, arguments=arguments)
    refuse_clicks(model)
    exported = Exported.of(model, split.whole)
    try:
        made = working_folder(folder)
    except OSError as error:
        raise UserError(f"output: {shown(folder)} cannot be written ({error.strerror}); choose another folder") from error
    try:
        size = write_model(exported, form, dtype, made)
        top = FORMATS[form].opened(made)
        agreement = compared(model, config, split, exported, top)
        if dtype == "float32" and agreement.differing:
            raise UserError(
                f"export: {form} recommends other items to {agreement.differing:,} of {agreement.users:,} users than the "
                f"model (scores differ by {agreement.deviation:.1e}); choose another format"
            )
        costs = _costs(f"exported: {form} {dtype}", size, top, exported, model, config, split) | _of_ensemble(checkpoint)
        record = {"model": config.model, "dataset": config.dataset, "format": form, "dtype": dtype, **agreement.record}
        (made / "export.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        write_readme(made, exported, form, dtype, f"{config.model} ({config['student']}) on {config.dataset}")
        os.replace(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return {**record, "folder": str(folder), "costs": costs}


def report_of(result: dict[str, Any]) -> str:
    """What the command prints: how the export agrees with the student, the table of costs, and where the files are."""
    lines = [f"{result['users']:,} users compared with the model:"]
    if result["dtype"] == "float32":
        lines.append(f"the same top {DEPTH} for every user, scores within {result['largest_deviation_of_scores']:.1e}")
    else:
        lines.append(f"overlap@{DEPTH} {result['overlap@50']:.4f}")
    if "ndcg@10" in result:
        of = result["ndcg@10"]
        change = 100 * (of["export"] / of["student"] - 1) if of["student"] else 0.0
        lines.append(f"NDCG@10 on the test part {of['export']:.4f}, of the model {of['student']:.4f} ({change:+.2f} %)")
    cells = [
        [what, *("" if value is None else f"{value:,.{digits}f}" for value, digits in zip(costs, (2, 1)))]
        for what, costs in result["costs"].items()
    ]
    table = Table(["top 50, seen items masked", "MB", "ms / 1,000 users"], cells).github
    return "\n".join([lines[0], *(f"  {line}" for line in lines[1:]), "", table, "", f"written: {result['folder']}"])


def _check(form: str, dtype: str) -> None:
    for setting, value, known in (("format", form, tuple(FORMATS)), ("dtype", dtype, DTYPES)):
        if value not in known:
            near = close_matches(value, known) or f"; choose one of {', '.join(known)}"
            raise UserError(f"{setting}: {shown(value)} is none of {', '.join(known)}{near}")
    check_libraries(form)


@torch.no_grad()
def _costs(
    name: str, size: int, top: Top, exported: Exported, model: AbstractRecommender, config: Config, split: Split
) -> Costs:
    """The export, this package's `recommend` and RecBole's `full_sort_predict`, for the same users in as many threads."""
    history = seen_by(model, split.whole)
    users, block_mb, k = history.active_users[:SAMPLE], config["max_block_mb"], min(DEPTH, len(exported.item_tokens))
    asked = asked_by(model, history)

    def by_export() -> None:
        for rows in users_in_blocks(users, history.n_items, block_mb):
            top(rows, exported.seen_by(rows), k)

    def by_recbole() -> None:  # as its evaluation does it
        for block in blocks(users, history.n_items, block_mb):
            scores = full_scores(asked, block)
            padded = history.padded(block)
            places, columns = (padded > 0).nonzero(as_tuple=True)
            scores[:, 0] = -torch.inf
            scores[places, padded[places, columns]] = -torch.inf
            scores.topk(k, dim=1)

    of_model = serving_bytes(model) / 2**20
    return {
        name: (size / 2**20, milliseconds_per_thousand(by_export, len(users))),
        "this package": (of_model, ranking_milliseconds(asked, history, k, max_block_mb=block_mb)),
        "RecBole's full_sort_predict": (of_model, milliseconds_per_thousand(by_recbole, len(users))),
    }


def _of_ensemble(checkpoint: str) -> Costs:
    """What the run that saved the checkpoint measured of its teachers' ensemble; empty where it is not known."""
    path = Path(checkpoint).with_name("comparison.json")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if Path(found["checkpoint"]).name != Path(checkpoint).name:
            return {}
        row = next(row for row in found["rows"] if row["role"] == "ensemble")
        costs = tuple(None if row[key] is None else float(row[key]) for key in ("size_mb", "ms_per_1000_users"))
        return {f"ensemble: {row['model']}": (costs[0], costs[1])}
    except (OSError, ValueError, LookupError, TypeError, StopIteration):
        return {}  # another run's table, or none
