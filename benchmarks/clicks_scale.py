"""Millions of synthetic rows in memory bounded by a batch: `python benchmarks/clicks_scale.py --rows=10000000`.

A teacher and a student of clicks are trained on rows that are drawn batch by batch and never stored, the student by the loss
of `KDDAGFMStudent` in its first phase. Prints seconds, rows a second, the AUC on fresh rows, peak memory above that before
the first row: at a tenth of the rows, and at the end. The two are alike where memory does not grow with the rows.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data.interaction import Interaction
from recbole.model.context_aware_recommender.fm import FM
from recbole.utils import FeatureType
from torch import Tensor

from recbole_hetcomp.evaluation.delong import Clicks, auc_parts
from recbole_hetcomp.model.context_aware_recommender.dagfm import DAGFM
from recbole_hetcomp.teachers.context import ContextTeacher, ContextTeachers, LogitsOf

FIELDS = {"user_id": 100_000, "item_id": 50_000, **{f"feature{i}": 100 for i in range(8)}}
CONFIG: dict[str, Any] = {
    "LABEL_FIELD": "label",
    "device": torch.device("cpu"),
    "embedding_size": 8,
    "numerical_features": [],
    "interaction": "inner",
    "depth": 2,
    "mlp_hidden_size": None,
    "double_tower": None,
}


class Columns:
    """What a context-aware model asks of a dataset: names, types and sizes of the columns."""

    field2type = dict.fromkeys(FIELDS, FeatureType.TOKEN)

    def fields(self, source: object) -> list[str]:
        """The names of the columns."""
        return list(FIELDS)

    def num(self, field: str) -> int:
        """How many ids a column has."""
        return FIELDS[field]


class Stream:
    """Rows that are drawn as they are asked for; a click is likely by a hidden factorisation machine.

    Args:
        seed: of the hidden machine
    """

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.vectors = {name: torch.randn(n, 4, generator=generator) / 4 for name, n in FIELDS.items()}

    def batches(self, rows: int, size: int, seed: int) -> Iterator[Interaction]:
        """`rows` rows, `size` at a time."""
        generator = torch.Generator().manual_seed(seed)
        for start in range(0, rows, size):
            n = min(size, rows - start)
            ids = {name: torch.randint(1, count, (n,), generator=generator) for name, count in FIELDS.items()}
            yield Interaction({**ids, "label": torch.bernoulli(self.chances(ids), generator=generator)})

    def chances(self, ids: dict[str, Tensor]) -> Tensor:
        """[B] the probability of a click."""
        states = torch.stack([self.vectors[name][found] for name, found in ids.items()])
        pairs = states.sum(0) ** 2 - (states**2).sum(0)
        return torch.sigmoid(pairs.sum(-1))


def train(model: Any, stream: Stream, flags: argparse.Namespace, teachers: ContextTeachers | None) -> dict[str, float]:
    """Train on `rows` rows; seconds, and the peak memory in MiB above that at the start, at a tenth and at the end."""
    optimizer, logits = torch.optim.Adam(model.parameters(), lr=0.01), LogitsOf(model)
    started, before, tenth, seen = perf_counter(), peak(), 0.0, 0
    for batch in stream.batches(flags.rows, flags.batch, seed=1):
        optimizer.zero_grad()
        loss = model.calculate_loss(batch)
        if teachers is not None:
            loss = 0.1 * loss + torch.nn.functional.mse_loss(logits(batch), teachers.logits(batch))
        loss.backward()
        optimizer.step()
        seen += len(batch)
        tenth = tenth or (peak() - before) * (seen >= flags.rows / 10)
    seconds = perf_counter() - started
    return {"seconds": seconds, "rows_a_second": seen / seconds, "mib_at_a_tenth": tenth, "mib_at_the_end": peak() - before}


def peak() -> float:
    """The largest resident size of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@torch.no_grad()
def auc(model: Any, stream: Stream, size: int) -> float:
    """On 100,000 fresh rows."""
    logits, found, labels = LogitsOf(model.eval()), [], []
    for batch in stream.batches(100_000, size, seed=2):
        found.append(logits(batch).double().numpy())
        labels.append(batch["label"].numpy() > 0)
    return float(auc_parts(Clicks(np.concatenate(labels), np.concatenate(found)))[0].mean())


def main(arguments: list[str] | None = None) -> dict[str, dict[str, float]]:
    """Run it and print what was measured as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--batch", type=int, default=4096)
    flags = parser.parse_args(arguments)
    Config.compatibility_settings(None)  # numpy's old names, which RecBole's models use
    torch.manual_seed(0)
    stream, columns = Stream(0), Columns()
    teacher, student = FM(CONFIG, columns), DAGFM(CONFIG, columns)
    found = {"teacher": train(teacher, stream, flags, None)}
    found["teacher"]["auc"] = auc(teacher, stream, flags.batch)
    teachers = ContextTeachers([ContextTeacher("FM", teacher.eval(), "")])
    found["student"] = train(student, stream, flags, teachers)
    found["student"]["auc"] = auc(student, stream, flags.batch)
    print(json.dumps(found, indent=1))
    return found


if __name__ == "__main__":
    main()
