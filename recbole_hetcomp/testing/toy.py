"""A small dataset with structure, and settings under which anything trains on it in a fraction of a second."""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

N_USERS, N_ITEMS, N_GROUPS = 60, 80, 4
COLD_USER, UNSEEN_ITEM = "cold", "unseen"  # they stand in the feature files alone: nothing to train on


def toy_pairs() -> list[tuple[str, str]]:
    """User u likes the items of its group (item % 4 == u % 4) best, among them the popular ones, and a few others."""
    draw = random.Random(7)
    pairs = []
    for user in range(N_USERS):
        weights = [(10.0 if item % N_GROUPS == user % N_GROUPS else 1.0) / (1 + item // N_GROUPS) for item in range(N_ITEMS)]
        wanted, chosen = 8 + user % 9, dict.fromkeys([user % N_ITEMS])
        while len(chosen) < wanted:
            chosen.update(dict.fromkeys(draw.choices(range(N_ITEMS), weights)))
        pairs += [(f"u{user}", f"i{item}") for item in chosen]
    chosen_items = {item for _, item in pairs}
    return pairs + [(f"u{item % N_USERS}", f"i{item}") for item in range(N_ITEMS) if f"i{item}" not in chosen_items]


def write_toy(folder: Path) -> str:
    """Writes `toy` in RecBole's atomic format into `folder`/toy and returns `folder`, RecBole's `data_path`."""
    (folder / "toy").mkdir(parents=True)
    rows = [f"{user}\t{item}\t{1 + time % 5}\t{time}\n" for time, (user, item) in enumerate(toy_pairs())]
    (folder / "toy" / "toy.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + "".join(rows), encoding="utf-8"
    )
    users = [f"u{user}" for user in range(N_USERS)] + [COLD_USER]
    (folder / "toy" / "toy.user").write_text("user_id:token\n" + "\n".join(users) + "\n", encoding="utf-8")
    titles = [f"i{item}\tThe {item}th Film" for item in range(N_ITEMS)] + [f"{UNSEEN_ITEM}\tNever Shown"]
    (folder / "toy" / "toy.item").write_text(
        "item_id:token\tmovie_title:token_seq\n" + "\n".join(titles) + "\n", encoding="utf-8"
    )
    return str(folder)


SMALL = {"embedding_size": 8, "train_batch_size": 256}


def toy_settings(data_path: str, checkpoint_dir: Path) -> dict[str, Any]:
    """A config_dict for `toy`: tiny models, two epochs, two teachers, of which LightGCN is best after the second."""
    return {
        "data_path": data_path,
        "checkpoint_dir": str(checkpoint_dir),
        "load_col": {"inter": ["user_id", "item_id"], "user": ["user_id"], "item": ["item_id", "movie_title"]},
        "seed": 11,
        "use_gpu": False,
        "gpu_id": "",
        "show_progress": False,
        "state": "WARNING",
        "epochs": 2,
        "eval_step": 1,
        "train_batch_size": 256,
        "embedding_size": 8,
        "topk": [5, 10],
        "valid_metric": "Recall@10",
        "trajectory_depth": 20,
        "trajectory_fractions": [0.5, 1.0],
        "teachers": ["BPR", "LightGCN"],
        "teacher_config": {"all": {"epochs": 2, "eval_step": 1, "learning_rate": 0.007, **SMALL}},
        "without_distillation_config": {"epochs": 2, "train_batch_size": 256},
    }


@contextmanager
def apart(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test in a folder of its own: RecBole writes ./log, reads the command line, and adds handlers to the root logger.

    For its environment report it would also measure the processor for a second.
    """
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    monkeypatch.setattr(psutil, "cpu_percent", lambda *_, **__: 0.0)
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers
