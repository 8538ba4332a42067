"""The dataset `toy`, settings under which anything trains on it in a fraction of a second, and teachers made of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings as hypothesis_settings
from recbole.utils import init_seed

import recbole_hetcomp
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.registry import get_model, is_distilled, properties_dir
from recbole_hetcomp.config.strict import settings_of
from recbole_hetcomp.data.split import Split, make_split
from recbole_hetcomp.teacher_training.scheduling import build_pool
from recbole_hetcomp.teachers import Teacher, TeacherPool, Trajectory
from recbole_hetcomp.teachers.ranking import top_of_block
from recbole_hetcomp.testing import apart, toy_pairs, toy_settings, write_toy
from recbole_hetcomp.testing.clicks import clicks_settings, write_clicks

__all__ = ["toy_pairs", "write_toy"]  # used by tests that write data of their own

hypothesis_settings.register_profile("busy machine", deadline=None)  # a slow example is no wrong one
hypothesis_settings.load_profile("busy machine")

MEMORY, ENOUGH = "/dev/shm", 8 * 2**30  # bytes
if os.path.isdir(MEMORY) and shutil.disk_usage(MEMORY).free >= ENOUGH:  # tests make some ten thousand small files
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)

DEPTH, N_STAGES = 20, 2  # of the lists in a `list_pool`

DISTILLED = sorted(path.stem for path in properties_dir().glob("model/*.yaml") if is_distilled(get_model(path.stem)))
METHODS = [name for name in DISTILLED if "general" in get_model(name).families]
SELECTING: dict[str, Any] = {"warmup_epochs": 0, "teachers": ["BPR", "EASE"]}  # there is a choice from the first epoch
OWN = {"CompositeStudent": {"methods": {"RRD": 0.1, "DE": 0.1}}, "RLKDStudent": SELECTING}
# Settings under which the loss of a method takes ways of its own on a device.
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("OFAStudent", {"ofa_teachers": "per_teacher", "teachers": ["BPR", "EASE"]}),
    ("OFAStudent", {"student": "LightGCN"}),
    ("OKDStudent", {"divergence": "js"}),
    ("OKDStudent", {"okd_candidates": "on_policy"}),
    ("ReverseStudent", {"denoise": True, "denoise_from": 0}),
    ("CUKDStudent", {"solver": "sgd", "start_steps": 5}),
    ("RLKDStudent", {**SELECTING, "reward": "r3"}),
    ("RLKDStudent", {**SELECTING, "student": "LightGCN"}),
]


def _called(given: tuple[str, dict[str, Any]]) -> str:
    plain = {"warmup_epochs", "teachers", "methods", "start_steps", "denoise_from"}
    return "-".join([given[0], *(f"{key}={value}" for key, value in given[1].items() if key not in plain)])


@pytest.fixture(autouse=True)
def _folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """RecBole writes ./log and reads the command line, and no test is to see what another has left."""
    with apart(tmp_path, monkeypatch):
        yield


@pytest.fixture(params=[*((name, OWN.get(name, {})) for name in METHODS), *VARIANTS], ids=_called)
def any_method(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Every method, and some of their variants: its name, and settings of its own, `teachers` among them where it asks."""
    name, own = request.param
    return name, dict(own)


@pytest.fixture
def toy(tmp_path: Path) -> str:
    """The `data_path` of the dataset `toy`: 60 users in four groups, 80 items, a user and an item without interactions."""
    return write_toy(tmp_path / "data")


@pytest.fixture
def settings(toy: str, tmp_path: Path) -> dict[str, Any]:
    """A config_dict for `toy`: tiny models, two epochs, two teachers."""
    return toy_settings(toy, tmp_path / "saved")


@pytest.fixture
def make_config(settings: dict[str, Any]) -> Callable[..., Config]:
    """`make_config(model, **overrides)`: the Config of a model on `toy`; the command line plays no part."""

    def make(model: str, **overrides: Any) -> Config:
        return Config(model, "toy", config_dict={**settings, **overrides}, arguments=())

    return make


@pytest.fixture
def properties(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of our yaml files, for a test to write into: the package reads these."""
    copied = Path(shutil.copytree(properties_dir(), tmp_path / "checkout" / "properties"))
    monkeypatch.setattr(recbole_hetcomp, "__file__", str(tmp_path / "checkout" / "recbole_hetcomp" / "__init__.py"))
    return copied


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
        return get_model(name)(settings_of(config), split.loaders(config).train._dataset).eval()

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


@pytest.fixture
def clicks(tmp_path: Path) -> dict[str, Any]:
    """A config_dict for the dataset `clicks`: rows with labels, and features of users and items."""
    return clicks_settings(write_clicks(tmp_path / "clicks-data"), tmp_path / "saved")


@pytest.fixture
def clicks_config(clicks: dict[str, Any]) -> Callable[..., Config]:
    """`clicks_config(model, **overrides)`: the Config of a model on `clicks`."""
    return lambda model, **overrides: Config(model, "clicks", config_dict={**clicks, **overrides}, arguments=())


@pytest.fixture
def clicks_model(clicks_config: Callable[..., Config]) -> Callable[..., Any]:
    """`clicks_model(name, **overrides)`: a model of `clicks` in evaluation mode, and its training part."""

    def make(name: str, **overrides: Any) -> tuple[Any, Any]:
        config = clicks_config(name, **overrides)
        train = make_split(config).train
        init_seed(config["seed"], config["reproducibility"])
        return get_model(name)(settings_of(config), train).eval(), train

    return make
