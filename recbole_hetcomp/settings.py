"""Which values the settings may have: one table, read before any data are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from recbole_hetcomp.errors import UserError


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


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
            "teacher_workers",
            "train_batch_size",
            "trajectory_depth",
        ),
    ),
    ("a whole number of at least 0", lambda value: _whole(value, 0), ("stopping_step", "tail_samples")),
    ("a whole number", lambda value: isinstance(value, int), ("eval_step", "seed")),
    ("a whole number or nothing", lambda value: value is None or isinstance(value, int), ("split_seed",)),
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


def check_settings(config: Any) -> None:
    """Raise a UserError for the first setting of `config` that is out of range; those it does not have are passed over."""
    for wanted, fits, keys in RANGES:
        for key in keys:
            if key in config and not fits(config[key]):
                raise UserError(f"{key}: {config[key]!r} must be {wanted}")
