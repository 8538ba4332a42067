"""A run that is killed and started again ends as one that was left alone, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import recbole_hetcomp

TEACHERS = ("BPR", "LightGCN", "MultiVAE")
PATIENCE = 120.0  # seconds to wait for a point of a run


def flags(settings: dict[str, Any], folder: Path) -> list[str]:
    own = {
        **settings,
        "checkpoint_dir": str(folder),
        "teachers": list(TEACHERS),
        "teacher_config": {
            "all": {"epochs": 3, "embedding_size": 8, "train_batch_size": 256},
            "MultiVAE": {"epochs": 40, "stopping_step": 100, "latent_dimension": 8, "mlp_hidden_size": [8]},
        },
        "epochs": 40,
        "stopping_step": 100,
        "curriculum_period": 1,
        "train_batch_size": 16,
        "without_distillation": False,
        "state": "INFO",
        "verbose": True,
    }
    return ["--model=HetCompStudent", "--dataset=toy", *(f"--{key}={value}" for key, value in own.items())]


class Process:
    """The command line in a process of its own, its output in a file."""

    def __init__(self, settings: dict[str, Any], folder: Path, log: Path) -> None:
        code = "import sys; from recbole_hetcomp.cli import main; sys.exit(main(sys.argv[1:]))"
        home = str(Path(recbole_hetcomp.__file__).parents[1])
        path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
        self.log = log
        self.file = log.open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *flags(settings, folder)],
            stdout=self.file,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )

    def wait_for(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not reached():
            assert self.process.poll() is None, f"ended too early:\n{self.text()[-3000:]}"
            assert time.monotonic() < deadline, f"not reached:\n{self.text()[-3000:]}"
            time.sleep(0.005)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        assert self.process.wait() == -signal.SIGKILL
        self.file.close()

    def finish(self) -> str:
        code = self.process.wait(PATIENCE)
        self.file.close()
        assert code == 0, self.text()[-3000:]
        return self.text()

    def text(self) -> str:
        return self.log.read_text(errors="replace")


def outcome(folder: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """(the saved student's tensors and the teachers' lists, the comparison without its measurements of time)."""
    content = json.loads((folder / "comparison.json").read_text())
    rows = [{key: value for key, value in row.items() if key != "ms_per_1000_users"} for row in content["rows"]]
    tensors = dict(torch.load(content["checkpoint"], weights_only=True)["state_dict"])
    for path in (folder / "trained").glob("*/trajectory.safetensors"):
        tensors.update({f"{path.parent.name} {name}": tensor for name, tensor in load_file(path).items()})
    return tensors, rows


@pytest.mark.skipif(os.name != "posix", reason="needs kill -9")
def test_killed_twice_and_started_again_it_ends_as_if_left_alone(settings, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    Process(settings, whole, tmp_path / "0.log").finish()
    tensors, rows = outcome(whole)
    assert sum(name.endswith(" items") for name in tensors) == len(TEACHERS)

    during_third = Process(settings, broken, tmp_path / "1.log")
    during_third.wait_for(lambda: len(list(broken.glob("trained/.MultiVAE-*/epoch-*.safetensors"))) >= 5)
    during_third.kill()
    assert {path.name.split("-")[0] for path in broken.glob("trained/[!.]*")} == {"BPR", "LightGCN"}

    during_student = Process(settings, broken, tmp_path / "2.log")

    def in_the_middle() -> bool:
        return during_student.text().count("distillation") >= 5 and bool(list(broken.glob("*.progress")))

    during_student.wait_for(in_the_middle)
    during_student.kill()
    text = during_student.text()
    assert text.count("nothing that matters has changed") == 2
    assert text.count("training, to be cached in") == 1
    assert not (broken / "comparison.json").exists()

    last = Process(settings, broken, tmp_path / "3.log").finish()
    assert last.count("nothing that matters has changed") == 3
    assert "Resuming" in last
    found_tensors, found_rows = outcome(broken)
    assert found_tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(found_tensors[name], tensor), name
    assert found_rows == rows
    assert not list(broken.glob("*.progress"))
