"""A run on a disk that is too small: one sentence, exit code 2, and on a larger disk the same command goes on and ends well.

The disk is a tmpfs that the run's processes alone see (Linux, `unshare`).
`python benchmarks/trust/disk.py [N]` tries N sizes.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from runs import (
    PATIENCE,
    Counts,
    command,
    differences,
    environment,
    faults,
    leftovers,
    outcome,
    say,
    toy_command,
    undisturbed,
)

KIB = 1024
LEAST = 16  # KiB
LARGE = 512 * KIB  # KiB of the disk on which the command is run again
# $1: an existing folder, $2: KiB; the command follows. Its processes see the disk as $1/disk.
SCRIPT = f"""
place=$1 size=$2; shift 2
mount -t tmpfs -o size="$size"k tmpfs "$place/disk" && cd "$place/disk" || exit 99
mkdir tmp; export TMPDIR="$place/disk/tmp"
"$@" > "$place/small.txt" 2>&1; echo $? > "$place/small.code"
mount -o remount,size={LARGE}k "$place/disk" || exit 99
"$@" > "$place/large.txt" 2>&1; echo $? > "$place/large.code"
cp -r . "$place/after"
"""


def why_not() -> str | None:
    """Why no small disk can be had here; None where it can."""
    if shutil.which("unshare") is None:
        return "there is no `unshare`"
    tried = subprocess.run(
        ["unshare", "-rm", "sh", "-c", "mount -t tmpfs -o size=64k tmpfs /mnt"], capture_output=True, text=True, check=False
    )
    return None if tried.returncode == 0 else f"a tmpfs cannot be mounted: {tried.stderr.strip()}"


def disks(folder: Path, flags: Sequence[str], parts: Sequence[float]) -> Counts:
    """Run a command on disks that hold some parts of what it writes, and again on a large one.

    Args:
        folder: an empty one, or that of the data, on the large disk of this machine
        flags: of the command
        parts: of the KiB that an undisturbed run takes; each disk has at least LEAST
    """
    expected, _ = undisturbed(folder / "undisturbed", list(flags))
    needed, counts = used(folder / "undisturbed"), Counts()
    for size in sorted({max(LEAST, int(part * needed)) for part in parts}):
        counts.add(*(f"{size} KiB: {line}" for line in _on(folder / f"disk-{size}", list(flags), size, expected)))
    return counts


def _on(place: Path, flags: list[str], size: int, expected: dict[str, object]) -> list[str]:
    """What is wrong with a run on a disk of `size` KiB and the one after it."""
    (place / "disk").mkdir(parents=True)
    script = ["unshare", "-rm", "sh", "-c", SCRIPT, "sh", str(place), str(size), *command(flags)]
    done = subprocess.run(script, env=environment(), capture_output=True, text=True, check=False, timeout=2 * PATIENCE)
    if done.returncode:
        return [f"no disk: {done.stderr.strip()}"]
    codes = [int((place / f"{name}.code").read_text()) for name in ("small", "large")]
    text, last = (place / "small.txt").read_text(errors="replace"), (place / "large.txt").read_text(errors="replace")
    wrong = [*faults(text), *faults(last)]
    if codes[0] not in (0, 2):
        wrong.append(f"exit code {codes[0]}")
    lines = [line for line in text.splitlines() if line.strip()]
    if codes[0] == 2 and not (lines and lines[-1].startswith("hetcomp: ")):
        wrong.append(f"no sentence at the end, but {lines[-1:]}")
    if codes[1] != 0:
        return [*wrong, f"on the large disk exit code {codes[1]}: {last.strip().splitlines()[-1:]}"]
    return [*wrong, *differences(outcome(place / "after"), expected), *leftovers(place / "after")]


def used(folder: Path) -> int:
    """KiB that the files of a run take."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) // KIB


def short(folder: Path, parts: Sequence[float] = (0.5,)) -> Counts:
    """A disk of half of what a run needs, for a test."""
    return disks(folder, toy_command(folder), parts)


def many(folder: Path, n: int) -> Counts:
    """`n` sizes, from next to nothing to a little more than a run needs."""
    return disks(folder, toy_command(folder, teacher_workers=2), [1.5 * (number + 1) / n for number in range(n)])


if __name__ == "__main__":
    say(many, __doc__, 19)
