"""What RecBole's Config looks into while it is made: checked before it does, since it stumbles over what it cannot use."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from recbole.evaluator.register import metric_information, metric_types
from recbole.utils import EvaluatorType

from recbole_hetcomp.config.declarations import Declaration, Kind, declarations_in
from recbole_hetcomp.config.errors import UserError, close_matches, shown
from recbole_hetcomp.config.family import MIXED
from recbole_hetcomp.config.registry import properties_dir

# Keys that RecBole reads though none of its yaml files or argument lists names them.
READ_BY_RECBOLE = {"config_files", "data_path", "dataset", "embedding_size", "encoding", "group_offset", "ip"}
READ_BY_RECBOLE |= {"local_rank", "loss_type", "model", "nproc", "offset", "port", "reg_weight", "world_size", MIXED}
READ_AT_ONCE = {
    "overall.yaml": ("metrics", "valid_metric", "topk", "eval_args", "verbose"),
    "recbole.yaml": ("state", "show_progress", "learner", "repeatable"),
}
# What the dicts among RecBole's settings hold, in the words of our yaml files
PARTS = {
    "eval_args": {
        "split": "dict",
        "group_by": "str: user | none or ~",
        "order": "str: RO | TO",
        "mode": "dict",
    },
    "train_neg_sample_args": {
        "distribution": "str: uniform | popularity",
        "sample_num": "int 1..10000",
        "alpha": "float",
        "dynamic": "bool",
        "candidate_num": "int 0..10000",
    },
    "clip_grad_norm": {
        "max_norm": "float > 0",
        "norm_type": "float > 0",
        "error_if_nonfinite": "bool",
        "foreach": "bool or ~",
    },
}
NOTHING = (None, "None", "none")  # of a distribution of negatives
MODE = re.compile(r"full|labeled|(uni|pop)[1-9]\d{0,4}")
NUMBER = r"\s*[-+]?(inf|\d+(\.\d*)?(e[-+]?\d+)?)\s*"
INTERVALS = re.compile(rf"\s*[\[(]{NUMBER},{NUMBER}[\])]\s*(;\s*[\[(]{NUMBER},{NUMBER}[\])]\s*)*", re.IGNORECASE)
OF_NO_TEXT = re.compile("[\0\ud800-\udfff]")
OF_A_PATH = ("/", "\\", "\0")


def check_names(model: object, dataset: object) -> None:
    """Raise a UserError for a model or dataset that is none, or whose name is a path."""
    for setting, value, example in (("model", model, "HetCompStudent"), ("dataset", dataset, "ml-100k")):
        if not value:
            raise UserError(f"{setting}: none is given; write --{setting}={example}")
        if not isinstance(value, (str, type) if setting == "model" else str):
            raise UserError(f"{setting}: {shown(value)} is no name; write --{setting}={example}")
    if isinstance(dataset, str) and (dataset in (".", "..") or any(part in dataset for part in OF_A_PATH)):
        raise UserError(
            f"dataset: {shown(dataset)} is no name but a path; write --dataset=NAME --data_path=FOLDER for the files "
            "FOLDER/NAME/NAME.inter"
        )


def check_read_at_once(settings: dict[str, Any]) -> None:
    """Raise a UserError for what RecBole's Config would stumble over; a single metric or cut-off becomes a list."""
    if "local_rank" in settings:  # RecBole would wait for other processes
        raise UserError(
            f"local_rank: {shown(settings['local_rank'])} is no setting of a run; write --nproc=2 for two processes"
        )
    for key, value in settings.items():
        if isinstance(value, str) and OF_NO_TEXT.search(value):  # no file can be called so, and no log can hold it
            raise UserError(f"{ascii(key)[1:-1]}: {ascii(shown(value))[1:-1]} holds a character of no text; take it out")
    if not isinstance(settings["data_path"], str):
        raise UserError(f"data_path: {shown(settings['data_path'])} is no folder; write --data_path=FOLDER")
    if not isinstance(settings["gpu_id"], (str, int, tuple)) or isinstance(settings["gpu_id"], bool):
        raise UserError(
            f"gpu_id: {shown(settings['gpu_id'])} is no number of a GPU; write --gpu_id=0,1 or, for none, --gpu_id="
        )
    for key, single in (("metrics", str), ("topk", int)):
        if type(settings[key]) is single:
            settings[key] = [settings[key]]
    if isinstance(settings["learner"], str):
        settings["learner"] = settings["learner"].lower()
    if isinstance(settings["state"], str):
        settings["state"] = settings["state"].upper()
    for file, keys in READ_AT_ONCE.items():
        for key in keys:
            declarations_in(properties_dir() / file)[key].check(settings[key])
    _check_parts(settings)
    _check_metrics(settings["metrics"], settings["eval_args"])
    for key, value in _intervals(settings):
        if value is not None and not INTERVALS.fullmatch(str(value)):  # [0,9] of the command line is a list
            raise UserError(f'{key}: {shown(value)} is no interval; write --{key.partition(":")[0]}="[5,inf)"')


