"""A run is killed, at some moment, and started again until it ends: student and table are those of a run left alone.

`python benchmarks/trust/kills.py [N]` kills N runs at random moments, every second time one of their workers.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Union

import psutil
from runs import SAVED, Counts, Run, differences, faults, leftovers, outcome, say, toy_command, undisturbed

STARTS = 4  # within which a run has to end


def _is_there(pattern: str) -> Callable[[Path], bool]:
    return lambda folder: any((folder / SAVED).glob(pattern))


# Where in a run: reached when the folder holds what is named
PHASES: dict[str, Callable[[Path], bool]] = {
    "in the first teacher": _is_there("trained/.*/epoch-*.safetensors"),
    "after the first teacher": _is_there("trained/[!.]*/record.json"),
    "in the student": _is_there("*.progress"),
    "after the first checkpoint": _is_there("HetCompStudent-*.pth"),
}
Moment = Union[float, str]  # seconds after the start, or one of PHASES


def kills(folder: Path, flags: Sequence[str], moments: Sequence[Moment], *, worker: bool = False, seed: int = 0) -> Counts:
    """Kill a run at each of `moments`, start it again until it ends, and compare with one that was left alone.

    Args:
        folder: an empty one, or that of the data
        flags: of the command
        moments: one a try
        worker: whether a worker of the run is killed, where it has one, instead of the run itself
        seed: of the choice among workers
    """
    expected, _ = undisturbed(folder / "undisturbed", list(flags))
    draw, counts = random.Random(seed), Counts()
    for number, moment in enumerate(moments):
        wrong = _killed(folder / f"killed-{number}", list(flags), moment, worker, draw, expected)
        counts.add(*(f"killed {moment if isinstance(moment, str) else f'after {moment:.1f} s'}: {line}" for line in wrong))
    return counts


def _killed(
    folder: Path, flags: list[str], moment: Moment, worker: bool, draw: random.Random, expected: dict[str, object]
) -> list[str]:
    """What is wrong after a kill."""
    first = Run(folder, flags)
    deadline = time.monotonic() + (moment if isinstance(moment, float) else 0.0)
    reached = PHASES[moment] if isinstance(moment, str) else lambda _: time.monotonic() >= deadline
    if first.wait_for(lambda: reached(folder)):
        victims = first.workers() if worker else []
        if victims:
            with suppress(psutil.NoSuchProcess):
                draw.choice(victims).kill()
        else:
            first.process.kill()
    code, texts = first.wait(), [first.text()]
    first.kill()
    wrong = [] if code in (0, 2, -9) else [f"exit code {code}"]
    starts = 0
    while starts == 0 or (code != 0 and starts < STARTS):
        again, starts = Run(folder, flags), starts + 1
        code = again.wait()
        texts.append(again.text())
    if code != 0:
        return [*wrong, f"it does not end: exit code {code}", *faults("".join(texts))]
    return [*wrong, *faults("".join(texts)), *differences(outcome(folder), expected), *leftovers(folder)]


def short(folder: Path, moments: Sequence[Moment] = ("in the student",)) -> Counts:
    """A few kills, for a test."""
    return kills(folder, toy_command(folder), moments)


def at_random(folder: Path, n: int, seed: int = 0) -> Counts:
    """`n` kills at random moments of a run, every second one of a worker that trains teachers."""
    draw, flags = random.Random(seed), toy_command(folder, teacher_workers=2)
    _, seconds = undisturbed(folder / "timed", flags)
    moments = [draw.uniform(0, seconds) for _ in range(n)]
    whole = kills(folder / "runs", flags, moments[::2])
    part = kills(folder / "workers", flags, moments[1::2], worker=True, seed=seed) if n > 1 else Counts()
    return Counts(whole.tried + part.tried, [*whole.wrong, *part.wrong])


if __name__ == "__main__":
    say(at_random, __doc__, 20)
