"""TinTeM's claim: a student that learns the teacher's directions keeps its geometry better than one that is lifted to it.

`python benchmarks/kept_cosines.py [--seeds=3] [--epochs=40]` distils BPR of size 64 into MF of size 8 on MovieLens-100K. For
each student: Spearman's correlation of its cosines with the teacher's, over 200,000 pairs of users and items of any kind,
and how many of the teacher's best 50 unseen items of a user are among the student's.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from statistics import mean
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn.functional import normalize

from recbole_hetcomp.commands.pipeline import run_hetcomp
from recbole_hetcomp.config import Config
from recbole_hetcomp.data.split import make_split
from recbole_hetcomp.teacher_training.scheduling import build_pool
from recbole_hetcomp.teachers.ranking import top_unobserved

K, PAIRS = 50, 200_000
SETTINGS: dict[str, Any] = {
    "teachers": ["BPR"],
    "without_distillation": False,
    "split_seed": 2020,
    "show_progress": False,
    "state": "ERROR",
    "use_gpu": False,
}
LABEL_FREE = {"base_loss_weight": 0.0, "user_batches": True}
STUDENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "TinTeM, mips": ("TinTeMStudent", {}),
    "TinTeM, plain": ("TinTeMStudent", {"norm": "plain"}),
    "TinTeM, mips, principal directions (head_steps: 0)": ("TinTeMStudent", {"head_steps": 0}),
    "FitNet": ("FitNetStudent", {}),
    "FitNet, affine, without labels": ("FitNetStudent", {"hidden_ratio": 0, **LABEL_FREE}),
    "MF without distillation": ("FitNetStudent", {"distillation_weight": 0.0}),
}


def correlation(own: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor], active: Tensor) -> float:
    """Spearman's, of cosines between users and items of any kind."""
    rows = [normalize(torch.cat([users[active], items[1:]]).double(), dim=1) for users, items in (own, theirs)]
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randint(len(rows[0]), (2, PAIRS), generator=generator)
    different = one != other
    return float(spearmanr(*((part[one] * part[other]).sum(1)[different] for part in rows)).statistic)


def main() -> None:
    """Train all students, print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="of the teacher and of each student at most; by default their own")
    flags = parser.parse_args()
    seeds, shorter = range(flags.seeds), {} if flags.epochs is None else {"epochs": flags.epochs}
    settings = {**SETTINGS, **shorter, "teacher_config": {"BPR": {"embedding_size": 64, **shorter}}}
    os.chdir(tempfile.mkdtemp())
    config = Config("HetCompStudent", "ml-100k", config_dict=settings, arguments=())
    split = make_split(config)
    teacher = build_pool(config, split).teachers[0]
    theirs = teacher.embeddings()
    assert theirs is not None
    lists = teacher.topk(K)
    users = split.history.active_users
    print("| student | Spearman of cosines | overlap@50 | test NDCG@10 |\n|---|---|---|---|")
    for name, (method, changes) in STUDENTS.items():
        found = []
        for seed in seeds:
            given = {**settings, **changes, "seed": 2020 + seed}
            result = run_hetcomp(method, "ml-100k", config_dict=given, arguments=(), compare=False)
            model = result["model"].eval()
            of_users, of_items = (table.detach() for table in model.embeddings())
            ranked = top_unobserved(model, split.history, K)[users]
            shared = (ranked[:, :, None] == lists[users][:, None]).any(2).double().mean()
            found.append((correlation((of_users, of_items), theirs, users), float(shared), result["test_result"]["ndcg@10"]))
        print(f"| {name} | " + " | ".join(f"{mean(column):.4f}" for column in zip(*found)) + " |", flush=True)


if __name__ == "__main__":
    main()
