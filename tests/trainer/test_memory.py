"""Memory that is freed stays with the process, so that a step finds it again."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
import torch

from recbole_hetcomp import cli
from recbole_hetcomp.teacher_training import side_by_side
from recbole_hetcomp.trainer import processes

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")

STEPS = """
import resource, sys
import torch
from recbole_hetcomp.trainer.memory import keep_freed_memory

kept = sys.argv[1] == "kept" and keep_freed_memory()
def step():
    return float((torch.zeros(1200, 10_000) + 1).sum())  # two pieces of 46 MiB
for _ in range(5):  # until the heap has found its size
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(30):
    step()
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def fresh_pages(asked: str, **settings: str) -> tuple[int, int]:
    """(whether it was done, pages that the system filled for thirty steps) of a process of its own."""
    quiet = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_", "THP_"))}
    command = [sys.executable, "-c", STEPS, asked]
    output = subprocess.run(command, env={**quiet, **settings}, capture_output=True, text=True, check=True).stdout
    done, pages = map(int, output.split())
    return done, pages


@glibc
def test_a_step_takes_the_memory_of_the_step_before() -> None:
    done, pages = fresh_pages("kept")
    assert done
    assert 5 * pages < fresh_pages("given back")[1]


@glibc
@pytest.mark.parametrize(
    "settings",
    [{"MALLOC_ARENA_MAX": "2"}, {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=33554432"}],
    ids=["variable", "tunable"],
)
def test_what_the_user_says_of_malloc_holds(settings) -> None:
    assert fresh_pages("kept", **settings)[0] == 0


class CalledError(Exception):
    """Stands for what a process does first."""


@pytest.mark.parametrize(
    ("module", "start"),
    [
        (cli, lambda: cli.main(["models"])),
        (side_by_side, lambda: side_by_side._in_worker(None, None, "BPR", print, parent=1)),
        (processes, lambda: processes._member(0, processes.Processes(1, 1, 0, "localhost", 1), print, None, None)),
    ],
    ids=["command", "worker", "one of several"],
)
def test_commands_and_their_processes_begin_with_it(monkeypatch, module, start) -> None:
    def called() -> None:
        raise CalledError

    monkeypatch.setattr(module, "keep_freed_memory", called)
    monkeypatch.setattr(side_by_side, "_end_with", lambda parent: None)
    threads = torch.get_num_threads()
    with pytest.raises(CalledError):
        start()
    torch.set_num_threads(threads)
