"""Which values the settings may have: one table, read before any data are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from recbole_hetcomp.config.errors import UserError


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _numbers(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(map(_number, value))


# What a value must be, the test of it, and the settings that it holds for
RANGES: tuple[tuple[str, Callable[[Any], bool], tuple[str, ...]], ...] = (
    (
        "a whole number of at least 1",
        lambda value: _whole(value, 1),
        (
            "consistency_window",
            "curriculum_max_dwell",
            "curriculum_period",
            "discrepancy_k",
            "embedding_size",
            "epochs",
            "importance_cutoff",
            "n_observed",
            "n_targets",
            "teacher_threads",
            "teacher_workers",
            "train_batch_size",
            "trajectory_depth",
        ),
    ),
    ("a whole number of at least 0", lambda value: _whole(value, 0), ("stopping_step", "tail_samples")),
    ("a whole number", lambda value: isinstance(value, int), ("eval_step", "seed")),
    ("a whole number or nothing", lambda value: value is None or isinstance(value, int), ("split_seed",)),
    ("a whole number of at least 1 or nothing", lambda value: value is None or _whole(value, 1), ("threads",)),
    (
        "a number above 0",
        lambda value: _number(value) and value > 0,
        (
            "consistency_temperature",
            "curriculum_alpha",
            "curriculum_decay",
            "importance_temperature",
            "learning_rate",
            "max_block_mb",
        ),
    ),
    (
        "a number of at least 0",
        lambda value: _number(value) and value >= 0,
        (
            "base_loss_weight",
            "fine_loss_weight",
            "importance_exponent",
            "overall_loss_weight",
            "teacher_weighting",
            "weight_decay",
        ),
    ),
    ("a number above 0 or nothing", lambda value: value is None or (_number(value) and value > 0), ("score_clamp",)),
    ("a list of numbers", _numbers, ("fine_depths", "fine_weights", "trajectory_fractions")),
    (
        "a dict of settings",
        lambda value: isinstance(value, dict),
        ("teacher_config", "without_distillation_config"),
    ),
)


# The same for the settings of the distillation methods, where a model of RecBole may mean something else by a name
OF_METHODS: tuple[tuple[str, Callable[[Any], bool], tuple[str, ...]], ...] = (
    (
        "a whole number of at least 1",
        lambda value: _whole(value, 1),
        (
            "annealing_epochs",
            "error_period",
            "group_depth",
            "item_list_depth",
            "entities_per_batch",
            "items_per_batch",
            "list_depth",
            "n_candidates",
            "n_corrections",
            "n_distilled",
            "n_drawn",
            "n_experts",
            "n_groups",
            "n_interesting",
            "n_interesting_users",
            "n_neighbours",
            "n_pairs",
            "n_random",
            "n_ranked",
            "n_sampled",
            "n_soft_labels",
            "n_top",
            "n_uninteresting",
            "n_uninteresting_users",
            "n_unobserved",
            "pseudo_neighbours",
            "sample_depth",
            "stage_epochs",
            "teacher_rank",
        ),
    ),
    ("a whole number of at least 0", lambda value: _whole(value, 0), ("discrepancy_start",)),
    (
        "a number above 0",
        lambda value: _number(value) and value > 0,
        (
            "discrepancy_sharpness",
            "error_sharpness",
            "gate_temperature",
            "gate_temperature_end",
            "item_sampling_temperature",
            "label_temperature",
            "pair_temperature",
            "position_temperature",
            "preference_temperature",
            "pseudo_ridge",
            "sampling_temperature",
            "score_temperature",
            "temperature",
        ),
    ),
    (
        "a number of at least 0",
        lambda value: _number(value) and value >= 0,
        (
            "consistency_weight",
            "distillation_weight",
            "entropy_weight",
            "hidden_ratio",
            "item_weight",
            "overlap_weight",
            "pseudo_share",
            "pseudo_weight",
            "score_weight",
            "share_exponent",
            "stage_gain",
            "user_weight",
        ),
    ),
    (
        "a number from 0 to 1",
        lambda value: _number(value) and 0 <= value <= 1,
        ("edge_keep", "neighbour_share", "pseudo_drop", "pseudo_mix", "pseudo_replace", "topology_share"),
    ),
    ("a number", _number, ("label_shift",)),
    (
        "True or False",
        lambda value: isinstance(value, bool),
        ("curriculum", "renormalise", "resume", "sampled", "shared_projection", "user_batches", "without_distillation"),
    ),
)


def check_settings(config: Any, where: str = "") -> None:
    """Raise a UserError for the first setting of `config` that is out of range; those it does not have are passed over.

    `where` is put before the sentence: the setting that `config` is made from, where it is not the run's own.
    """
    for wanted, fits, keys in (*RANGES, *(OF_METHODS if "distillation_weight" in config else ())):
        for key in keys:
            if key in config and not fits(config[key]):
                raise UserError(f"{where}{key}: {config[key]!r} must be {wanted}")
    if "valid_metric" in config:
        _check_valid_metric(config)


def _check_valid_metric(config: Any) -> None:
    """Raise a UserError where early stopping would ask for a metric that nobody measures."""
    metrics, depths = config["metrics"], config["topk"]
    if not isinstance(metrics, (list, tuple, str)) or not isinstance(depths, (list, tuple, int)):
        return  # RecBole has its own word for that
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    every = [depths] if isinstance(depths, int) else list(depths)
    known = [f"{name}@{k}" for name in names for k in every]
    metric = str(config["valid_metric"])
    if "@" in metric and metric.lower() not in map(str.lower, known):
        raise UserError(f"valid_metric: {metric!r} is not measured by metrics and topk; choose one of {', '.join(known)}")
