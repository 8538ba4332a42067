"""What a loss reads and no batch would have is said before any training: negative items and labels."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from recbole.model.abstract_recommender import AbstractRecommender, AutoEncoderMixin
from recbole.utils import InputType, ModelType

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.split import make_split
from recbole_hetcomp.data.training_columns import check_training_columns, read_by_loss

KINDS = ("general", "context_aware", "knowledge_aware", "sequential")
MATCHED_LABELS = {"DIEN", "DIN", "MKR"}  # whose losses read labels elsewhere


def recboles_models() -> Iterator[type]:
    for kind in KINDS:
        package = importlib.import_module(f"recbole.model.{kind}_recommender")
        for name in (module.name for module in pkgutil.iter_modules(package.__path__)):
            module = importlib.import_module(f"{package.__name__}.{name}")
            for found in vars(module).values():
                if inspect.isclass(found) and issubclass(found, AbstractRecommender) and found.__module__ == module.__name__:
                    yield found


@pytest.mark.parametrize("model", recboles_models(), ids=lambda model: model.__name__)
def test_the_pairwise_models_of_recbole_read_negative_items_and_those_of_labels_read_labels(model) -> None:
    read, kind = read_by_loss(model), getattr(model, "input_type", None)
    if kind is not None:  # else it follows from the setting `loss_type`
        assert ("NEG_ITEM_ID" in read) == (kind == InputType.PAIRWISE and not issubclass(model, AutoEncoderMixin))
    names = "LABEL" in Path(inspect.getfile(model)).read_text(encoding="utf-8")
    if kind == InputType.POINTWISE and (names or model.type == ModelType.CONTEXT) and model.__name__ not in MATCHED_LABELS:
        assert "LABEL" in read


NO_NEGATIVES = {"train_neg_sample_args": None}
LABELLED = {"load_col": {"inter": ["user_id", "item_id", "rating"]}}

IN_TIME = {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "eval_args": {"order": "TO", "mode": "full"}}


@pytest.mark.parametrize(
    ("model", "given", "sentence"),
    [
        ("BPR", NO_NEGATIVES, "^train_neg_sample_args: BPR compares items with negative ones, and none are drawn; write"),
        ("CML", NO_NEGATIVES, "^train_neg_sample_args: CML compares items"),
        ("NeuMF", NO_NEGATIVES, "^train_neg_sample_args: NeuMF learns from labels, .* no column 'label'"),
        ("SASRec", {**NO_NEGATIVES, **IN_TIME, "loss_type": "BPR"}, "^train_neg_sample_args: SASRec compares items"),
        ("HetCompStudent", {**NO_NEGATIVES, "base_loss_weight": 1.0}, "^train_neg_sample_args: MF compares items"),
    ],
)
def test_a_loss_without_its_column_is_refused(make_config, model, given, sentence) -> None:
    config = make_config(model, **given)
    with pytest.raises(UserError, match=sentence):
        check_training_columns(config, make_split(config).whole)


@pytest.mark.parametrize(
    ("model", "given"),
    [
        ("BPR", {}),
        ("NeuMF", {}),
        ("MultiVAE", NO_NEGATIVES),
        ("ItemVAE", NO_NEGATIVES),
        ("EASE", NO_NEGATIVES),
        ("SASRec", {**NO_NEGATIVES, **IN_TIME, "loss_type": "CE"}),
        ("HetCompStudent", NO_NEGATIVES),
        ("NeuMF", {**NO_NEGATIVES, **LABELLED, "LABEL_FIELD": "rating"}),
        ("NeuMF", {**NO_NEGATIVES, **LABELLED, "threshold": {"rating": 3}}),
    ],
)
def test_a_loss_that_has_what_it_reads_is_not_refused(make_config, model, given) -> None:
    config = make_config(model, **given)
    check_training_columns(config, make_split(config).whole)
