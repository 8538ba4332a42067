"""Whether the data have what a model's own loss reads: labels, and negative items to compare with."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

from recbole.data.dataset import Dataset
from recbole.utils import InputType

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError, shown
from recbole_hetcomp.config.registry import is_distilled, student_class

NONE = "none"  # RecBole's word for no sampling of negative items


def check_training_columns(config: Config, dataset: Dataset, where: str = "") -> None:
    """Raise a UserError where the loss of the model of `config` reads a column that no batch will have.

    Without `train_neg_sample_args` RecBole draws no negative items, and so makes no labels either.

    Args:
        config: of the model
        dataset: with all its columns
        where: before the sentence, the setting that `config` is made from
    """
    model_class: type = config.model_class
    if is_distilled(model_class):
        if not config["base_loss_weight"]:
            return
        model_class = student_class(model_class, str(config["student"]))
    negatives = config["train_neg_sample_args"]
    if not isinstance(negatives, Mapping) or negatives["distribution"] != NONE:
        return
    read, remedy = read_by_loss(model_class), "write --train_neg_sample_args=\"{'distribution':'uniform','sample_num':1}\""
    if "NEG_ITEM_ID" in read and config["MODEL_INPUT_TYPE"] == InputType.PAIRWISE:  # else another loss may be chosen
        raise UserError(
            f"{where}train_neg_sample_args: {model_class.__name__} compares items with negative ones, and none are drawn; "
            f"{remedy}"
        )
    label = config["LABEL_FIELD"]
    if "LABEL" in read and label not in dataset.field2type:
        raise UserError(
            f"{where}train_neg_sample_args: {model_class.__name__} learns from labels, no negative items are drawn and the "
            f"data have no column {shown(label)} (LABEL_FIELD); {remedy}, load the column, or give a threshold"
        )


def read_by_loss(model_class: type) -> set[str]:
    """The names that the `calculate_loss` of a class names, with those of its parent's where it calls that."""
    found: set[str] = set()
    for owner in model_class.__mro__:
        loss: Callable[..., object] | None = vars(owner).get("calculate_loss")
        if loss is not None:
            names = inspect.unwrap(loss).__code__.co_names
            found.update(names)
            if "super" not in names:
                break
    return found
