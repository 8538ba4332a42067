"""OKD's claim: its adapters bring the teacher nearer to the student than it was, for users whom they never met.

A fifth of the users is in no batch of the distillation, neither the student's nor the adapters'; they learn from their own
interactions alone. On these users KL(p_S || p'_T) of the adapted teacher is set against KL(p_S || p_T) of the teacher as it
was, over fresh candidates, with the student and the adapters of the last epoch. Beside it mu = 0, where nothing draws the
adapters to the student.

    python benchmarks/teacher_meets_student.py --dataset=ml-100k --teachers="['BPR']"
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from tabulate import tabulate
from torch import Tensor

from recbole_hetcomp.losses.divergence import kullback_leibler
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.distilled_recommender.okdstudent import OKDStudent
from recbole_hetcomp.quick_start import run_hetcomp

NEVER_MET = 5  # every fifth user
DRAWS = 20  # of candidates, for each of these users


def met(users: Tensor) -> Tensor:
    """[B] bool: which of the users may be in a batch of the distillation."""
    return users % NEVER_MET > 0


def gaps(model: OKDStudent) -> tuple[float, float]:
    """Mean KL(p_S || p'_T) and KL(p_S || p_T), in nats, over the users that were never met."""
    users = model.history.active_users
    users = users[~met(users)]
    found = []
    with torch.no_grad():
        for _ in range(DRAWS):
            items = model.candidates(users).to(model.device)
            ids = users.to(model.device)
            own = model.of_student(ids, items)
            both = [model.of_teacher(ids, items, adapted=adapted) for adapted in (True, False)]
            found.append([kullback_leibler(own, other, items > 0).mean() for other in both])
    adapted, frozen = torch.tensor(found, dtype=torch.float64).mean(0).tolist()
    return adapted, frozen


@contextmanager
def watched(measured: list[tuple[float, float]]) -> Iterator[None]:
    """Within it, the distillation meets no fifth user, and what a training ends with is measured."""
    loss, finish = OKDStudent.distillation_loss, OKDStudent.finish_training

    def of_those_met(model: OKDStudent, batch: Batch) -> Tensor:
        return loss(model, Batch(batch.on_cpu.users[met(batch.on_cpu.users)], None).to(model.device))

    def measuring(model: OKDStudent) -> None:
        measured.append(gaps(model))
        finish(model)

    with patch.object(OKDStudent, "distillation_loss", of_those_met), patch.object(OKDStudent, "finish_training", measuring):
        yield


def rows(arguments: argparse.Namespace) -> list[list[Any]]:
    """A row for each mu and seed."""
    found = []
    for mu in arguments.mu:
        for seed in range(arguments.seed, arguments.seed + arguments.seeds):
            settings = {"student": "MF", "embedding_size": arguments.embedding_size, "without_distillation": False}
            settings |= {"teachers": ast.literal_eval(arguments.teachers), "student_weight": mu, "seed": seed}
            settings |= {"resume": False, "show_progress": False}
            settings |= {} if arguments.epochs is None else {"epochs": arguments.epochs}
            settings |= {} if arguments.rho is None else {"teacher_weight": arguments.rho}
            measured: list[tuple[float, float]] = []
            with watched(measured):
                result = run_hetcomp("OKDStudent", arguments.dataset, config_dict=settings, arguments=(), compare=False)
            (adapted, frozen), test = measured[-1], result["test_result"]
            found.append([mu, seed, f"{adapted:.4f}", f"{frozen:.4f}", f"{adapted / frozen:.3f}", test["ndcg@10"]])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--teachers", default="['BPR']")
    parser.add_argument("--embedding_size", type=int, default=8)
    parser.add_argument("--mu", type=float, nargs="+", default=[0.5, 0.0])
    parser.add_argument(
        "--rho", type=float, help="weight of the divergence from the teacher as it was; otherwise the default"
    )
    parser.add_argument("--epochs", type=int, help="of the student, at most; otherwise until it stops by itself")
    parser.add_argument("--seed", type=int, default=2020)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    header = ["mu", "seed", "KL(p_S, p'_T)", "KL(p_S, p_T)", "ratio", "student's NDCG@10"]
    table = tabulate(rows(arguments), header, tablefmt="github", disable_numparse=True)
    what = f"{arguments.dataset}, teachers {arguments.teachers}, MF of size {arguments.embedding_size}"
    print(f"\n{what}; every user of number {NEVER_MET} n is never met.\n\n{table}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
