"""What is trained apart from the student: neither loss reaches what the other trains, whatever it depends on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from recbole.utils import init_seed
from torch import nn

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import get_model
from recbole_hetcomp.model.distilled_recommender import compositestudent
from recbole_hetcomp.model.distilled_recommender.fitnetstudent import FitNetStudent
from recbole_hetcomp.testing.parts_of_a_batch import USERS_ALONE
from recbole_hetcomp.testing.wrong_values import changed
from recbole_hetcomp.trainer import progress_file
from recbole_hetcomp.trainer.checkpoint import load_checkpoint, save_checkpoint
from recbole_hetcomp.trainer.distillation import DistillationTrainer
from recbole_hetcomp.trainer.processes import Processes

SETTINGS = {
    "epochs": 5,
    "stopping_step": 100,
    "train_batch_size": 128,
    "learning_rate": 0.05,
    "apart_learning_rate": 0.02,
    "distillation_weight": 1.0,
    "embedding_size": 4,
    "teacher_rank": 8,
    "clip_grad_norm": {"max_norm": 0.5},
}


class FollowedStudent(FitNetStudent):
    """Learns from a teacher that learns from it; nothing is detached, so that only the trainer keeps the two apart."""

    trains_apart = True

    def learn_from(self, teachers) -> None:
        super().learn_from(teachers)
        width = self.teacher["user"].size(1)
        self.apart["user"] = nn.Linear(width, width, bias=False)
        nn.init.eye_(self.apart["user"].weight)

    def loss_of_pairs(self) -> torch.Tensor:
        users = self.history.active_users
        own = self.auxiliary["user"](self.embeddings(users)[0])
        return (self.apart["user"](self.teacher["user"][users]) - own).square().sum(1).mean()

    def distillation_loss(self, batch) -> torch.Tensor:
        return super().distillation_loss(batch) + self.loss_of_pairs()

    def loss_apart(self, interaction) -> torch.Tensor:
        return 3 * self.loss_of_pairs()


class StoppedError(Exception):
    """Stands for whatever ends a training halfway."""


@pytest.fixture(autouse=True)
def progress_before_every_epoch(monkeypatch) -> None:
    monkeypatch.setattr(progress_file, "pause_after", lambda seconds: 0.0)


@pytest.fixture
def make_trainer(make_config, split, trained_pool):
    """`make_trainer(**settings)`: (trainer, loaders) of a FollowedStudent that has learnt from BPR."""
    pool = trained_pool("BPR")

    def make(**overrides: Any) -> tuple[DistillationTrainer, Any]:
        config = make_config("FitNetStudent", **{**SETTINGS, **overrides})
        init_seed(config["seed"], True)
        loaders = split.loaders(config)
        model = FollowedStudent(config, loaders.train._dataset)
        model.learn_from(pool)
        return DistillationTrainer(config, model), loaders

    return make


def fitted(trainer: DistillationTrainer, loaders: Any, stop: int | None = None) -> dict[str, torch.Tensor]:
    """All parameters at the end of the training, those of `apart` too; `stop` interrupts it in that epoch."""
    validate, finish, ended = trainer._valid_epoch, trainer.model.finish_training, {}

    def stopping(*arguments: Any, **settings: Any) -> Any:
        if stop is not None and max(trainer.train_loss_dict) == stop:
            raise StoppedError
        return validate(*arguments, **settings)

    def finishing() -> None:
        ended.update({name: value.clone() for name, value in trainer.model.state_dict().items()})
        finish()

    trainer._valid_epoch, trainer.model.finish_training = stopping, finishing
    trainer.fit(loaders.train, loaders.valid, verbose=False, saved=True)
    return ended


def student_of(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if not name.startswith("apart.")}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("clip", [None, {"max_norm": 0.5}])
@pytest.mark.parametrize("learner", ["adam", "sgd", "adagrad"])
def test_the_loss_apart_gives_nothing_to_the_student(make_trainer, monkeypatch, learner, clip) -> None:
    settings = {"apart_learning_rate": 0.0, "learner": learner, "clip_grad_norm": clip, "epochs": 2, "learning_rate": 0.005}
    one = fitted(*make_trainer(**settings))
    with monkeypatch.context() as patched:
        patched.setattr(FollowedStudent, "loss_apart", lambda self, batch: -1e4 * self.loss_of_pairs())
        other = fitted(*make_trainer(**settings))
    assert_same(other, one)
    assert torch.equal(one["apart.user.weight"], torch.eye(8))
    moving = fitted(*make_trainer(**{**settings, "apart_learning_rate": 0.02}))
    assert not torch.equal(moving["apart.user.weight"], torch.eye(8))
    assert not torch.equal(moving["backbone.user_embedding.weight"], one["backbone.user_embedding.weight"])


def test_a_step_apart_is_the_optimisers_on_its_own_loss_alone(make_trainer) -> None:
    trainer, loaders = make_trainer(clip_grad_norm={"max_norm": 1e-3})
    model, expected = trainer.model, []
    optimizer = torch.optim.Adam([weight := nn.Parameter(model.apart["user"].weight.detach().clone())], lr=0.02)
    loss_apart = model.loss_apart

    def watched(batch: Any) -> torch.Tensor:
        """As the student is now, after its step; what its gradients are must not change."""
        loss = loss_apart(batch)
        (weight.grad,) = torch.autograd.grad(loss, [model.apart["user"].weight], retain_graph=True)
        optimizer.step()
        expected.append([None if p.grad is None else p.grad.clone() for p in model.backbone.parameters()])
        return loss

    model.loss_apart = watched
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    for batch in list(loaders.train)[:5]:
        trainer._step(model.calculate_loss, batch, scaler)
        torch.testing.assert_close(model.apart["user"].weight, weight, rtol=1e-6, atol=1e-7)
        for parameter, gradient in zip(model.backbone.parameters(), expected[-1]):
            assert torch.equal(parameter.grad, gradient)
    assert not torch.equal(weight, torch.eye(8))


def test_clipping_measures_the_students_gradients_alone(make_trainer, monkeypatch) -> None:
    """A gradient that the student's loss leaves in `apart`, however large, takes nothing from the student's step."""
    states = []
    for size in (0.0, 1e6):
        monkeypatch.setattr(
            FollowedStudent,
            "distillation_loss",
            lambda self, batch, size=size: (
                FitNetStudent.distillation_loss(self, batch) + size * (self.apart["user"].weight - torch.eye(8)).sum()
            ),
        )
        states.append(student_of(fitted(*make_trainer(apart_learning_rate=0.0, epochs=2, learner="sgd"))))
    assert_same(*states)


def test_a_resumed_training_ends_as_an_uninterrupted_one(make_trainer, tmp_path) -> None:
    expected = fitted(*make_trainer())
    for stop in (0, 3):
        path = tmp_path / f"{stop}.progress"
        trainer, loaders = make_trainer()
        trainer.resume(path)
        with pytest.raises(StoppedError):
            fitted(trainer, loaders, stop)
        trainer, loaders = make_trainer()
        trainer.resume(path)
        assert_same(fitted(trainer, loaders), expected)


RESUMED = [
    ("OKDStudent", {"list_depth": 20, "n_top": 5, "n_random": 7, "module_rank": 2}),
    ("OKDStudent", {"list_depth": 20, "n_top": 5, "n_random": 7, "module_rank": 2, "okd_candidates": "on_policy"}),
    ("EGAStudent", {"n_nodes": 12, "graph_size": 6}),
]


@pytest.mark.parametrize(("method", "given"), RESUMED)
def test_so_does_one_of_a_method_with_modules_apart(make_config, split, trained_pool, tmp_path, method, given) -> None:
    """What is trained apart ends with the same bits, too; with the state of its optimiser lost it does not."""
    pool, settings = trained_pool("BPR"), {**SETTINGS, **given, "learning_rate": 0.01}

    def make() -> tuple[DistillationTrainer, Any]:
        config = make_config(method, **settings)
        init_seed(config["seed"], True)
        loaders = split.loaders(config)
        model = get_model(method)(config, loaders.train._dataset)
        model.learn_from(pool)
        return DistillationTrainer(config, model), loaders

    expected, path = fitted(*make()), tmp_path / "a.progress"
    assert any(name.startswith("apart.") for name in expected)
    trainer, loaders = make()
    trainer.resume(path)
    with pytest.raises(StoppedError):
        fitted(trainer, loaders, 2)
    state = path.read_bytes()
    trainer, loaders = make()
    trainer.resume(path)
    assert_same(fitted(trainer, loaders), expected)
    path.write_bytes(state)
    trainer, loaders = make()
    trainer.resume(path)
    trainer.optimizer_apart.state.clear()
    ended = fitted(trainer, loaders)
    assert any(not torch.equal(ended[name], value) for name, value in expected.items())


def nan(tensor: torch.Tensor) -> torch.Tensor:
    return torch.full_like(tensor, torch.nan)


WRONG = [
    *((("optimizer_apart",), value) for value in (None, {}, [], "x", {"state": {}, "param_groups": []})),
    *((("optimizer_apart", "state"), value) for value in (None, {1: {}}, {"x": {}}, {0: "x"}, {0: {"step": "x"}})),
    *((("optimizer_apart", "state", 0, "exp_avg"), value) for value in (nan, lambda x: x[1:], "x")),
    *((("optimizer_apart", "param_groups", 0, "lr"), value) for value in (0.05, math.nan)),
    *((("state_dict", "apart.user.weight"), value) for value in (nan, lambda x: x[1:], None)),
]


def test_progress_that_cannot_be_is_refused(make_trainer, tmp_path) -> None:
    trainer, loaders = make_trainer()
    trainer.resume(path := tmp_path / "a.progress")
    with pytest.raises(StoppedError):
        fitted(trainer, loaders, 2)
    state = load_checkpoint(path)
    fresh, _ = make_trainer()
    for where, value in WRONG:
        save_checkpoint(path, changed(state, where, value))
        with pytest.raises(UserError, match=r"^resume: .*is no progress of this training"):
            fresh.resume(path)
    save_checkpoint(path, state)
    fresh.resume(path)
    assert fresh.start_epoch == 2


def test_progress_of_a_training_with_nothing_apart_has_no_such_optimizer(make_trainer, tmp_path) -> None:
    trainer, loaders = make_trainer()
    trainer.resume(path := tmp_path / "a.progress")
    fitted(trainer, loaders)
    unweighted, _ = make_trainer(distillation_weight=0.0)
    assert unweighted.optimizer_apart is None
    with pytest.raises(UserError, match="nothing is trained apart"):
        unweighted.resume(path)


def test_without_its_weight_it_is_plain_training_bit_for_bit(make_trainer, make_config, split) -> None:
    found = fitted(*make_trainer(distillation_weight=0.0))
    config = make_config("FitNetStudent", **{**SETTINGS, "distillation_weight": 0.0})
    init_seed(config["seed"], True)
    loaders = split.loaders(config)
    plain = DistillationTrainer(config, FitNetStudent(config, loaders.train._dataset))  # it has learnt from nobody
    expected = fitted(plain, loaders)
    assert_same({name: found[name] for name in expected}, expected)
    assert torch.equal(found["apart.user.weight"], torch.eye(8))


def test_nothing_of_it_is_served(make_trainer) -> None:
    trainer, loaders = make_trainer(epochs=1)
    assert any(name.startswith("apart.") for name in trainer.model.state_dict())
    assert all(name.startswith("backbone.") for name in trainer.model.served_state())
    trainer.fit(loaders.train, loaders.valid, verbose=False, saved=True)
    assert all(name.startswith("backbone.") for name in trainer.model.state_dict())
    saved = torch.load(Path(trainer.saved_model_file), weights_only=True)["state_dict"]
    assert all(name.startswith("backbone.") for name in saved)
    assert trainer.evaluate(loaders.test)


# --- with others ------------------------------------------------------------------------------------------------------


@pytest.fixture
def known(monkeypatch) -> None:
    """Composites find FollowedStudent where FitNet is asked for."""
    method = compositestudent._method
    monkeypatch.setattr(compositestudent, "_method", lambda name: FollowedStudent if name == "FitNet" else method(name))


def test_a_composite_trains_apart_what_its_methods_do(known, make_config, split, trained_pool) -> None:
    config = make_config("CompositeStudent", **{**SETTINGS, "epochs": 2}, methods={"FitNet": 0.5, "DE": 0.1})
    loaders = split.loaders(config)
    model = compositestudent.CompositeStudent(config, loaders.train._dataset)
    model.learn_from(trained_pool("BPR"))
    batch = next(iter(loaders.train))
    assert list(model.apart) == ["FitNet"]
    assert model.loss_apart(batch).item() == model.parts["FitNet"].loss_apart(batch).item()
    trainer = DistillationTrainer(config, model)
    ended = fitted(trainer, loaders)
    assert not torch.equal(ended["apart.FitNet.user.weight"], torch.eye(8))
    assert all(name.startswith("backbone.") for name in model.state_dict())


def test_several_processes_refuse_it_by_name(known, make_config) -> None:
    two = Processes(2, 2, 0, "localhost", 5678)
    config = make_config("FitNetStudent", **USERS_ALONE)
    config.model_class = FollowedStudent
    with pytest.raises(UserError, match=r"^nproc: FollowedStudent trains modules apart from the student.*; use --nproc=1$"):
        two.check(config)
    composite = make_config("CompositeStudent", methods={"RRD": 1.0, "FitNet": 1.0}, **USERS_ALONE)
    with pytest.raises(UserError, match=r"^nproc: FollowedStudent trains modules apart"):
        two.check(composite)
