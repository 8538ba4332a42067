"""What RecBole's Config looks into while it is made: checked before it does, since it stumbles over what it cannot use."""

from __future__ import annotations

from typing import Any

from recbole.evaluator.register import metric_information, metric_types
from recbole.utils import EvaluatorType

from recbole_hetcomp.config.declarations import declarations_in
from recbole_hetcomp.config.errors import UserError, close_matches, shown
from recbole_hetcomp.config.registry import properties_dir

READ_AT_ONCE = {"overall.yaml": ("metrics", "valid_metric", "topk", "eval_args"), "recbole.yaml": ("repeatable",)}
PROCESSES = ("local_rank", "offset")  # RecBole joins a process group where it finds these
PARTS_OF_A_PATH = ("/", "\\", "\0")


def check_names(model: object, dataset: object) -> None:
    """Raise a UserError for a model or dataset that is none, or whose name is a path."""
    for setting, value, example in (("model", model, "HetCompStudent"), ("dataset", dataset, "ml-100k")):
        if not value:
            raise UserError(f"{setting}: none is given; write --{setting}={example}")
        if not isinstance(value, (str, type) if setting == "model" else str):
            raise UserError(f"{setting}: {shown(value)} is no name; write --{setting}={example}")
    if isinstance(dataset, str) and (dataset in (".", "..") or any(part in dataset for part in PARTS_OF_A_PATH)):
        folder, _, name = dataset.rstrip("/").replace("\0", "").rpartition("/")
        raise UserError(
            f"dataset: {shown(dataset)} is no name but a path; write --dataset={name.strip('.') or 'NAME'}"
            f" --data_path={folder or 'FOLDER'}, where the folder holds NAME/NAME.inter"
        )


def check_read_at_once(settings: dict[str, Any]) -> None:
    """Raise a UserError for settings that RecBole's Config would stumble over; a single metric or cut-off is a list then."""
    for key in PROCESSES:
        if key in settings:
            raise UserError(f"{key}: {shown(settings[key])} is no setting of a run; write --nproc=2 for two processes")
    for key, single in (("metrics", str), ("topk", int)):
        if isinstance(settings[key], single) and not isinstance(settings[key], bool):
            settings[key] = [settings[key]]
    if not isinstance(settings["data_path"], str) or "\0" in settings["data_path"]:
        raise UserError(f"data_path: {shown(settings['data_path'])} is no folder; write --data_path=FOLDER")
    for file, keys in READ_AT_ONCE.items():
        for key in keys:
            declarations_in(properties_dir() / file)[key].check(settings[key])
    _check_metrics(settings["metrics"], settings["eval_args"])


def _check_metrics(metrics: list[str], eval_args: dict[str, Any]) -> None:
    """Raise a UserError for metrics that RecBole does not have, or cannot measure together or in this mode."""
    unknown = next((metric for metric in metrics if metric.lower() not in metric_information), None)
    if unknown is not None:
        raise UserError(f"metrics: There is no metric named {shown(unknown)}{close_matches(unknown, metric_information)}")
    of_values = [metric for metric in metrics if metric_types[metric.lower()] == EvaluatorType.VALUE]
    of_lists = [metric for metric in metrics if metric not in of_values]
    if of_values and of_lists:
        raise UserError(
            f"metrics: {of_values[0]} is of scores, {of_lists[0]} of ranked lists, and a run measures one kind; leave "
            f"{of_values[0]} out"
        )
    mode = eval_args.get("mode", "full")
    modes = list(mode.values()) or ["full"] if isinstance(mode, dict) else [mode]
    if of_values and "full" in modes:
        raise UserError(
            f"metrics: {of_values[0]} needs labelled or drawn items, and eval_args ranks all (mode: full); choose GAUC or "
            "Recall, or write mode: labeled or mode: uni100 there"
        )
