"""The Configs of a benchmark, one a model and seed, and what can be known to be wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from logging import getLogger
from typing import Any

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.family import MIXED
from recbole_hetcomp.config.registry import family_of, get_model, predicts_clicks, settings_of_any_model
from recbole_hetcomp.config.settings import check_settings
from recbole_hetcomp.data.split import split_seed
from recbole_hetcomp.teacher_training.configs import training_settings

# Beside RecBole's settings of evaluation and data: what makes results comparable, so no single model's own.
PROTOCOL = {"data_path", "dataset", "dataset_preset", "metrics", "rm_dup_inter", "split_seed", "topk", "valid_metric"}


def check_models(models: Sequence[str]) -> None:
    """Raise a UserError for models that one benchmark cannot compare."""
    if len(set(models)) < len(models):
        raise UserError(f"models: {', '.join(models)} names one twice; name each once, and run variants of one apart")
    clicks, others = (
        [name for name in models if predicts_clicks(get_model(name, "models")) is kind] for kind in (True, False)
    )
    if clicks and others:
        raise UserError(
            f"models: {clicks[0]} predicts clicks and {others[0]} ranks items, which no table compares; run two benchmarks"
        )
    for name in models:
        model = get_model(name, "models")
        if family_of(model) is None:
            raise UserError(
                f"models: {name!r} is a {model.type.name.lower()} model that reads more than interactions; leave it "
                "out, a benchmark compares general and sequential recommenders"
            )


def one_family(
    models: Sequence[str],
    dataset: str,
    files: Sequence[str] | None,
    settings: Mapping[str, object] | None,
    arguments: Sequence[str],
) -> dict[str, object]:
    """`settings` by which all models have the split of sequential data where one of them is, or has, a sequential model."""
    given = dict(settings or {})
    families = {Config(name, dataset, files, given, arguments).family for name in models}
    return {MIXED: True, **given} if len(families) > 1 else given


def configs_of(
    name: str,
    dataset: str,
    files: Sequence[str] | None,
    settings: Mapping[str, object] | None,
    seeds: int,
    arguments: Sequence[str],
) -> list[Config]:
    """One Config a seed, all with the first one's split; trained as well as we know how, unless the user says otherwise."""
    given = dict(settings or {})
    shared = Config(name, dataset, files, given, arguments)
    check_settings(shared)
    own = _settings_of_one(given.get("model_config"), name) | _settings_of_one(shared["model_config"], name)
    _check_comparable(shared, name, own)
    config = Config(name, dataset, files, {**given, **own}, _without(arguments, own))
    _check_own(config, name, own)
    check_settings(config, f"model_config of {name}: ")
    given |= {**own, "split_seed": split_seed(shared)}
    kept = _without(arguments, {*own, "seed", "split_seed"})
    defaults = training_settings(config, name)
    seeds_given = ({**given, "seed": config["seed"] + i} for i in range(seeds))
    return [Config(name, dataset, files, settings, kept, defaults) for settings in seeds_given]


def _without(arguments: Sequence[str], keys: Iterable[str]) -> list[str]:
    """The `arguments` but for those of `keys`: the command line would win over the dict."""
    return [argument for argument in arguments if not argument.startswith(tuple(f"--{key}=" for key in keys))]


def _settings_of_one(model_config: object, name: str) -> dict[str, Any]:
    """What `model_config` says of the model `name`.

    Raises:
        UserError: it is no dict of dicts, or not all its keys are models.
    """
    by_model = {} if model_config is None else model_config
    if not isinstance(by_model, Mapping) or not all(isinstance(own, Mapping) for own in by_model.values()):
        raise UserError(f"model_config: {model_config!r} is not of the form {{'BPR': {{'embedding_size': 8}}}}")
    for model in by_model:
        get_model(str(model), "model_config")
    return dict(by_model.get(name, {}))


def _check_comparable(config: Config, name: str, own: Mapping[str, object]) -> None:
    """Raise a UserError where `model_config` would test one model otherwise than the others, or on other data."""
    protocol = {key for group in ("Evaluation", "Dataset") for key in config.parameters[group]} | PROTOCOL
    for key in own:
        if key in protocol - {"eval_batch_size"}:
            raise UserError(
                f"model_config of {name}: {key}: {own[key]!r} would hold for one model alone, and the models are compared "
                f"by one protocol on the same data; give {key} to all of them"
            )


def _check_own(config: Config, name: str, own: Mapping[str, object]) -> None:
    """Say of each setting in `model_config` that the model `name` does not know; a misspelt one is a UserError."""
    for key, near in config.unknown_keys(own).items():
        if near and key not in settings_of_any_model():
            raise UserError(f"model_config of {name}: {key}: nothing reads a setting of this name{near}")
        getLogger().warning(f"unknown setting {key!r} in model_config of {name} is not used{near}")


def warn_of_unknown_keys(configs: Sequence[Config]) -> None:
    """One line for each setting given that none of the models knows.

    Raises:
        UserError: it is a misspelt one, from the command line.
    """
    unknown = [config.unknown_keys() for config in configs]
    for key in sorted(set.intersection(*map(set, unknown)) - {"model_config"}):
        near = next(filter(None, (of_model[key] for of_model in unknown)), "")
        if near and key in configs[0].cmd_config_dict and key not in settings_of_any_model():
            raise UserError(f"{key}: nothing reads a setting of this name{near}")
        getLogger().warning(f"unknown setting {key!r} is not used by any of the models")
