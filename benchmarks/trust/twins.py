"""Two identical commands at once in one folder: both end with the student and the table of one that runs alone.

`python benchmarks/trust/twins.py [N]` does it N times.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runs import (
    SAVED,
    Counts,
    Run,
    differences,
    digest_of_student,
    faults,
    leftovers,
    outcome,
    say,
    toy_command,
    undisturbed,
)


def twins(folder: Path, flags: Sequence[str], n: int, others: Sequence[str] | None = None) -> Counts:
    """Start two commands at once, `n` times, each time in a new folder.

    Args:
        folder: an empty one, or that of the data
        flags: of the first command
        n: how often
        others: flags of the second one; None: the same
    """
    commands = [list(flags), list(flags if others is None else others)]
    different = commands if others is not None else commands[:1]
    expected = [undisturbed(folder / f"alone-{number}", command)[0] for number, command in enumerate(different)]
    counts = Counts()
    for number in range(n):
        counts.add(*_two(folder / f"twins-{number}", commands, expected))
    return counts


def _two(folder: Path, commands: list[list[str]], expected: list[dict[str, object]]) -> list[str]:
    """What is wrong after two runs at once. The last one's table is in the folder, and the students of both."""
    runs = [Run(folder, command) for command in commands]
    codes = [run.wait() for run in runs]
    if codes != [0, 0]:
        return [f"exit codes {codes}", *(line for run in runs for line in faults(run.text()))]
    wanted = {part["student"] for part in expected}
    students = [digest_of_student(path) for path in (folder / SAVED).glob("*.pth")]
    wrong = [] if set(students) == wanted else ["another student"]
    if len(students) != len(runs):
        wrong.append(f"{len(students)} students of {len(runs)} runs")
    found = outcome(folder)
    lists = {name: part for whole in expected for name, part in whole.items() if name.startswith("lists of")}
    tables = [differences(found, {**whole, **lists}) for whole in expected]
    return [*wrong, *min(tables, key=len), *leftovers(folder), *(line for run in runs for line in faults(run.text()))]


def short(folder: Path) -> Counts:
    """One pair, for a test."""
    return twins(folder, toy_command(folder), 1)


def many(folder: Path, n: int) -> Counts:
    """`n` pairs of identical commands."""
    return twins(folder, toy_command(folder), n)


if __name__ == "__main__":
    say(many, __doc__, 20)
