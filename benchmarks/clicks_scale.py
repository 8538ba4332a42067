"""Millions of synthetic rows in memory bounded by a batch: `python benchmarks/clicks_scale.py --rows=10000000`.

A teacher, RecBole's FM, and a student, `KDDAGFMStudent` with a DAGFM in its first phase, are trained on rows that are drawn
batch by batch and never stored. Prints seconds, rows a second, the AUC on fresh rows, and peak memory above that before the
first row: at a tenth of the rows, and at the end. The two are alike where memory does not grow with the rows.
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
from recbole.data.interaction import Interaction
from recbole.model.context_aware_recommender.fm import FM
from recbole.utils import FeatureType
from torch import Tensor

from recbole_hetcomp import Config
from recbole_hetcomp.evaluation.delong import Clicks, auc_parts
from recbole_hetcomp.model.distilled_recommender.kddagfmstudent import KDDAGFMStudent
from recbole_hetcomp.teachers.context import ContextTeacher, ContextTeachers, LogitsOf

FIELDS = {"user_id": 100_000, "item_id": 50_000, **{f"feature{i}": 100 for i in range(8)}}
SETTINGS = {"embedding_size": 8, "interaction": "inner", "depth": 2, "numerical_features": [], "LABEL_FIELD": "label"}


class Stream:
    """A dataset of rows that are drawn as they are asked for; a click is likely by a hidden factorisation machine.

    Args:
        seed: of the hidden machine
        rows: how many it has
    """

    field2type = dict.fromkeys(FIELDS, FeatureType.TOKEN)

    def __init__(self, seed: int, rows: int) -> None:
        self.rows = rows
        generator = torch.Generator().manual_seed(seed)
        self.vectors = {name: torch.randn(n, 4, generator=generator) / 4 for name, n in FIELDS.items()}

    def fields(self, source: object) -> list[str]:
        """The names of the columns."""
        return list(FIELDS)

    def num(self, field: str) -> int:
        """How many ids a column has."""
        return FIELDS[field]

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, rows: Tensor) -> Interaction:
        return next(self.batches(len(rows), len(rows), seed=3))

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


def train(model: Any, stream: Stream, flags: argparse.Namespace) -> dict[str, float]:
    """Train on `rows` rows; seconds, and the peak memory in MiB above that at the start, at a tenth and at the end."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    started, before, tenth, seen = perf_counter(), peak(), 0.0, 0
    for batch in stream.batches(flags.rows, flags.batch, seed=1):
        optimizer.zero_grad()
        loss = model.calculate_loss(batch)
        (sum(loss) if isinstance(loss, tuple) else loss).backward()
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
    logits, found, labels = LogitsOf(getattr(model.eval(), "backbone", model)), [], []
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
    config = Config("KDDAGFMStudent", "ml-100k", config_dict={**SETTINGS, "use_gpu": False}, arguments=())
    torch.manual_seed(0)
    stream = Stream(0, flags.rows)
    teacher, student = FM(config, stream), KDDAGFMStudent(config, stream)
    found = {"teacher": train(teacher, stream, flags)}
    found["teacher"]["auc"] = auc(teacher, stream, flags.batch)
    student.learn_from(ContextTeachers([ContextTeacher("FM", teacher.eval(), "")]))
    found["student"] = train(student, stream, flags)
    found["student"]["auc"] = auc(student, stream, flags.batch)
    print(json.dumps(found, indent=1))
    return found


if __name__ == "__main__":
    main()
