"""On whatever GPU there is: the tests that need one, and what training takes. `make bench-gpu` writes benchmarks/gpu.md.

`python benchmarks/gpu.py --device=cpu --small` runs the same measurements in seconds and prints them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

import torch
from mass import products_of
from recbole.data.interaction import Interaction
from synthetic import N_ITEMS, N_USERS, SyntheticDataset, Training, zipf_items
from tabulate import tabulate
from torch import Tensor

from recbole_hetcomp.losses.catalogue import Dense
from recbole_hetcomp.losses.streaming import Vectors

ROOT = Path(__file__).parents[1]
TESTS_SECONDS = 240  # of eight minutes
FEW_USERS = 1_001  # of the data with many items: a step reads no other
BATCH, SIZE = 64, 64  # of the losses


class Sizes(NamedTuple):
    """What is measured."""

    n_users: int  # of CiteULike's shape, padding included
    n_items: int
    many_items: int
    repeats: int


FULL = Sizes(N_USERS, N_ITEMS, 1_000_001, 20)
SMALL = Sizes(201, 301, 1_001, 2)


class Figure(NamedTuple):
    """Seconds of one piece of work, and the most memory that the device held meanwhile; None where it does not say."""

    seconds: float
    peak_bytes: int | None

    def cells(self, what: str) -> list[str]:
        """As a row of text."""
        peak = "" if self.peak_bytes is None else f"{self.peak_bytes / 2**20:,.0f}"
        return [what, f"{self.seconds * 1e3:,.2f}", peak]


def measured(work: Callable[[], object], device: torch.device, repeats: int) -> Figure:
    """The median of `repeats`, after one to warm up; each waits for the device."""
    seconds = []
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    for _ in range(repeats):
        started = perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(perf_counter() - started)
    return Figure(median(seconds), torch.cuda.max_memory_allocated() if device.type == "cuda" else None)


def training_rows(device: torch.device, sizes: Sizes) -> Iterator[list[str]]:
    """A student's step in float32 and bfloat16, at both numbers of items, and an epoch at CiteULike's shape."""
    generator = torch.Generator().manual_seed(0)
    for n_users, n_items in ((sizes.n_users, sizes.n_items), (FEW_USERS, sizes.many_items)):
        dataset = SyntheticDataset(n_users, n_items, generator)
        training = Training(dataset, zipf_items((n_users, 100), n_items, generator).int(), device)
        batch = Interaction({"user_id": training.student.history.active_users[:BATCH]})
        for half in (False, True):
            step = measured(partial(training.step, batch, half), device, sizes.repeats)
            kind = "bfloat16" if half else "float32"
            yield step.cells(f"training step of {BATCH} users, {n_items - 1:,} items, {kind}")
        if n_items == sizes.n_items:
            epoch = measured(training.steps, device, min(3, sizes.repeats))
            yield epoch.cells(f"training epoch of {n_users - 1:,} users, {n_items - 1:,} items")


def loss_rows(device: torch.device, sizes: Sizes) -> Iterator[list[str]]:
    """The log-mass, forward and backward: streamed, of dense scores, and the bare products that neither avoids."""
    generator = torch.Generator().manual_seed(1)
    for n_items in (sizes.n_items, sizes.many_items):
        users, items = (torch.randn(n, SIZE, generator=generator).mul_(0.3).to(device) for n in (BATCH, n_items))
        excluded = torch.randint(1, n_items, (BATCH, 115), generator=generator).to(device)
        bare = measured(products_of(users, items), device, sizes.repeats)
        users.requires_grad_()
        items.requires_grad_()
        shape = f"log-mass and gradient, {BATCH} users, size {SIZE}, {n_items - 1:,} items"
        yield measured(partial(_streamed, users, items, excluded), device, sizes.repeats).cells(f"{shape}: streamed")
        yield measured(partial(_dense, users, items, excluded), device, sizes.repeats).cells(f"{shape}: of dense scores")
        yield bare.cells(f"{shape}: two bare products and an exp")


def _streamed(users: Tensor, items: Tensor, excluded: Tensor) -> None:
    users.grad = items.grad = None
    Vectors(users, items).log_mass(excluded).sum().backward()


def _dense(users: Tensor, items: Tensor, excluded: Tensor) -> None:
    users.grad = items.grad = None
    Dense(users @ items.T).log_mass(excluded).sum().backward()


def page(device: torch.device, sizes: Sizes, tests: str) -> str:
    """The page of results; `tests` is what the tests said."""
    rows = [*training_rows(device, sizes), *loss_rows(device, sizes)]
    name = torch.cuda.get_device_name() if device.type == "cuda" else "the CPU"
    introduction = (
        f"`make bench-gpu` on {name}, torch {torch.__version__}, commit {_commit()}. Tests: {tests}. Times are medians, and "
        "each waits for the device; a student of size 8 but for the log-mass."
    )
    table = tabulate(rows, ["what", "ms", "peak of the device's memory, MiB"], "github", disable_numparse=True)
    return f"# On a GPU\n\n{introduction}\n\n{table}\n"


def _commit() -> str:
    try:
        command = ["git", "rev-parse", "--short", "HEAD"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def tests_on_gpu() -> tuple[int, str]:
    """The exit status of the tests marked `gpu`, and their last line."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-rs"]
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=TESTS_SECONDS)
    except subprocess.TimeoutExpired:
        return 1, f"not done after {TESTS_SECONDS} s"
    print(done.stdout)
    lines = done.stdout.strip().splitlines()
    return done.returncode, lines[-1].strip("= ") if lines else "no output"


def main(arguments: Sequence[str] | None = None) -> int:
    """Test, measure, print and write the page; the exit status is that of the tests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--small", action="store_true", help="tiny shapes, and no file is written")
    asked = parser.parse_args(arguments)
    if asked.device == "cuda" and not torch.cuda.is_available():
        print("bench-gpu: torch finds no CUDA GPU here, so nothing is measured.")
        return 0
    status, tests = tests_on_gpu() if asked.device == "cuda" else (0, "not run on the CPU")
    text = page(torch.device(asked.device), SMALL if asked.small else FULL, tests)
    print(text)
    if asked.device == "cuda" and not asked.small:
        (Path(__file__).parent / "gpu.md").write_text(text, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
