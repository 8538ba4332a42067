"""Speed, memory and size at CiteULike's shape, as ratios within one run: `make bench` writes benchmarks/results.md.

Ours and the reference run in the same process, one after the other, on the same numbers; a figure is a median of five.
The reference's loops over users are timed on a sample of users and given a user, since they are linear in users.
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import psutil
import reference
import torch
from tabulate import tabulate
from torch import Tensor

from recbole_hetcomp.history import History
from recbole_hetcomp.knowledge import Curriculum, ensemble_topk, rank_importance
from recbole_hetcomp.losses.streaming import Vectors, log_mass, streamed_fine_loss
from recbole_hetcomp.teachers import Trajectory

N_TEACHERS, N_STAGES, N_USERS, N_ITEMS, DEPTH, SIZE = 6, 4, 5_220, 25_182, 200, 8
SAMPLE = 200  # users on which the reference's loops are timed
REPEATS = 5


def seconds(work: Callable[[], object]) -> float:
    """Median seconds of `work`, after one run to warm up."""
    work()
    times = []
    for _ in range(REPEATS):
        started = perf_counter()
        work()
        times.append(perf_counter() - started)
    return median(times)


def ranked_lists(generator: torch.Generator) -> Tensor:
    """[X, E, U, L] int32 lists that overlap as teachers' do: noisy copies of one order a user."""
    base = torch.stack([torch.randperm(N_ITEMS - 1, generator=generator)[: 3 * DEPTH] + 1 for _ in range(N_USERS)])
    lists = torch.empty(N_TEACHERS, N_STAGES, N_USERS, DEPTH, dtype=torch.int32)
    for x in range(N_TEACHERS):
        for e in range(N_STAGES):
            noise = torch.arange(3 * DEPTH) + torch.randn(N_USERS, 3 * DEPTH, generator=generator) * 60
            lists[x, e] = base.gather(1, noise.argsort(1)[:, :DEPTH]).int()
    return lists


def curriculum_row(lists: Tensor, generator: torch.Generator) -> list[str]:
    """One check of all pairs and new targets for all users."""
    student = lists[0, 0].roll(1, 0)[:, :50]
    teacher_topk = lists[..., :50]
    ranks = torch.arange(DEPTH).expand(N_TEACHERS, N_USERS, DEPTH)

    def ours() -> None:
        curriculum = Curriculum(N_TEACHERS, N_USERS, N_STAGES)
        curriculum.advance(student, teacher_topk, 10)
        curriculum.reference.fill_(2.0)  # so that every pair moves
        curriculum.advance(student, teacher_topk, 20)
        stage, pairs = curriculum.stage.long(), torch.arange(N_TEACHERS)[:, None]
        ensemble_topk(lists[pairs, stage, torch.arange(N_USERS)], rank_importance(ranks), 100)

    few = lists[:, :, :SAMPLE]
    importances = [[reference.dense_importance(few[x, e], N_ITEMS) for e in range(N_STAGES)] for x in range(N_TEACHERS)]
    of_student, of_teachers = student[:SAMPLE].numpy(), few.numpy()

    def theirs() -> None:
        stage, last = np.zeros((N_TEACHERS, SAMPLE), dtype=np.int64), np.full((N_TEACHERS, SAMPLE), 2.0)
        reference.curriculum_pass(of_student, of_teachers, stage, last, 1.04)
        reference.rebuild_targets(importances, stage)

    mine, dense = seconds(ours) / N_USERS, seconds(theirs) / SAMPLE
    return [
        "DKC pass and target rebuild, µs a user",
        f"{mine * 1e6:.1f}",
        f"{dense * 1e6:.0f}",
        f"{dense / mine:.0f} x",
        "200 x",
    ]


