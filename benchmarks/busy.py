"""A student's training beside a process that keeps every core busy: the threads that it chooses against one thread.

`python benchmarks/busy.py` measures this row alone and prints it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from statistics import median

import torch
from synthetic import N_ITEMS, N_USERS, SyntheticDataset, Training, zipf_items
from timing import Ratio, Row, interleaved

from recbole_hetcomp.trainer.threads import ThreadChoice, computing_in, possible_threads

CORES = os.cpu_count() or 1
BUSY = f"""
import os, torch
torch.set_num_threads({CORES})
matrix, parent = torch.rand(500, 500), os.getppid()
while os.getppid() == parent:
    matrix @ matrix
"""
SAMPLE = 2  # steps in all threads, which take long
EPOCHS = 5


@contextmanager
def busy_process() -> Iterator[None]:
    """Another process multiplies matrices in as many threads as there are cores."""
    process = subprocess.Popen([sys.executable, "-c", BUSY], env={**os.environ, "OMP_NUM_THREADS": str(CORES)})
    try:
        yield
    finally:
        process.kill()
        process.wait()


def row(training: Training) -> Row:
    """Epochs as `DistillationTrainer` runs them with `threads: ~`, trials among them, and in one thread, the default."""
    with computing_in(CORES):
        choice = ThreadChoice(possible_threads(None, torch.device("cpu")))

    def default() -> None:
        for batch in choice.steps(training.batches):
            training.step(batch)

    def one() -> None:
        with computing_in(1):
            training.steps()

    def every_core() -> None:
        with computing_in(CORES):
            for batch in islice(training.batches, SAMPLE):
                training.step(batch)

    with computing_in(1), busy_process():
        mine, least, most = interleaved(default, one, every_core, repeats=EPOCHS)
    steps = len(training.batches)
    per_step = [1e3 * median(taken) / count for taken, count in ((mine, steps), (least, steps), (most, SAMPLE))]
    return Row(
        f"training step of {training.batches.batch_size} users beside a process that keeps {CORES} cores busy, ms, "
        "with `threads: ~`; reference: in 1 thread, the default",
        f"{per_step[0]:,.1f} (in {CORES} threads {per_step[2]:,.1f})",
        f"{per_step[1]:,.1f}",
        Ratio.of(mine, least),
        1.5,
        most=True,
        bound="the steps in which the numbers of threads are tried",
    )


def main() -> None:
    """Measure and print the row."""
    generator = torch.Generator().manual_seed(0)
    dataset = SyntheticDataset(N_USERS, N_ITEMS, generator)
    training = Training(dataset, zipf_items((N_USERS, 100), N_ITEMS, generator).int())
    print(" | ".join(row(training).cells()))


if __name__ == "__main__":
    main()
