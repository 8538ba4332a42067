"""`hetcomp recommend --users=all` for a million users and 100,000 items: `python benchmarks/everybody.py`.

The student is MF of size 16 with random vectors, saved with its data as a run saves it; a user has 10 items in the mean.
The command runs in a process of its own, in one thread. Prints JSON: seconds and peak memory of that process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.registry import get_model
from recbole_hetcomp.config.strict import settings_of
from recbole_hetcomp.data.split import Split
from recbole_hetcomp.data.stored import StoredDataset, stored_data
from recbole_hetcomp.trainer.checkpoint import save_student

COMMAND = """
import json, resource, sys
from time import perf_counter
started = perf_counter()
from recbole_hetcomp.cli import main
code = main(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
found = {"code": code, "seconds": perf_counter() - started, "cpu_seconds": used.ru_utime + used.ru_stime}
print(json.dumps({**{name: round(value) for name, value in found.items()}, "peak_mib": round(used.ru_maxrss / 2**10)}))
"""


def main() -> None:
    """Save, recommend, measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--mean", type=int, default=10)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--format", default="csv")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, output = Path(folder) / "student.pth", Path(folder) / f"all.{asked.format}"
        save(asked, checkpoint)
        flags = [f"--checkpoint={checkpoint}", "--users=all", f"--k={asked.k}", f"--output={output}"]
        threads = {**os.environ, "OMP_NUM_THREADS": "1"}
        ended = subprocess.run(
            [sys.executable, "-c", COMMAND, "recommend", *flags], capture_output=True, text=True, check=True, env=threads
        )
        found = json.loads(ended.stdout.splitlines()[-1])
        sizes = {
            "checkpoint_mib": round(checkpoint.stat().st_size / 2**20),
            "output_mib": round(output.stat().st_size / 2**20),
        }
    print(json.dumps({**vars(asked), **found, **sizes}))


def save(asked: argparse.Namespace, path: Path) -> None:
    """A checkpoint of an untrained student with data that lie nowhere else."""
    generator = torch.Generator().manual_seed(0)
    settings = {
        "student": "MF",
        "embedding_size": asked.size,
        "data_path": str(path.parent),
        "init_std": 1.0,
        "state": "ERROR",
    }
    config = Config("HetCompStudent", "everybody", config_dict=settings, arguments=())
    counts = torch.randint(1, 2 * asked.mean, (asked.users,), generator=generator)
    users = torch.arange(1, asked.users + 1).repeat_interleave(counts)
    items = torch.randint(1, asked.items + 1, (len(users),), generator=generator)
    names = {"USER_ID_FIELD": ("u", asked.users), "ITEM_ID_FIELD": ("i", asked.items)}
    tokens = {config[field]: by_id([f"{letter}{number}" for number in range(n)]) for field, (letter, n) in names.items()}
    whole = StoredDataset(config, tokens, users, items)
    parts = [StoredDataset(config, tokens, users[part::10], items[part::10]) for part in range(3)]
    model = get_model("HetCompStudent")(settings_of(config), parts[0])
    data = stored_data(Split(whole, (parts[0], parts[1], parts[2])))
    save_student(path, {"state_dict": model.served_state(), "other_parameter": {}}, config, data)


def by_id(tokens: list[str]) -> np.ndarray:
    """The padding's token and the others."""
    return np.array(["[PAD]", *tokens], dtype=object)


if __name__ == "__main__":
    main()
