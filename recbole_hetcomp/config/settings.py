"""Whether the settings have values that they may have: asked before any data are read."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from recbole.evaluator.register import metric_information

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.declarations import declarations_in
from recbole_hetcomp.config.errors import UserError, shorter, shown
from recbole_hetcomp.config.precision import check_precision


def check_settings(config: Config, where: str = "") -> None:
    """Raise a UserError for the first setting of `config` whose value is not what its yaml file says that it may be.

    `where` is put before the sentence: the setting that `config` is made from, where it is not the run's own.
    """
    for declaration in config.declarations().values():
        if declaration.key in config:
            declaration.check(config[declaration.key], where)
    for path in config.part_files():  # a part has the values of its own file, unless the user gives others
        for declaration in declarations_in(path).values():
            if config.given(declaration.key):
                declaration.check(config[declaration.key], where)
    _check_valid_metric(config)
    if config["log_wandb"] and find_spec("wandb") is None:
        raise UserError("log_wandb: True needs wandb, which is not installed; run `pip install wandb`, or --log_wandb=False")
    check_precision(config, where)


def _check_valid_metric(config: Config) -> None:
    """Raise a UserError where early stopping would ask for a metric that nobody measures."""
    known = [f"{name}{cut_off}" for name in config["metrics"] for cut_off in _cut_offs(name, config["topk"])]
    metric = config["valid_metric"]
    if metric.lower() not in map(str.lower, known):
        choice = shorter(", ".join(known), 200)
        raise UserError(f"valid_metric: {shown(metric)} is not measured by metrics and topk; choose one of {choice}")


def _cut_offs(metric: str, topk: Sequence[int]) -> list[str]:
    """What follows the metric's name where it is measured: its cut-offs, or nothing, as with AUC and LogLoss."""
    of_lists = {"rec.items", "rec.topk"} & set(metric_information[metric.lower()])
    return [f"@{k}" for k in topk] if of_lists else [""]
