"""Whether a run's data are general, sequential or rows of clicks, and what RecBole's sequential models ask of settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from recbole.config import Config as RecBoleConfig
from recbole.utils import InputType, ModelType

from recbole_hetcomp.config.errors import UserError, shown
from recbole_hetcomp.config.registry import READ_MORE, get_model

LAST_TWO_OUT = {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO", "mode": "full"}
# A general model's, in a run with sequential models: not the user's to set, but kept in the checkpoint with the others.
MIXED = "in_sequential_run"


def teachers_in(places: Iterable[Mapping[str, Any]]) -> list[str]:
    """The models among the teachers that the first of `places` names. What is no such is for others to refuse."""
    named = next((place["teachers"] for place in places if "teachers" in place), ())
    names = named if isinstance(named, (list, tuple)) else ()
    return [name for name in names if isinstance(name, str) and name.isidentifier()]


def is_sequential_model(name: str) -> bool:
    """Whether there is a model of that name, and it is asked by sequences."""
    try:
        return getattr(get_model(name), "type", None) == ModelType.SEQUENTIAL
    except UserError:  # which setting named it, is not known here
        return False


def are_sequential(config: RecBoleConfig) -> list[bool]:
    """Whether a run's model, of distilled ones the student, is asked by sequences, and each of its teachers is."""
    teachers = teachers_in([{"teachers": config["teachers"]}])
    return [config["MODEL_TYPE"] == ModelType.SEQUENTIAL, *map(is_sequential_model, teachers)]


def reads_more(model_class: type) -> bool:
    """Whether a model reads more than the sequence of items: it runs alone, on the columns that RecBole loads for it."""
    return model_class.__name__ in READ_MORE


def protocol_of(model_class: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of evaluation that such a model has; of others none.

    Args:
        settings: RecBole's for the model: DIN and DIEN are tested by AUC over drawn items
    """
    if not reads_more(model_class):
        return {}
    in_time = "LS" in settings["eval_args"]["split"]  # RecBole says nothing of some
    by_value = "AUC" in settings["metrics"]
    kept = {key: settings[key] for key in ("metrics", "valid_metric") if by_value}
    return {**kept, "eval_args": settings["eval_args"] if in_time else LAST_TWO_OUT}


def settle_negatives(settings: dict[str, Any], trained: type, *, given: bool) -> None:
    """Put nothing in the place of `train_neg_sample_args` where the loss takes none: the drawn would be among its targets.

    Args:
        settings: of the model, which are changed
        trained: the model's class, of distilled ones the student's
        given: whether the user gave `train_neg_sample_args`

    Raises:
        UserError: the user asks for negatives there.
    """
    negatives = settings.get("train_neg_sample_args")
    if isinstance(negatives, dict) and negatives.get("distribution") == "none":  # as RecBole leaves it in a checkpoint
        settings["train_neg_sample_args"] = negatives = None
    sequential, batches = getattr(trained, "type", None) == ModelType.SEQUENTIAL, getattr(trained, "input_type", None)
    targets = batches is None or (sequential and batches == InputType.POINTWISE)  # RepeatNet says so, and reads no label
    if settings.get("loss_type") != "CE" or not targets:
        return
    if given and negatives is not None and sequential:
        raise UserError(
            f"train_neg_sample_args: {shown(negatives)} asks for negative items, and {trained.__name__} learns by "
            "cross-entropy (loss_type: CE), which takes none; leave it out"
        )
    if not given:
        settings["train_neg_sample_args"] = None


def settle_repeats(settings: dict[str, Any], trained: type, *, sequential: bool) -> None:
    """In a run with sequential models, what a user has had comes again for these alone: `repeatable` is False for others.

    RecBole's file for sequential models gives it, and general ones with it would draw training items as negatives.

    Args:
        settings: of the model, which are changed
        trained: the model's class, of distilled ones the student's
        sequential: whether the run is one
    """
    if sequential and getattr(trained, "type", None) != ModelType.SEQUENTIAL:
        settings["repeatable"] = False


def input_type_of(trained: type, loss_type: object) -> InputType | None:
    """What batches the loss of a model takes: its class says it, or the setting `loss_type`."""
    by_type = {"CE": InputType.POINTWISE, "BPR": InputType.PAIRWISE}
    found: InputType | None = getattr(trained, "input_type", by_type.get(str(loss_type)))
    return found