def training_row(lists: Tensor, generator: torch.Generator) -> list[str]:
    """A step of the fine-grained loss, Adam included: 256 users in ours, as many in the reference."""
    n_users = 256
    pairs = torch.randint(1, N_ITEMS, (N_USERS, 15), generator=generator)
    history = History(torch.arange(N_USERS).repeat_interleave(15), pairs.reshape(-1), N_USERS, N_ITEMS)
    users, items = (torch.nn.Embedding(n, SIZE) for n in (N_USERS, N_ITEMS))
    optimiser = torch.optim.Adam([*users.parameters(), *items.parameters()])
    batch, targets, observed = (
        torch.arange(1, n_users + 1),
        lists[0, 0, 1 : n_users + 1, :100].long(),
        pairs[1 : n_users + 1, :10],
    )
    mask = torch.ones(N_USERS, N_ITEMS).scatter_(1, pairs, 0.0)

    def step(loss: Callable[[], Tensor]) -> Callable[[], None]:
        def work() -> None:
            optimiser.zero_grad()
            loss().backward()
            optimiser.step()

        return work

    def streamed() -> Tensor:
        return streamed_fine_loss(Vectors(users(batch), items.weight), targets, observed, history.padded(batch)).mean()

    def dense() -> Tensor:
        return reference.fine_loss(users(batch) @ items.weight.T, targets, observed, mask[batch])

    mine, theirs = seconds(step(streamed)) / n_users, seconds(step(dense)) / n_users
    return ["training step, ms a user row", f"{mine * 1e3:.3f}", f"{theirs * 1e3:.3f}", f"{theirs / mine:.1f} x", "10 x"]


def bound_row(generator: torch.Generator) -> list[str]:
    """Forward and backward of the streamed log-mass against what no exact softmax avoids: two matmuls and one exp."""
    users, items = (torch.randn(n, 64, generator=generator, requires_grad=True) for n in (256, N_ITEMS))
    excluded = torch.randint(1, N_ITEMS, (256, 115), generator=generator)

    def bare() -> None:
        with torch.no_grad():
            (users @ items.T).exp_() @ items

    def streamed() -> None:
        log_mass(users, items, excluded).sum().backward()

    mine, least = seconds(streamed), seconds(bare)
    return [
        "log-mass forward and backward (d = 64), ms",
        f"{mine * 1e3:.1f}",
        f"{least * 1e3:.1f}",
        f"{mine / least:.2f} x as long",
        "2 x",
    ]


def size_row(lists: Tensor) -> list[str]:
    """Bytes on disk of all trajectories against dense float32 importances."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.safetensors"
        Trajectory.from_lists(lists[0]).save(path)
        mine = path.stat().st_size * N_TEACHERS / 2**20
    dense = N_TEACHERS * N_STAGES * N_USERS * N_ITEMS * 4 / 2**20
    return ["trajectories on disk, MiB", f"{mine:.0f}", f"{dense:.0f} (computed)", f"{dense / mine:.0f} x", "100 x"]


def scaling_rows(generator: torch.Generator) -> list[list[str]]:
    """Seconds a user row as the catalogue grows, and the memory a step adds."""
    rows = []
    for n_items in (10_000, 100_000, 1_000_000):
        took = seconds(_mass_of(n_items, 64, generator)) / 64
        rows.append([f"{n_items:,}", f"{took * 1e3:.3f}", f"{took / n_items * 1e9:.2f}"])
    return rows


def _mass_of(n_items: int, n_users: int, generator: torch.Generator) -> Callable[[], None]:
    users, items = (torch.randn(n, SIZE, generator=generator, requires_grad=True) for n in (n_users, n_items))
    excluded = torch.randint(1, n_items, (n_users, 115), generator=generator)
    return lambda: log_mass(users, items, excluded).sum().backward()


def main() -> None:
    """Measure, print and write the tables."""
    generator = torch.Generator().manual_seed(0)
    lists = ranked_lists(generator)
    rows = [curriculum_row(lists, generator), training_row(lists, generator), size_row(lists), bound_row(generator)]
    memory = psutil.virtual_memory().total / 2**30
    machine = f"{psutil.cpu_count()} cores, {torch.get_num_threads()} threads, {memory:.0f} GiB"
    shape = f"{N_USERS:,} x {N_ITEMS:,}, {N_TEACHERS} teachers, {N_STAGES} checkpoints, student of size {SIZE}"
    python = f"Python {platform.python_version()}, torch {torch.__version__}"
    headers = ["what", "ours", "reference", "ratio", "target"]
    growing = tabulate(scaling_rows(generator), ["items", "ms a user row", "ns a score"], "github", disable_numparse=True)
    text = (
        f"# Benchmarks\n\n{machine}, {python}; medians of {REPEATS}. CiteULike's shape: {shape}.\n\n"
        f"{tabulate(rows, headers, 'github', disable_numparse=True)}\n\n"
        f"The streamed log-mass, forward and backward, as the catalogue grows:\n\n{growing}"
    )
    print(text)
    (Path(__file__).parent / "results.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
