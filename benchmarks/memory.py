"""Peak memory, each case in a process of its own: `python benchmarks/memory.py <case> ...` prints it as JSON.

Of the distillation (lists read, targets built, ranked, one check of the curriculum, new targets, a few steps) on both sides,
and of training alone as users grow.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import reference
import torch
from synthetic import N_ITEMS, N_STAGES, N_TEACHERS, N_USERS, SIZE, SyntheticDataset, Training
from timing import Ratio, Row, in_child, peak_bytes, reset_peak, use_threads
from torch import Tensor

from recbole_hetcomp.data.history import History
from recbole_hetcomp.knowledge import Curriculum
from recbole_hetcomp.teachers import Trajectory
from recbole_hetcomp.teachers.ensemble import Ensemble
from recbole_hetcomp.teachers.pool import Teacher, TeacherPool
from recbole_hetcomp.teachers.ranking import top_unobserved

STEPS = 5
BATCH = 512  # users of the reference's steps; 1,024 interactions have more
FRACTIONS = (8, 4)  # of the users, on which the reference is measured: a line through both gives all
USERS = (10_000, 100_000, 1_000_000)
GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": "4194304"}  # glibc returns larger pieces when they are freed, and keeps none


def distillation_row(lists: Tensor) -> Row:
    """Ours at full shape; the reference at an eighth and a quarter of the users, continued along the line."""
    with tempfile.TemporaryDirectory() as folder:
        for x, of_teacher in enumerate(lists):
            Trajectory.from_lists(of_teacher).save(_file(folder, x))
        bare = in_child("memory.py", "bare")["peak"]
        ours = in_child("memory.py", "ours", folder)["peak"] - bare
        eighth, quarter = (in_child("memory.py", "dense", folder, N_USERS // part)["peak"] - bare for part in FRACTIONS)
    slope = (quarter - eighth) / (N_USERS // FRACTIONS[1] - N_USERS // FRACTIONS[0])
    dense = quarter + slope * (N_USERS - N_USERS // FRACTIONS[1])
    return Row(
        "peak memory of the distillation, MiB above a process with libraries and embeddings",
        f"{ours / 2**20:,.0f}",
        f"{dense / 2**20:,.0f} (from {eighth / 2**20:,.0f} and {quarter / 2**20:,.0f} at 1/8 and 1/4 of the users)",
        Ratio(*[dense / ours] * 3),
        None,
        bound="the teachers' lists, once as mapped files and once together, and two blocks of scores of 64 MiB each",
    )


def bare() -> dict[str, int]:
    """The libraries, the student's embeddings, and an optimiser for what torch imports with the first one."""
    tables = torch.nn.ModuleList(torch.nn.Embedding(n, SIZE) for n in (N_USERS, N_ITEMS))
    torch.optim.Adam(tables.parameters())
    return {"peak": peak_bytes()}


def ours(folder: str) -> dict[str, int]:
    """The product: lists from files, targets, a ranking, a check, steps of training."""
    dataset = SyntheticDataset(N_USERS, N_ITEMS, torch.Generator().manual_seed(1))
    history = History.of(dataset)  # type: ignore[arg-type]
    pool = TeacherPool([Teacher(str(x), Trajectory.load(_file(folder, x))) for x in range(N_TEACHERS)])
    training = Training(dataset, torch.zeros(0))
    ensemble = Ensemble.from_config(pool, training.student.config)
    curriculum = Curriculum(N_TEACHERS, N_USERS, N_STAGES)
    for epoch in (10, 20):
        ranked = top_unobserved(training.student, history, 50)
        curriculum.advance(ranked, ensemble.items[..., :50], epoch)
        training.student.current_lists.targets = ensemble.topk(100, curriculum.stage.long())
        training.steps(STEPS)
    return {"peak": peak_bytes()}


def dense(folder: str, n_users: str) -> dict[str, int]:
    """The straightforward way: importances, mask and scores as users x items."""
    count = int(n_users)
    dataset = SyntheticDataset(count, N_ITEMS, torch.Generator().manual_seed(1))
    history = History.of(dataset)  # type: ignore[arg-type]
    lists = [Trajectory.load(_file(folder, x)).items[:, :count].clone() for x in range(N_TEACHERS)]
    importances = [[reference.dense_importance(items, N_ITEMS) for items in of_teacher] for of_teacher in lists]
    mask = torch.ones(count, N_ITEMS)
    mask.view(-1)[history.pairs] = 0.0
    users, items = (torch.nn.Embedding(n, SIZE) for n in (count, N_ITEMS))
    optimiser = torch.optim.Adam([*users.parameters(), *items.parameters()])
    of_teachers = torch.stack(lists).numpy()
    stage, last = np.zeros((N_TEACHERS, count), dtype=np.int64), np.full((N_TEACHERS, count), 2.0)
    ranked = reference.student_topk(users.weight.detach(), items.weight.detach(), mask)
    reference.curriculum_pass(ranked.numpy(), of_teachers, stage, last, 1.04)
    targets = reference.rebuild_targets(importances, stage)
    for _ in range(STEPS):
        batch = torch.randperm(count)[:BATCH]
        optimiser.zero_grad()
        scores = users(batch) @ items.weight.T
        reference.fine_loss(scores, targets[batch], targets[batch, :10], mask[batch]).backward()
        optimiser.step()
    return {"peak": peak_bytes()}


def users_table() -> list[list[str]]:
    """Peak memory of training as users grow, without what is known to grow: embeddings, gradients, Adam's state, lists."""
    measured = [in_child("memory.py", "training", n_users, **GIVEN_BACK) for n_users in USERS]
    rests = [one["peak"] - one["known"] for one in measured]
    rows = []
    for n_users, one, rest in zip(USERS, measured, rests):
        megabytes = [f"{size / 2**20:,.0f}" for size in (one["peak"], one["known"], rest, rest - one["idle"])]
        growth, added = rest / rests[0], (rest - rests[0]) / max(1, n_users - USERS[0])
        further = [f"{growth:.2f} x", "yes" if growth <= 1.2 else "no", f"{added:.0f}"] if rows else ["", "", ""]
        rows.append([f"{n_users:,}", *megabytes, *further])
    return rows


def training(n_users: str) -> dict[str, int]:
    """The peak while a student trains, the bytes that are accounted for, and those of a process that trained a tiny one."""
    _training_with(100, 200).steps(STEPS)
    reset_peak()
    idle = peak_bytes()
    of_training = _training_with(int(n_users), N_ITEMS)
    reset_peak()
    of_training.steps(STEPS)
    return {"peak": peak_bytes(), "known": of_training.known_bytes(), "idle": idle}


def _training_with(n_users: int, n_items: int) -> Training:
    generator = torch.Generator().manual_seed(1)
    targets = torch.randint(1, n_items, (n_users, 100), dtype=torch.int32, generator=generator)
    return Training(SyntheticDataset(n_users, n_items, generator, mean=10.0), targets)


def _file(folder: str, teacher: int) -> Path:
    return Path(folder) / f"{teacher}.safetensors"


CASES = {case.__name__: case for case in (bare, ours, dense, training)}

if __name__ == "__main__":
    use_threads()
    print(json.dumps(CASES[sys.argv[1]](*sys.argv[2:])))  # type: ignore[operator]
