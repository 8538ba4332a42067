"""Whether the settings have values that they may have: asked before any data are read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec

from recbole.evaluator.register import metric_information

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.declarations import Kind, declarations_in
from recbole_hetcomp.config.errors import UserError, shorter, shown
from recbole_hetcomp.config.precision import check_precision
from recbole_hetcomp.config.registry import properties_of

SIZE = re.compile(r"(.*_)?(size|dim|dimension)s?(_(list|dnn))?")  # names of RecBole's settings for the width of a layer
LARGEST = 10**6  # width of a layer; a wider one is a slip of the pen


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
    _check_sizes(config, where)
    _check_valid_metric(config)
    if config["log_wandb"] and find_spec("wandb") is None:
        raise UserError("log_wandb: True needs wandb, which is not installed; run `pip install wandb`, or --log_wandb=False")
    check_precision(config, where)


def _check_sizes(config: Config, where: str) -> None:
    """Raise a UserError for a size of the model, or of its student, that no layer can have; RecBole declares no ranges."""
    files = {path for path in map(properties_of, (config.model, str(config["student"]))) if path is not None}
    defaults = {key: value for path in files for key, value in (config.read_yaml(path) or {}).items()}
    for key, default in defaults.items():
        if not SIZE.fullmatch(key) or key not in config or not isinstance(default, (int, list)):
            continue
        many, least = isinstance(default, list), 0 if default == 0 else 1
        size = Kind("int", many=many, bounds=((">=", str(least)), ("<=", str(LARGEST))))
        none = many and config[key] == []  # no hidden layer
        if config[key] != default and not none and not size.fits(config[key]):
            raise UserError(f"{where}{key}: {shown(config[key])} must be {size.sentence}, such as {default}")


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
