"""`make trust`: kills, twins, disks that are too small and damaged files, in one table. `--part=0.1` makes a tenth of it."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import damage  # noqa: E402
import disk  # noqa: E402
import kills  # noqa: E402
import twins  # noqa: E402
from runs import Counts  # noqa: E402
from tabulate import tabulate  # noqa: E402

KILLS, TWINS, DISKS, FILES, WHOLE_RUNS = 100, 40, 25, 2000, 200


def tries(part: float) -> Iterator[tuple[str, Callable[[Path], Counts]]]:
    """What is tried, by name; each takes an empty folder."""

    def so_many(n: int) -> int:
        return max(1, round(part * n))

    yield "a run or a worker is killed, started again", lambda folder: kills.at_random(folder, so_many(KILLS))
    yield "two identical commands at once", lambda folder: twins.many(folder, so_many(TWINS))
    if disk.why_not() is None:
        yield "a disk that is too small", lambda folder: disk.many(folder, so_many(DISKS))
    else:
        print(f"no small disks are tried: {disk.why_not()}", file=sys.stderr)
    yield "a whole run with damaged lists", lambda folder: damage.whole_runs(folder, so_many(WHOLE_RUNS))
    with in_a_folder() as folder:
        files = damage.kinds(folder)
        for name, kind in files.items():
            yield f"damaged {name}", lambda _, kind=kind: damage.damage(kind, so_many(FILES))


@contextmanager
def in_a_folder() -> Iterator[Path]:
    """A new folder, which is the working directory too: RecBole writes its log there."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        try:
            yield Path(name)
        finally:
            os.chdir(before)


def main() -> int:
    """Print the table; the exit code is 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", type=float, default=1.0, help="of all cases, 1 by default")
    parser.add_argument("--only", default="", help="a part of the name of what is tried")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    damage.refuse_code()
    rows, wrong = [], []
    for name, work in tries(given.part):
        if given.only not in name:
            continue
        started = monotonic()
        with in_a_folder() as folder:
            counts = work(folder)
        rows.append([name, counts.tried, counts.as_promised, len(counts.wrong), monotonic() - started])
        wrong += [f"{name}: {line}" for line in counts.wrong]
        print(f"{name}: {counts.as_promised} of {counts.tried}", file=sys.stderr, flush=True)
    head = ["what", "tried", "as promised", "wrong", "seconds"]
    print(tabulate(rows, head, tablefmt="github", floatfmt=".0f"))
    print("\n".join(wrong))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
