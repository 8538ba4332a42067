"""Students that learn from scores or from vectors: built, trained, and how much of the teacher's is in theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.testing.interruption import interrupt
from recbole_hetcomp.trainer import progress_file


class ScoreTable:
    """A teacher's model that knows its scores by heart."""

    device, USER_ID = torch.device("cpu"), "user_id"

    def __init__(self, scores: Tensor) -> None:
        self.scores, self.n_users = scores, len(scores)

    def full_sort_predict(self, users: Any) -> Tensor:
        return self.scores[users["user_id"]]


@pytest.fixture
def score_table() -> type[ScoreTable]:
    """The class of a teacher's model that is a table of scores."""
    return ScoreTable


@pytest.fixture
def from_scores(make_model, list_pool) -> Callable[..., tuple[Any, Tensor]]:
    """`from_scores(name, **settings)`: a student that has learnt from a teacher with random scores, and these."""

    def make(name: str, without_list: Sequence[int] = (), **overrides: Any) -> tuple[Any, Tensor]:
        model = make_model(name, **overrides)
        scores = torch.randn(model.n_users, model.n_items, generator=torch.Generator().manual_seed(4))
        pool = list_pool(1)
        pool.teachers[0].load = lambda: ScoreTable(scores)
        if without_list:  # of these users the teacher knows nothing
            scores[without_list] = 0.0
            pool.teachers[0].trajectory.items[:, without_list] = 0
        model.learn_from(pool)
        model.on_epoch_start(0)
        return model, scores

    return make


@pytest.fixture
def z_scores() -> Callable[[Any, int, Tensor], Tensor]:
    """`z_scores(model, user, row)`: [n_items] float64, of mean 0 and deviation 1 over what the user has not in training."""

    def standardise(model: Any, user: int, row: Tensor) -> Tensor:
        trained = {0, *model.history.padded(torch.tensor([user]))[0].tolist()}
        left = row.double()[[item for item in range(model.n_items) if item not in trained]]
        return (row.double() - left.mean()) / left.std()

    return standardise


@pytest.fixture
def standardise_own_scores(z_scores) -> Callable[[Any], None]:
    """`standardise_own_scores(model)`: scales the user vectors of an MF such that its scores have deviation 1, as above."""

    def scale(model: Any) -> None:
        with torch.no_grad():
            table = model.backbone.user_embedding.weight
            rows = model.scores(torch.arange(model.n_users))
            for user in model.history.active_users.tolist():
                zs = z_scores(model, user, rows[user])
                table[user] *= ((zs[1] - zs[2]) / (rows[user, 1] - rows[user, 2]).double()).float()

    return scale


@pytest.fixture
def learnt(make_model, trained_pool) -> Callable[..., Any]:
    """`learnt(name, *teachers, **settings)`: a student of four numbers a vector that has learnt from teachers (BPR)."""

    def make(name: str, *teachers: str, **overrides: Any) -> Any:
        model = make_model(name, **{"embedding_size": 4, "teacher_rank": 8, **overrides})
        with torch.no_grad():
            for table in model.embeddings():
                table.mul_(30)  # vectors of a size at which nonlinear maps differ from linear ones
        model.learn_from(trained_pool(*(teachers or ("BPR",))))
        model.on_epoch_start(0)
        return model

    return make


@pytest.fixture
def batch() -> Batch:
    """A dozen users and a score of items."""
    return Batch(torch.arange(3, 15), torch.arange(5, 25))


@pytest.fixture
def after_training(settings) -> Callable[..., DistilledRecommender]:
    """`after_training(name, weight, **settings)`: the student of BPR after a short training at that distillation weight."""

    def train(name: str, weight: float, **overrides: Any) -> DistilledRecommender:
        fast = {"epochs": 20, "eval_step": 20, "learning_rate": 0.02, "embedding_size": 4, "teacher_rank": 8}
        fast["weight_decay"] = 0.0
        config = {**settings, **fast, "teachers": ["BPR"], "distillation_weight": weight, **overrides}
        return run_hetcomp(name, "toy", config_dict=config, arguments=(), saved=False, compare=False)["model"]

    return train


def unexplained(student: Tensor, teacher: Tensor) -> float:
    """The part of the teacher's rows [n, D] that no affine map of the student's rows [n, d] explains."""
    inputs = torch.cat([student, torch.ones(len(student), 1)], 1).double()
    residual = teacher.double() - inputs @ torch.linalg.lstsq(inputs, teacher.double()).solution
    return float(residual.square().sum() / (teacher - teacher.mean(0)).square().sum())


@pytest.fixture
def missed() -> Callable[[Any], float]:
    """`missed(model)`: the part of the teacher's user vectors that no affine map of the student's explains."""

    def measure(model: Any) -> float:
        active = model.history.active_users
        return unexplained(model.embeddings()[0].detach()[active], model.teacher["user"][active])

    return measure


@pytest.fixture
def train_alone() -> Callable[..., float]:
    """`train_alone(model, steps)`: the loss over all users and items after `steps` steps of Adam on it alone."""

    def train(model: Any, steps: int, rate: float = 0.05) -> float:
        everything = Batch(torch.arange(1, model.n_users), torch.arange(1, model.n_items))
        optimizer = torch.optim.Adam(model.parameters(), lr=rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
        for _ in range(steps):
            optimizer.zero_grad()
            model.distillation_loss(everything).backward()
            optimizer.step()
            schedule.step()
        return model.distillation_loss(everything).item()

    return train


@pytest.fixture
def resumed(settings, monkeypatch) -> Callable[..., tuple[dict[str, Any], dict[str, Any]]]:
    """`resumed(name, **settings)`: the results of a training that was left alone and of one stopped after three epochs."""
    monkeypatch.setattr(progress_file, "pause_after", lambda seconds: 0.0)

    def run(name: str, **overrides: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        training = {"epochs": 4, "stopping_step": 10, "learning_rate": 0.02, "embedding_size": 4, "teacher_rank": 8}
        config = {**settings, **training, "teachers": ["BPR"], "without_distillation": False, **overrides}

        def once(folder: str) -> dict[str, Any]:
            given = {**config, "checkpoint_dir": folder}
            return run_hetcomp(name, "toy", config_dict=given, arguments=(), compare=False)

        interrupt(lambda: once("stopped"), after=3)
        return once("whole"), once("stopped")

    return run
