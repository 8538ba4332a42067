"""A million users and a million items: what training takes a user row, and how much memory the process takes.

`python benchmarks/scale.py` prints it as JSON; run.py starts it in a process of its own.
"""

from __future__ import annotations

import json
from statistics import median
from time import perf_counter

import torch
from synthetic import SyntheticDataset, Training, zipf_items
from timing import in_child, peak_bytes, reset_peak, use_threads

N_USERS = N_ITEMS = 1_000_000
N_TARGETS = 100
BATCHES = 20
LIMIT = 4.0  # GB
TEACHERS_LISTS = 6 * 4 * 200 * 6 * N_USERS  # bytes: six teachers, four checkpoints, 200 entries of 6 bytes


def table() -> list[list[str]]:
    """What, figure, target, met."""
    measured = in_child("scale.py")
    peak = max(measured["building"], measured["training"])
    return [
        ["training interactions", f"{measured['interactions']:,}", "", ""],
        ["building data, history and lists, s", f"{measured['built_in']:.0f}", "", ""],
        [f"training step of {measured['batch']} users, ms a user row", f"{measured['per_row'] * 1e3:.2f}", "", ""],
        ["an epoch at that rate, hours", f"{measured['per_row'] * N_USERS / 3600:.2f}", "", ""],
        ["accounted for: parameters, gradients, Adam, lists, history, GB", f"{measured['known'] / 1e9:.2f}", "", ""],
        ["peak while building, GB", f"{measured['building'] / 1e9:.2f}", "", ""],
        ["peak while training, GB", f"{measured['training'] / 1e9:.2f}", "", ""],
        [
            "peak of the whole process, libraries included, GB",
            f"{peak / 1e9:.2f}",
            f"at most {LIMIT:g}",
            "yes" if peak / 1e9 <= LIMIT else "no",
        ],
    ]


def measure() -> dict[str, float]:
    """Build everything, train BATCHES batches."""
    generator = torch.Generator().manual_seed(2)
    started = perf_counter()
    dataset = SyntheticDataset(N_USERS, N_ITEMS, generator, mean=10.0)
    targets = torch.zeros(N_USERS, N_TARGETS, dtype=torch.int32)
    for users in torch.arange(N_USERS).split(50_000):
        targets[users] = zipf_items((len(users), N_TARGETS), N_ITEMS, generator).int()
    training = Training(dataset, targets)
    built_in, building = perf_counter() - started, peak_bytes()
    reset_peak()
    seconds = training.steps(BATCHES + 1)
    return {
        "interactions": len(training.student.history.items),
        "built_in": built_in,
        "batch": training.batches.batch_size,
        "per_row": median(seconds[1:]) / training.batches.batch_size,
        "known": training.known_bytes(),
        "building": building,
        "training": peak_bytes(),
    }


if __name__ == "__main__":
    use_threads()
    print(json.dumps(measure()))
