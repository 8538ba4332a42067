"""One table for predictions of clicks: every teacher, their mean logit, the student without and with distillation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from recbole.data.dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from torch import Tensor, nn

from recbole_hetcomp.config import Config
from recbole_hetcomp.console import Table
from recbole_hetcomp.data.split import Loaders
from recbole_hetcomp.evaluation.comparison import Row
from recbole_hetcomp.evaluation.delong import METRICS, Clicks, difference
from recbole_hetcomp.evaluation.efficiency import milliseconds_per_thousand, n_parameters
from recbole_hetcomp.evaluation.on_test import metrics_of
from recbole_hetcomp.evaluation.operations import multiply_adds
from recbole_hetcomp.model.context_student import OfClicks
from recbole_hetcomp.teachers.context import ContextTeachers, LogitsOf

SAMPLE = 1000  # rows that are predicted to measure what a prediction costs
COLUMNS = (
    "role",
    "model",
    "params",
    "multiply_adds",
    "ms_per_1000",
    "fidelity",
    "trials",
    "against",
)
STUDENT, ALONE = "student", "student without distillation"


class MeanLogit(OfClicks):
    """Several context-aware models as one, which predicts by the mean of their logits.

    Args:
        config: of the run
        teachers: the models
    """

    def __init__(self, config: Config, teachers: ContextTeachers) -> None:
        super().__init__(config, None)
        self.models = nn.ModuleList([teacher.model for teacher in teachers.teachers])
        self.teachers = teachers

    def predict(self, interaction: Interaction) -> Tensor:
        """[B]: the probability of a click for each row."""
        return torch.sigmoid(self.teachers.logits(interaction))


def costs_of(model: AbstractRecommender, rows: Interaction) -> dict[str, float]:
    """Parameters, multiply-adds of a prediction, and milliseconds for 1,000 predictions."""
    rows = rows.to(model.device)
    model.eval()
    with torch.no_grad():
        milliseconds = milliseconds_per_thousand(lambda: model.predict(rows), len(rows))
    return {"params": n_parameters(model), "multiply_adds": multiply_adds(model, rows), "ms_per_1000": milliseconds}


def sampled_rows(loader: AbstractDataLoader) -> Interaction:
    """Up to SAMPLE rows of the loader's part, with all columns."""
    return loader._dataset[torch.arange(min(SAMPLE, len(loader._dataset)))]


@torch.no_grad()
def clicks_of(model: AbstractRecommender, loader: AbstractDataLoader, label: str) -> Clicks:
    """What a model predicts for each row of a loader, and the labels."""
    model.eval()
    ask = model.teachers.logits if isinstance(model, MeanLogit) else LogitsOf(getattr(model, "backbone", model))
    found, labels = [], []
    for interaction, *_ in loader:
        found.append(ask(interaction.to(model.device)).double().cpu())
        labels.append(interaction[label])
    return Clicks(torch.cat(labels).numpy() > 0, torch.cat(found).numpy())


def click_rows(
    teachers: ContextTeachers, students: Mapping[str, tuple[str, AbstractRecommender]], config: Config, loaders: Loaders
) -> list[Row]:
    """A row for each teacher, one for their ensemble, and one for each of the students, by their roles.

    The student's has `against`: by role and metric, its `difference` from the ensemble and from the student alone.
    """
    ensemble = MeanLogit(config, teachers)
    name = "1 teacher" if len(teachers.teachers) == 1 else f"{len(teachers.teachers)} teachers"
    models = [("teacher", teacher.name, teacher.model) for teacher in teachers.teachers]
    models += [("ensemble", name, ensemble), *((role, called, model) for role, (called, model) in students.items())]
    sample = sampled_rows(loaders.test)
    rows = [
        {"role": role, "model": called, **metrics_of(model, config, loaders), **costs_of(model, sample)}
        for role, called, model in models
    ]
    label = config["LABEL_FIELD"]
    theirs = clicks_of(ensemble, loaders.test, label)
    ours = {role: clicks_of(model, loaders.test, label) for role, (_, model) in students.items()}
    for role, clicks in ours.items():
        row = next(row for row in rows if row["role"] == role)
        row["fidelity"] = r_squared(clicks.logits, theirs.logits)
    taught = ours.pop(STUDENT)
    rows[-1]["against"] = {
        role: {metric: difference([taught], [clicks], metric)._asdict() for metric in METRICS}
        for role, clicks in {"ensemble": theirs, **ours}.items()
    }
    return rows


def r_squared(found: np.ndarray, wanted: np.ndarray) -> float:
    """1 - sum of squared errors / sum of squares about the mean: how near `found` [N] is to `wanted` [N]; at most 1."""
    around = float(((wanted - wanted.mean()) ** 2).sum())
    return 1 - float(((wanted - found) ** 2).sum()) / around if around else float(np.array_equal(found, wanted))


def click_table(rows: Sequence[Row]) -> Table:
    """The rows as a table."""
    metrics = [name for name in rows[0] if name not in COLUMNS]
    searched = any(row.get("trials") for row in rows)
    headers = [
        "role",
        "model",
        *metrics,
        "params",
        "multiply-adds",
        "ms / 1,000 rows",
        "fidelity R²",
        *["trials"] * searched,
    ]
    cells = [
        [
            row["role"],
            row["model"],
            *(f"{row[name]:.4f}" for name in metrics),
            f"{row['params']:,}",
            f"{row['multiply_adds']:,.0f}",
            f"{row['ms_per_1000']:.2f}",
            f"{row['fidelity']:.3f}" if "fidelity" in row else "",
            *[str(row.get("trials") or 0)] * searched,
        ]
        for row in rows
    ]
    return Table(headers, cells, n_left=2, dispensable=[*["trials"] * searched, "ms / 1,000 rows", "params", "role"])


def click_remark(rows: Sequence[Row]) -> str:
    """How far the student is from the one without distillation, in words; "" where there is none."""
    parts = [
        f"{metric} {part['mean']:+.4f} ({part['low']:+.4f} to {part['high']:+.4f})"
        for metric, part in rows[-1].get("against", {}).get(ALONE, {}).items()
    ]
    return f"student - student without distillation, 95 % intervals over the test rows: {', '.join(parts)}" if parts else ""
