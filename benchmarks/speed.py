"""Ours against the straightforward way, in turns, in one process, at CiteULike's shape.

The reference's loops over users are timed on a sample of users, its epoch on a sample of batches: both are linear.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import reference
import torch
from mass import bare_products, blocks_of_products
from recbole.data.interaction import Interaction
from synthetic import (
    N_ITEMS,
    N_STAGES,
    N_TEACHERS,
    N_USERS,
    SIZE,
    SyntheticDataset,
    Training,
    zipf_items,
)
from timing import Ratio, Row, interleaved
from torch import Tensor

from recbole_hetcomp.knowledge import Curriculum, ensemble_topk, rank_importance
from recbole_hetcomp.teachers import Trajectory

CUTOFF = 100  # rank at which the importance ends, the reference's too
SAMPLE = 200  # users on which the reference's loops are timed
STEP_USERS = 256
EPOCH_SAMPLE = 4  # batches of the reference's epoch


def curriculum_row(lists: Tensor) -> Row:
    """One check in which every pair moves, and new targets for all users."""
    student, teacher_topk = lists[0, 0].roll(1, 0)[:, :50], lists[..., :50]
    importance = rank_importance(torch.arange(CUTOFF)).expand(N_TEACHERS, 1, CUTOFF)
    merged_lists = lists[..., :CUTOFF].contiguous()  # as `Ensemble` reads them at that cut-off; the default settings' is 200
    everyone = torch.arange(N_USERS)
    curriculum = Curriculum(N_TEACHERS, N_USERS, N_STAGES)
    curriculum.advance(student, teacher_topk, 10)
    curriculum.reference.fill_(2.0)  # far enough for every pair to move
    started = curriculum.state_dict()

    def ours() -> None:
        curriculum.load_state_dict(started)
        curriculum.advance(student, teacher_topk, 20)
        ensemble_topk(merged_lists[torch.arange(N_TEACHERS)[:, None], curriculum.stage.long(), everyone], importance, 100)

    few = lists[:, :, :SAMPLE]
    importances = [[reference.dense_importance(few[x, e], N_ITEMS) for e in range(N_STAGES)] for x in range(N_TEACHERS)]
    of_student, of_teachers = student[:SAMPLE].numpy(), few.numpy()

    def theirs() -> None:
        stage, last = np.zeros((N_TEACHERS, SAMPLE), dtype=np.int64), np.full((N_TEACHERS, SAMPLE), 2.0)
        reference.curriculum_pass(of_student, of_teachers, stage, last, 1.04)
        reference.rebuild_targets(importances, stage)

    chosen = merged_lists[:, 1].contiguous()

    def merging() -> None:
        ensemble_topk(chosen, importance, 100)

    works = (ours, theirs, merging, least_work(lists, ensemble_topk(chosen, importance, 2 * CUTOFF)[1]))
    mine, dense, *parts = interleaved(*works, repeats=9)
    whole, merged, least = (median(times) / N_USERS * 1e6 for times in (mine, *parts))
    slow = median(dense) / SAMPLE * 1e6
    return Row(
        "DKC pass and target rebuild, µs a user",
        f"{whole:.0f}",
        f"{slow:,.0f}",
        Ratio.of(dense, mine, N_USERS / SAMPLE),
        200,
        bound=f"of the {whole:.0f} µs, merging {N_TEACHERS * CUTOFF:,} candidates takes {merged:.0f}, comparing "
        f"{2 * N_TEACHERS} pairs of lists {whole - merged:.0f}; the target leaves {slow / 200:.0f}. To look up the "
        f"{N_TEACHERS * CUTOFF:,} ids that are compared, to add up the {N_TEACHERS * CUTOFF:,} to be merged and to sort a "
        f"user's best, by torch's gather, scatter_add and topk and nothing else, takes {least:.0f}, which allows "
        f"{slow / least:.0f} x. The importance ends at rank 100 here, as in the presets; the default settings', which ends "
        "at 200, has twice the candidates to merge",
    )


def least_work(lists: Tensor, merged: Tensor) -> Callable[[], None]:
    """torch's gather, scatter_add and topk, and nothing else: each id looked up once, added up once, a user's best sorted.

    Args:
        merged: [U, n] the sums of a user's items, to select from
    """
    table = torch.zeros(2**19 // N_ITEMS, N_ITEMS, dtype=torch.int8)  # of a few users: the cache holds it
    sums = table.float()
    compared, added = (lists[:, stage, :, :CUTOFF].movedim(1, 0).flatten(1).long() for stage in (1, 2))
    blocks = list(zip(*(part.split(len(table)) for part in (compared, added, torch.rand(added.shape)))))

    def bare() -> None:
        for to_compare, to_add, weights in blocks:
            table[: len(weights)].gather(1, to_compare)
            sums[: len(weights)].scatter_add_(1, to_add, weights)
        merged.topk(100, dim=1)

    return bare


class Steps:
    """Training steps of both sides on the same data: the same student's size, lists, users and items."""

    def __init__(self, dataset: SyntheticDataset, lists: Tensor, generator: torch.Generator) -> None:
        self.generator = generator
        self.ours = Training(dataset, lists[0, 0, :, :100].contiguous())
        history = self.ours.student.history
        self.users = history.pairs // N_ITEMS  # of each interaction
        self.targets = lists[0, 0, :, :100].long()
        places = torch.arange(10) % history.counts.clamp(min=1)[:, None]  # a full list: the reference knows no padding
        self.observed = self.ours.student.observed.long().gather(1, places)
        self.mask = torch.ones(N_USERS, N_ITEMS)
        self.mask.view(-1)[history.pairs] = 0.0
        self.mask[:, 0] = 0.0
        self.user_table, self.item_table = (torch.nn.Embedding(n, SIZE) for n in (N_USERS, N_ITEMS))
        torch.nn.init.normal_(self.user_table.weight, std=0.01)
        torch.nn.init.normal_(self.item_table.weight, std=0.01)
        self.optimiser = torch.optim.Adam([*self.user_table.parameters(), *self.item_table.parameters()])

    def reference_step(self, users: Tensor) -> None:
        """One batch of unique users."""
        self.optimiser.zero_grad()
        scores = self.user_table(users) @ self.item_table.weight.T
        reference.fine_loss(scores, self.targets[users], self.observed[users], self.mask[users]).backward()
        self.optimiser.step()

    def row(self) -> Row:
        """A step of as many users on both sides."""
        users = torch.arange(1, STEP_USERS + 1)
        batch = Interaction({"user_id": users})
        bare, blocks = (products(STEP_USERS, SIZE, self.generator) for products in (bare_products, blocks_of_products))
        student = self.ours.student
        excluded = torch.cat([student.history.padded(users), self.targets[users, :50]], 1)

        def mass() -> None:
            student.vectors(users).log_mass(excluded).sum().backward()  # type: ignore[union-attr]

        works = (lambda: self.ours.step(batch), lambda: self.reference_step(users), bare, blocks, mass)
        mine, theirs, *parts = interleaved(*works, repeats=11)
        per_row = [median(times) / STEP_USERS * 1e3 for times in (mine, theirs, *parts)]
        return Row(
            f"training step of {STEP_USERS} users, ms a user row",
            f"{per_row[0]:.3f}",
            f"{per_row[1]:.3f}",
            Ratio.of(theirs, mine),
            10,
            bound=f"of {per_row[0]:.3f} ms, the log-mass and its gradient take {per_row[4]:.3f}, short lists and optimiser "
            f"the rest. An exact softmax with gradients of users and items is three products and an exp over the catalogue: "
            f"in blocks, and nothing else, they take {per_row[3]:.3f} ({per_row[2]:.3f} for two products and an exp of all "
            f"scores at once), which allows {per_row[1] / per_row[3]:.1f} x if all else is free",
        )

    def epoch_row(self) -> Row:
        """An epoch: each user once in ours, once an interaction (and at most once a batch) in the reference."""
        batches = reference.interaction_batches(self.users, self.generator)
        rows, sample = sum(map(len, batches)), batches[:EPOCH_SAMPLE]

        def theirs() -> None:
            for users in sample:
                self.reference_step(users)

        mine, dense = interleaved(self.ours.steps, theirs)
        scale = len(batches) / len(sample)
        return Row(
            "training epoch, s",
            f"{median(mine):.2f} ({N_USERS - 1:,} user rows)",
            f"{median(dense) * scale:.1f} ({rows:,} user rows; from {len(sample)} of {len(batches)} batches)",
            Ratio.of(dense, mine, scale),
            None,
            bound=f"{rows / (N_USERS - 1):.1f} x are the user rows, the rest is the step",
        )


