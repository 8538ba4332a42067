"""Runs of a small command in processes of their own, and what they leave: the base of kills.py, twins.py and disk.py."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import load_file

from recbole_hetcomp.testing import toy_settings, write_toy

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300.0  # seconds after which a run counts as one that hangs
SAVED = "saved"  # each run has a folder of its own, and keeps its files there


@dataclass
class Counts:
    """How often something was tried, and what went otherwise than promised."""

    tried: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def as_promised(self) -> int:
        """The tries of which nothing is wrong."""
        return self.tried - len(self.wrong)

    def add(self, *descriptions: str) -> None:
        """Count a try; `descriptions` are what was wrong with it."""
        self.tried += 1
        if descriptions:
            self.wrong.append("; ".join(descriptions))

    def __str__(self) -> str:
        return "\n".join([f"{self.as_promised} of {self.tried} as promised", *self.wrong])


def toy_command(folder: Path, **settings: Any) -> list[str]:
    """The flags of a distillation that takes seconds, on a dataset that is written into `folder`."""
    data = folder / "data"
    path = str(data) if data.is_dir() else write_toy(data)
    quick = {"state": "INFO", "epochs": 12, "stopping_step": 100, "train_batch_size": 16, "curriculum_period": 1}
    own = {**toy_settings(path, Path(SAVED)), **quick, **settings}
    return ["--model=HetCompStudent", "--dataset=toy", *(f"--{key}={value}" for key, value in own.items())]


class Run:
    """`hetcomp` with some flags, started in `folder`; its output is in a file there."""

    def __init__(self, folder: Path, flags: list[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"output-{time.monotonic_ns()}.txt"
        with self.log.open("w") as file:
            self.process = subprocess.Popen(
                command(flags), stdout=file, stderr=subprocess.STDOUT, cwd=folder, env=environment(), start_new_session=True
            )

    def text(self) -> str:
        """What it has said."""
        return self.log.read_text(errors="replace")

    def wait(self) -> int:
        """Its exit code; one that hangs is killed with all its children, and has the code of that."""
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.process.wait()

    def wait_for(self, reached: Callable[[], bool]) -> bool:
        """Whether it comes to a point before its end."""
        while not reached():
            if self.process.poll() is not None:
                return False
            time.sleep(0.005)
        return True

    def workers(self) -> list[psutil.Process]:
        """The processes that work for it.

        Python's and joblib's resource trackers are none: each only clears away what is left at the end, and the successor of
        one that was killed prints a KeyError for whatever the first one had been told of.
        """
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
            return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]
        except psutil.Error:
            return []

    def kill(self) -> None:
        """End it and all that it has started, at once."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def command(flags: list[str]) -> list[str]:
    """`hetcomp` as this checkout has it."""
    return [sys.executable, str(ROOT / "run_hetcomp.py"), *flags]


def environment() -> dict[str, str]:
    """Of a run: this checkout, and one thread."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def undisturbed(folder: Path, flags: list[str]) -> tuple[dict[str, Any], float]:
    """What a run that is left alone gives, and how many seconds it takes."""
    started, run = time.monotonic(), Run(folder, flags)
    code = run.wait()
    if code != 0:
        raise RuntimeError(f"the undisturbed run ended with {code}:\n{run.text()[-3000:]}")
    return outcome(folder), time.monotonic() - started


def outcome(folder: Path) -> dict[str, Any]:
    """What the last run in `folder` has given: the table without times, and digests of the student and of all lists."""
    content = json.loads((folder / SAVED / "comparison.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = {"student": digest_of_student(folder / content["checkpoint"])}
    for row in content["rows"]:
        timeless = {key: value for key, value in row.items() if key != "ms_per_1000_users"}
        found[f"row {row['role']} {row['model']}"] = timeless
    for path in sorted((folder / SAVED / "trained").glob("[!.]*/trajectory.safetensors")):
        found[f"lists of {path.parent.name}"] = _digest(load_file(path))
    return found


def digest_of_student(path: Path) -> str:
    """Of the tensors that a checkpoint holds."""
    return _digest(torch.load(path, weights_only=True)["state_dict"])


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """The parts of an outcome that are not as expected."""
    names = sorted(found.keys() | expected.keys())
    return [f"another {name}" for name in names if found.get(name) != expected.get(name)]


def leftovers(folder: Path) -> list[str]:
    """What a run that has ended well should not leave: progress, temporary files, working folders, owners of locks."""
    kept = folder / SAVED
    unfinished = [*kept.glob("*.progress"), *kept.rglob(".*"), *kept.rglob("*.owner")]
    return [f"left {path.relative_to(kept)}" for path in unfinished]


def faults(text: str) -> list[str]:
    """What no output may hold."""
    return [f"a traceback: {text.strip().splitlines()[-1][:200]}"] if "Traceback" in text else []


def say(measure: Callable[[Path, int], Counts], what: str, default: int) -> None:
    """`python <file> [N]`: N tries of `measure` in a temporary folder."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("n", nargs="?", type=int, default=default, help=f"how often, {default} by default")
    with tempfile.TemporaryDirectory() as folder:
        counts = measure(Path(folder), parser.parse_args().n)
    print(counts)
    sys.exit(bool(counts.wrong))
