"""Memory that is freed stays with the process, so that a step finds it again."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

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
