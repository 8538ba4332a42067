"""What a progress file may hold: the state of this training, checked field by field before any of it is used.

It names no file. The best student so far is in it, so a copied or renamed folder, or the file alone, resumes anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from recbole.trainer import Trainer
from torch import Tensor

from recbole_hetcomp.config.metrics import largest
from recbole_hetcomp.files.archive import CheckpointError
from recbole_hetcomp.trainer.checkpoint import check_state
from recbole_hetcomp.trainer.random_state import check_random_state

FIELDS = {
    *("epoch", "cur_step", "best_valid_score", "best_valid_result", "best", "state_dict", "distillation", "optimizer"),
    *("optimizer_apart", "batches", "random", "method_random"),
}
BEST = {"state_dict", "other_parameter", "epoch", "cur_step", "best_valid_score", "optimizer"}

OF_THE_DEVICE = {"fused", "foreach", "capturable", "differentiable"}  # settings of torch's optimizers, not of a training


def check_progress(state: Mapping[str, Any], trainer: Trainer) -> None:
    """Raise a CheckpointError, a clause, unless `state` is one that `trainer` could have come to.

    Of `distillation` the form is checked here, and what the numbers may be by the method that reads it.
    """
    odd = sorted(map(str, {*state} ^ FIELDS))
    if odd:
        raise CheckpointError(f"it {'lacks' if odd[0] in FIELDS else 'has'} {odd[0][:60]!r}")
    _check_number("epoch", state["epoch"], trainer.epochs - 1)
    _check_number("cur_step", state["cur_step"], max(trainer.stopping_step, 0))
    _check_scores(state, trainer)
    check_state(state["state_dict"], trainer.model.state_dict())
    _check_form(state["distillation"], trainer.model.distillation_state(), "distillation")
    _check_optimizer(state["optimizer"], trainer.optimizer)
    if trainer.optimizer_apart is not None:
        _check_optimizer(state["optimizer_apart"], trainer.optimizer_apart)
    elif state["optimizer_apart"] is not None:
        raise CheckpointError("it has an optimizer_apart, and nothing is trained apart from the student")
    if state["best"] is not None:
        _check_best(state["best"], state, trainer)
    for name in ("batches", "method_random"):
        _check_generator(name, state[name])
    check_random_state(state["random"])


def _check_best(best: object, state: Mapping[str, Any], trainer: Trainer) -> None:
    """The best student so far: of an earlier epoch, with the score that the training remembers."""
    if not isinstance(best, dict) or set(best) != BEST:
        raise CheckpointError("its best student is not one of this package")
    _check_number("the best epoch", best["epoch"], state["epoch"] - 1)
    _check_number("the best cur_step", best["cur_step"], max(trainer.stopping_step, 0))
    if not isinstance(best["other_parameter"], dict):
        raise CheckpointError("its best student has other parameters that are no dict")
    if best["best_valid_score"] != state["best_valid_score"]:
        raise CheckpointError("its best student has another score than its best_valid_score")
    check_state(best["state_dict"], trainer.model.served_state())
    _check_optimizer(best["optimizer"], trainer.optimizer)


def _check_form(found: object, expected: object, where: str) -> None:
    """The same names, and tensors and numbers where there are any. A shape may change while a method trains, and what is
    empty at its start may be filled: these are for the method to check."""
    if isinstance(expected, dict):
        if not isinstance(found, dict) or (expected and set(found) != set(expected)):
            raise CheckpointError(f"its {where} has other names than the method's")
        for name, value in expected.items():
            _check_form(found[name], value, f"{where} {name}"[:80])
        return
    kinds = next((kinds for kinds in ((Tensor,), (int, float), (str,)) if isinstance(expected, kinds)), (object,))
    if not isinstance(found, kinds) or (isinstance(found, float) and math.isnan(found)):
        raise CheckpointError(f"its {where} is {type(found).__name__}, not {type(expected).__name__}")


def _check_number(name: str, value: object, most: int) -> None:
    if type(value) is not int or not 0 <= value <= most:
        raise CheckpointError(f"its {name} is {value!r:.40}, not a whole number from 0 to {most}")


def _check_scores(state: Mapping[str, Any], trainer: Trainer) -> None:
    """The best score is that of the best result; before the first validation there is neither."""
    score, result, metric = state["best_valid_score"], state["best_valid_result"], trainer.valid_metric.lower()
    if result is None:
        if score != (-math.inf if trainer.valid_metric_bigger else math.inf):
            raise CheckpointError(f"its best_valid_score is {score!r:.40} without a best_valid_result")
        return
    if not isinstance(result, dict) or not all(isinstance(name, str) for name in result) or metric not in result:
        raise CheckpointError(f"its best_valid_result has no {metric}")
    for name, value in result.items():
        if type(value) is not float or not math.isfinite(value) or not 0 <= value <= largest(name):
            raise CheckpointError(f"its best_valid_result has {name[:40]} = {value!r:.40}")
    if type(score) is not float or score != result[metric]:
        raise CheckpointError(f"its best_valid_score is {score!r:.40}, and the {metric} of its best_valid_result is not")


def _check_optimizer(found: object, optimizer: torch.optim.Optimizer) -> None:
    """The groups are those of `optimizer`, and what is kept of a parameter has its shape."""
    expected = optimizer.state_dict()
    if not isinstance(found, dict) or set(found) != set(expected) or _groups(found) != _groups(expected):
        raise CheckpointError("its optimizer is another one, or has other settings")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if not isinstance(found["state"], dict) or not {*found["state"]} <= {*range(len(parameters))}:
        raise CheckpointError("its optimizer has other parameters")
    for number, entries in found["state"].items():
        for name, value in entries.items() if isinstance(entries, dict) else [("state", entries)]:
            shapes = ((), (1,), tuple(parameters[number].shape))
            tensor = isinstance(value, Tensor) and tuple(value.shape) in shapes and not bool(value.isnan().any())
            plain = type(value) in (int, float) and math.isfinite(value)
            if not (tensor or plain or value is None) or not isinstance(name, str):
                raise CheckpointError(f"its optimizer has a {name!r:.40} that is none of parameter {number}")


def _groups(state: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The groups of an optimizer's state without what depends on the device; None where it has none."""
    groups = state["param_groups"]
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        return None
    return [{name: value for name, value in group.items() if name not in OF_THE_DEVICE} for group in groups]


def _check_generator(name: str, state: object) -> None:
    """Raises a CheckpointError unless torch's generator on the CPU takes the state."""
    try:
        torch.Generator().set_state(state.cpu() if isinstance(state, Tensor) else torch.empty(0))
    except (RuntimeError, TypeError) as error:
        raise CheckpointError(f"its {name} is no state of a random generator") from error
