"""Whether rows of clicks have labels, 0 or 1, and both of them in each part: without that there is no AUC."""

from __future__ import annotations

import torch

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError, shown
from recbole_hetcomp.data.split import Split


def check_labels(config: Config, split: Split) -> None:
    """Raise a UserError unless the rows of each part have the labels 0 and 1, before anything is trained."""
    label = config["LABEL_FIELD"]
    if label not in split.whole.inter_feat.columns:  # it comes with drawn negatives
        return
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