def size_row(lists: Tensor) -> Row:
    """Bytes on disk of all trajectories against dense float32 importances."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.safetensors"
        Trajectory.from_lists(lists[0]).save(path)
        mine = path.stat().st_size * N_TEACHERS
    dense = N_TEACHERS * N_STAGES * N_USERS * N_ITEMS * 4
    return Row(
        "trajectories on disk, MiB",
        f"{mine / 2**20:.0f}",
        f"{dense / 2**20:,.0f} (computed)",
        Ratio(*[dense / mine] * 3),
        100,
        bound="the lists' depth",
    )


def items_table(generator: torch.Generator) -> list[list[str]]:
    """A training step as the catalogue grows: what an item costs, against the catalogue a tenth as large."""
    sizes = (10_000, 100_000, 1_000_000)
    seconds = interleaved(*(_step_with(n_items, generator) for n_items in sizes))
    rows = []
    for place, (n_items, taken) in enumerate(zip(sizes, seconds)):
        per_row = median(taken) / 64
        growth = ["", ""]
        if place:
            ratio = Ratio.of(taken, seconds[place - 1], sizes[place - 1] / n_items).middle
            growth = [f"{ratio:.2f} x", "yes" if ratio <= 1.3 else "no"]
        rows.append([f"{n_items:,}", f"{per_row * 1e3:.3f}", f"{per_row / n_items * 1e9:.2f}", *growth])
    return rows


def _step_with(n_items: int, generator: torch.Generator) -> Callable[[], None]:
    dataset = SyntheticDataset(1_001, n_items, generator)
    training = Training(dataset, zipf_items((1_001, 100), n_items, generator).int())
    batch = Interaction({"user_id": torch.arange(1, 65)})
    return lambda: training.step(batch)
