"""A small dataset with structure, and settings under which anything trains on it in a fraction of a second."""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from hypothesis import settings as hypothesis_settings
from recbole.utils import init_seed

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.registry import get_model
from recbole_hetcomp.data.split import Split, make_split
from recbole_hetcomp.teacher_training.scheduling import build_pool
from recbole_hetcomp.teachers import Teacher, TeacherPool, Trajectory
from recbole_hetcomp.teachers.ranking import top_of_block

hypothesis_settings.register_profile("busy machine", deadline=None)  # a slow example is no wrong one
hypothesis_settings.load_profile("busy machine")

DEPTH, N_STAGES = 20, 2  # of the lists in a `list_pool`
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


@pytest.fixture(autouse=True)
def _folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """RecBole writes ./log, reads the command line, and measures the processor for a second in its environment report."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    monkeypatch.setattr(psutil, "cpu_percent", lambda *_, **__: 0.0)
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers


@pytest.fixture
def toy(tmp_path: Path) -> str:
    """The `data_path` of the dataset `toy`: 60 users in four groups, 80 items, a user and an item without interactions."""
    return write_toy(tmp_path / "data")


@pytest.fixture
def settings(toy: str, tmp_path: Path) -> dict[str, Any]:
    """A config_dict for `toy`: tiny models, two epochs, two teachers."""
    return {
        "data_path": toy,
        "checkpoint_dir": str(tmp_path / "saved"),
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
        "teacher_config": {"all": {"epochs": 2, "embedding_size": 8, "train_batch_size": 256}},
        "without_distillation_config": {"epochs": 2, "train_batch_size": 256},
    }


@pytest.fixture
def make_config(settings: dict[str, Any]) -> Callable[..., Config]:
    """`make_config(model, **overrides)`: the Config of a model on `toy`; the command line plays no part."""

    def make(model: str, **overrides: Any) -> Config:
        return Config(model, "toy", config_dict={**settings, **overrides}, arguments=())

    return make


@pytest.fixture
def split(make_config: Callable[..., Config]) -> Split:
    """The split of `toy`, by user, 60/20/20."""
    return make_split(make_config("BPR"))


@pytest.fixture
def make_model(make_config: Callable[..., Config], split: Split) -> Callable[..., Any]:
    """`make_model(name, **overrides)`: a model of `toy` in evaluation mode, as its seed initialises it."""

    def make(name: str, **overrides: Any) -> Any:
        config = make_config(name, **overrides)
        init_seed(config["seed"], config["reproducibility"])
        return get_model(name)(config, split.loaders(config).train._dataset).eval()

    return make


@pytest.fixture
def list_pool(split: Split) -> Callable[[int], TeacherPool]:
    """`list_pool(n)`: a pool of n teachers with random lists outside the training items."""

    def make(n_teachers: int) -> TeacherPool:
        generator = torch.Generator().manual_seed(n_teachers)
        users = split.history.active_users
        teachers = []
        for index in range(n_teachers):
            items = torch.zeros(N_STAGES, split.whole.user_num, DEPTH, dtype=torch.int32)
            for stage in range(N_STAGES):
                scores = torch.rand(len(users), split.whole.item_num, generator=generator)
                items[stage, users] = top_of_block(scores, split.history.padded(users), DEPTH).int()
            deviations = 30 * torch.rand(items.shape, generator=generator)
            made = Trajectory.from_lists(items, rank_std=deviations, dataset_fingerprint=split.fingerprint)
            teachers.append(Teacher(f"lists {index}", made))
        return TeacherPool(teachers)

    return make


@pytest.fixture
def trained_pool(make_config: Callable[..., Config], split: Split) -> Callable[..., TeacherPool]:
    """`trained_pool("BPR", "EASE")`: a pool of teachers trained for two epochs."""

    def make(*names: str) -> TeacherPool:
        return build_pool(make_config("HetCompStudent", teachers=list(names)), split)

    return make
