"""Whether rows of clicks have labels, 0 or 1, and both of them in each part; and whether they would be kept."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError, shown
from recbole_hetcomp.data.split import Split
from recbole_hetcomp.data.training_columns import NONE


def check_drawn(config: Config, split: Split, where: str = "") -> None:
    """Raise a UserError where negatives are drawn beside rows without a click, of which RecBole would make clicks.

    Args:
        config: of the run, of a teacher or of the student alone
        split: with the rows
        where: before the sentence, the setting that `config` is made from
    """
    label, drawn = config["LABEL_FIELD"], config["train_neg_sample_args"]
    if not isinstance(drawn, Mapping) or drawn["distribution"] == NONE or label not in split.whole.inter_feat.columns:
        return
    if bool((torch.as_tensor(split.parts[0].inter_feat[label]) == 0).any()):
        raise UserError(
            f"{where}train_neg_sample_args: {shown(drawn['distribution'])} draws negatives, beside which all rows count as "
            f"clicks, and {shown(label)} has rows without one; leave train_neg_sample_args out"
        )


def check_labels(config: Config, split: Split) -> None:
    """Raise a UserError unless the rows of each part have the labels 0 and 1, before anything is trained."""
    label = config["LABEL_FIELD"]
    if label not in split.whole.inter_feat.columns:  # it comes with drawn negatives
        return
    check_drawn(config, split)
    for name, part in zip(("training", "validation", "test"), split.parts):
        values = torch.as_tensor(part.inter_feat[label]).unique()
        if not set(values.tolist()) <= {0.0, 1.0}:
            odd = next(value for value in values.tolist() if value not in (0.0, 1.0))
            raise UserError(
                f"LABEL_FIELD: {shown(label)} holds {odd:g}, and a label is 0 or 1; make labels of ratings: "
                "--threshold=\"{'rating':4}\""
            )
        if len(values) < 2:
            raise UserError(
                f"LABEL_FIELD: all rows of the {name} part have the same {shown(label)}; change threshold or eval_args"
            )
