"""Tables that are functions: an evaluation and a step compute each of them once, and nothing stale is left behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.utils import parametrize

from recbole_hetcomp.model.functional_tables import Encoded
from recbole_hetcomp.trainer.distillation import DistillationTrainer

METHODS = {"ReverseStudent": {}, "CompositeStudent": {"methods": {"Reverse": 1.0, "RRD": 1.0}, "list_depth": 20}}


@pytest.fixture
def encodings(monkeypatch) -> list[int]:
    """The number of rows of each encoding."""
    made: list[int] = []
    forward = Encoded.forward
    monkeypatch.setattr(Encoded, "forward", lambda self: made.append(len(self.rows)) or forward(self))
    return made


@pytest.fixture(params=METHODS)
def training(request, make_model, trained_pool, split) -> tuple[DistillationTrainer, Any]:
    """A trainer of a student that has learnt from two teachers, and loaders whose evaluation has many batches."""
    model = make_model(request.param, eval_batch_size=4 * split.whole.item_num, **METHODS[request.param])
    model.learn_from(trained_pool("BPR", "LightGCN"))
    model.on_epoch_start(0)
    loaders = split.loaders(model.config)
    assert len(loaders.valid) > 5
    trainer = DistillationTrainer(model.config, model)
    trainer.eval_collector.data_collect(loaders.train)
    trainer.train_loss_dict[0] = 1.0
    return trainer, loaders


def everybody(trainer: DistillationTrainer) -> list[int]:
    return [trainer.model.n_users, trainer.model.n_items]


def test_an_evaluation_and_a_validation_make_each_table_once(training, encodings) -> None:
    trainer, loaders = training
    for measure in (
        lambda: trainer.evaluate(loaders.valid, load_best_model=False),
        lambda: trainer._valid_epoch(loaders.valid),
    ):
        encodings.clear()
        measure()
        assert sorted(encodings) == sorted(everybody(trainer))


def test_a_step_makes_each_table_once(training, encodings) -> None:
    trainer, loaders = training
    batch = next(iter(loaders.train))
    encodings.clear()
    loss = trainer.model.calculate_loss(batch)
    assert sorted(encodings) == sorted(everybody(trainer))
    sum(loss).backward()
    assert all(parameter.grad is not None for parameter in trainer.model.backbone.parameters())


def test_nothing_stale_is_left(training) -> None:
    """Parameters that change between two evaluations change the second one, as without anything kept."""
    trainer, loaders = training
    users = trainer.model.history.active_users

    def metrics() -> tuple[Any, ...]:
        result = trainer.evaluate(loaders.valid, load_best_model=False)
        assert not parametrize._cache
        return (result, trainer._valid_epoch(loaders.valid), trainer.model.scores(users).detach())

    first = metrics()
    assert not parametrize._cache
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in trainer.model.backbone.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    second = metrics()
    assert not torch.allclose(first[2], second[2], atol=0.01)
    assert first[0] != second[0]
    trainer.model.finish_training()  # plain tables
    third = metrics()
    assert torch.equal(second[2], third[2])
    assert second[:2] == third[:2]


def test_the_best_student_is_read_into_plain_tables_before_it_is_evaluated(training) -> None:
    trainer, loaders = training
    trainer._save_checkpoint(0)
    expected = trainer.evaluate(loaders.test, load_best_model=False)
    with torch.no_grad():
        for parameter in trainer.model.backbone.parameters():
            parameter.mul_(-1.0)
    assert trainer.evaluate(loaders.test, load_best_model=False) != expected
    assert trainer.evaluate(loaders.test) == expected
    assert not parametrize._cache
