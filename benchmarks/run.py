"""Speed, memory and size at CiteULike's shape, and how they grow: `make bench` writes benchmarks/results.md.

Ours and the reference run in turns, repetition by repetition, in one process and on the same numbers; memory is measured in
processes of its own. `reference.py` is what is measured against, `synthetic.py` the data.
"""

from __future__ import annotations

import platform
from pathlib import Path
from time import perf_counter

import busy
import mass
import memory
import psutil
import scale
import serving
import speed
import torch
from synthetic import DEPTH, N_ITEMS, N_STAGES, N_TEACHERS, N_USERS, SIZE, SyntheticDataset, ranked_lists
from tabulate import tabulate
from timing import REPEATS, THREADS, Row, use_threads

INTRODUCTION = (
    f"Both sides compute in {THREADS} thread and in turns; medians of {REPEATS} repetitions or more, in brackets the lowest "
    f"and highest ratio of a repetition. Shape: {N_USERS:,} users x {N_ITEMS:,} items, {N_TEACHERS} teachers, {N_STAGES} "
    f"checkpoints, lists of {DEPTH}, a student of size {SIZE}; training sets spread as CiteULike's, 7 items in the median "
    "and 14 in the mean. The reference is what one writes from the paper with dense tensors and loops (`reference.py`); its "
    "loops over users are timed on a sample of users, its epoch on a sample of batches, and continued linearly."
)
ITEMS = (
    "A training step of 64 users as the catalogue grows. The ratio is of the cost of an item to that in the row above; it "
    "may be 1.3. Among 10,000 items most of a step is what does not depend on their number:"
)
USERS = (
    f"Peak memory of training as users grow ({N_ITEMS:,} items, batches of 64), MiB. Known are embeddings, gradients, "
    "Adam's moments, lists and history; the rest, libraries included, may grow 1.2 times. Above idle is what of it a "
    "process does not have that has trained a tiny student:"
)
SCALE = (
    "A million users, a million items, popularity after Zipf's law; target lists of 100, the fine-grained loss. The lists "
    f"of six teachers, from which targets come, are not in it: {scale.TEACHERS_LISTS / 1e9:.1f} GB on disk, and as much in "
    "memory while `Ensemble` holds them:"
)


def comparisons() -> list[Row]:
    """The rows of the main table, at CiteULike's shape."""
    generator = torch.Generator().manual_seed(0)
    lists = ranked_lists(generator)
    dataset = SyntheticDataset(N_USERS, N_ITEMS, generator)
    steps = speed.Steps(dataset, lists, generator)
    rows = [speed.curriculum_row(lists), steps.row(), steps.epoch_row(), mass.log_mass_row(generator)]
    rows += [mass.far_scores_row(generator), busy.row(steps.ours)]
    rows += [serving.paper_row(dataset), serving.factors_row(dataset), speed.size_row(lists), memory.distillation_row(lists)]
    return rows


def report(rows: list[Row]) -> str:
    """The page of results; measures what the tables of growth hold."""
    bounds = [f"* {row.what.split(';')[0]}: {row.bound}." for row in rows if not row.met]
    parts = [
        "# Benchmarks",
        f"{_machine()} {INTRODUCTION}",
        _table([row.cells() for row in rows], "what", "ours", "reference", "ratio", "target", "met"),
        "What bounds the rows whose target is missed, or that have none:",
        "\n".join(bounds),
        ITEMS,
        _table(speed.items_table(torch.Generator().manual_seed(3)), "items", "ms a user row", "ns an item", "ratio", "met"),
        USERS,
        _table(memory.users_table(), "users", "peak", "known", "rest", "above idle", "ratio of rest", "met", "bytes a user"),
        "What still grows with users is Adam's: two temporaries of a parameter's size, 64 bytes a user at size 8; and the "
        "shuffled order of an epoch, 16 bytes. Held against what is above idle alone, it is not flat.",
        SCALE,
        _table(scale.table(), "what", "figure", "target", "met"),
    ]
    return "\n\n".join(parts) + "\n"


def _machine() -> str:
    total = psutil.virtual_memory().total / 2**30
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{psutil.cpu_count()} cores, {total:.0f} GiB, {versions}."


def _table(rows: list[list[str]], *headers: str) -> str:
    return tabulate(rows, headers, "github", disable_numparse=True)


def main() -> None:
    """Measure, print and write the page."""
    started = perf_counter()
    use_threads()
    text = report(comparisons())
    text += f"\nThe whole took {(perf_counter() - started) / 60:.0f} minutes.\n"
    print(text)
    (Path(__file__).parent / "results.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