def _check_parts(settings: Mapping[str, Any]) -> None:
    """Raise a UserError for a wrong value within one of the dicts."""
    for key, parts in PARTS.items():
        given = settings.get(key)
        if given in NOTHING or (isinstance(given, dict) and given.get("distribution", "uniform") in NOTHING):
            continue
        if not isinstance(given, dict):
            raise UserError(f"{key}: {shown(given)} must be a dict with keys such as {', '.join(list(parts)[:2])}")
        for name, value in given.items():
            if name not in parts:
                raise UserError(
                    f"{key}: it has no key {shown(name)}; its keys are {', '.join(parts)}{close_matches(name, parts)}"
                )
            if name != "mode":
                Declaration(str(name), "", Kind.read(parts[name]), "").check(value, f"{key}: ")
    negatives = settings.get("train_neg_sample_args")
    if isinstance(negatives, dict) and negatives.get("dynamic") and not negatives.get("candidate_num"):
        raise UserError("train_neg_sample_args: dynamic: True chooses among candidates; write candidate_num: 5 there")
    wrong = next(
        (mode for mode in _modes(settings["eval_args"]) if not isinstance(mode, str) or not MODE.fullmatch(mode)), None
    )
    if wrong is not None:
        raise UserError(f"eval_args: mode: {shown(wrong)} is none of full, labeled, uni100, pop100")
    ratios = settings["eval_args"].get("split", {}).get("RS", [1, 1, 1])
    if not Kind("float", many=True, bounds=((">=", "0"),)).fits(ratios) or len(ratios) != 3:
        raise UserError(
            f"eval_args: split: RS: {shown(ratios)} must be three numbers of at least 0, such as [0.6, 0.2, 0.2]"
        )


def _modes(eval_args: Mapping[str, Any]) -> list[Any]:
    mode = eval_args.get("mode", "full")
    return list(mode.values()) if isinstance(mode, dict) else [mode]


def _intervals(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key in ("user_inter_num_interval", "item_inter_num_interval"):
        yield key, settings.get(key)
    of_values = settings.get("val_interval")
    for column, value in of_values.items() if isinstance(of_values, dict) else ():
        if isinstance(value, str):  # a list is one of tokens
            yield f"val_interval: {column}", value


def _check_metrics(metrics: list[str], eval_args: Mapping[str, Any]) -> None:
    """Raise a UserError for metrics that RecBole does not have, or cannot measure together or in this mode."""
    unknown = next((metric for metric in metrics if metric.lower() not in metric_information), None)
    if unknown is not None:
        raise UserError(f"metrics: There is no metric named {shown(unknown)}{close_matches(unknown, metric_information)}")
    of_scores = [metric for metric in metrics if metric_types[metric.lower()] == EvaluatorType.VALUE]
    of_lists = [metric for metric in metrics if metric not in of_scores]
    if of_scores and of_lists:
        raise UserError(
            f"metrics: {of_scores[0]} is of scores, {of_lists[0]} of ranked lists, and a run measures one kind; leave "
            f"{of_scores[0]} out"
        )
    if of_scores and "full" in _modes(eval_args):
        raise UserError(
            f"metrics: {of_scores[0]} needs labelled or drawn items, and eval_args ranks all (mode: full); choose GAUC or "
            "Recall, or write mode: labeled or mode: uni100 there"
        )
    if of_lists and "labeled" in _modes(eval_args):
        raise UserError(
            f"metrics: {of_lists[0]} ranks items, which mode: labeled of eval_args does not; write mode: full there"
        )
