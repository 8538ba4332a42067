"""Times side by side, rows of a table, and the peak memory of a process."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import torch

THREADS = 1  # of both sides: what a second one is worth depends on who else uses the machine
REPEATS = 5


def use_threads() -> None:
    """Compute in THREADS threads."""
    torch.set_num_threads(THREADS)


def interleaved(*works: Callable[[], object], repeats: int = REPEATS) -> list[list[float]]:
    """Seconds of each of `works`, `repeats` times, all once a repetition so that noise hits all; after one to warm up."""
    seconds: list[list[float]] = [[] for _ in works]
    for repetition in range(repeats + 1):
        for work, taken in zip(works, seconds):
            started = perf_counter()
            work()
            if repetition:
                taken.append(perf_counter() - started)
    return seconds


class Ratio(NamedTuple):
    """How often one time goes into another: the median over repetitions, the lowest and the highest."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, above: list[float], below: list[float], scale: float = 1.0) -> Ratio:
        """The ratios above / below * scale, repetition by repetition."""
        ratios = [scale * a / b for a, b in zip(above, below)]
        return cls(median(ratios), min(ratios), max(ratios))


class Row(NamedTuple):
    """A row of the main table.

    Attributes:
        ratio: reference / ours, or ours / reference where `most`
        target: None = none set
        most: whether the ratio may be at most the target; else at least
        bound: what bounds the figure; shown where the target is missed or none is set
    """

    what: str
    ours: str
    reference: str
    ratio: Ratio
    target: float | None
    most: bool = False
    bound: str = ""

    @property
    def met(self) -> bool:
        """Whether there is a target and the median keeps it."""
        return self.target is not None and (self.ratio.middle <= self.target) == self.most

    def cells(self) -> list[str]:
        """As a row of text."""
        spread = "" if self.ratio.low == self.ratio.high else f" ({_short(self.ratio.low)} to {_short(self.ratio.high)})"
        target = "" if self.target is None else f"at {'most' if self.most else 'least'} {self.target:g} x"
        verdict = "" if self.target is None else "yes" if self.met else "no"
        return [self.what, self.ours, self.reference, f"{_short(self.ratio.middle)} x{spread}", target, verdict]


def _short(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 20 else f"{ratio:.1f}" if ratio >= 4 else f"{ratio:.2f}"


def peak_bytes() -> int:
    """The largest resident set since the program began, or since `reset_peak`.

    From /proc where there is one: `ru_maxrss` survives exec, so that a child's is never below its parent's size.
    """
    with suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def reset_peak() -> None:
    """Let `peak_bytes` begin anew; without /proc nothing happens, and what was built before counts too."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def in_child(module: str, *arguments: object, **environment: str) -> dict[str, Any]:
    """What `python <module> <arguments>` prints, a line of JSON, from a process of its own."""
    command = [sys.executable, str(Path(__file__).parent / module), *map(str, arguments)]
    threads = {"OMP_NUM_THREADS": str(THREADS), "MKL_NUM_THREADS": str(THREADS)}
    done = subprocess.run(
        command, env={**os.environ, **threads, **environment}, stdout=subprocess.PIPE, check=True, text=True
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
