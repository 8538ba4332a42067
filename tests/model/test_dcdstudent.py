"""DCD: ranks, draws and loss against loops, lists that need no correction, the cached errors, and that it teaches."""

from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch
from recbole.utils import init_seed

from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.distilled_recommender.dcdstudent import DCDStudent, draw_by_error, error_of, rank_difference
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.trainer.distillation import DistillationTrainer

SMALL = {"list_depth": 20, "item_list_depth": 15, "n_corrections": 4, "error_sharpness": 0.3}


class StoppedError(Exception):
    """Stands for whatever ends a training halfway."""


def stopping(hook, at: int | None):
    """`hook`, which ends the training at epoch `at`."""

    def stop(epoch: int) -> None:
        if epoch == at:
            raise StoppedError
        hook(epoch)

    return stop


@pytest.fixture
def student(make_model, trained_pool):
    """`student(**settings)`: a DCDStudent that has learnt from a teacher, scores in float64."""
    pool = trained_pool("EASE")

    def make(**settings):
        model = make_model("DCDStudent", **{**SMALL, **settings}).double()
        model.learn_from(pool)
        model.on_epoch_start(0)
        return model

    return make


def by_hand(scores: list[float], ranked: list[int], others: list[int]) -> float:
    tail = math.fsum(math.exp(scores[entity]) for entity in others)
    left = [math.fsum(math.exp(scores[entity]) for entity in ranked[place:]) for place in range(len(ranked))]
    return math.fsum(math.log(mass + tail) - scores[entity] for mass, entity in zip(left, ranked))


def test_lags_and_errors_equal_a_loop() -> None:
    scores = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
    lengths = [9, 9, 5, 2, 1, 0]
    present = torch.arange(9) < torch.tensor(lengths)[:, None]
    rank_differences = rank_difference(scores, present)
    for row, own, length in zip(scores.tolist(), rank_differences.tolist(), lengths):
        order = sorted(range(length), key=lambda place: -row[place])
        assert own == [order.index(place) - place for place in range(length)] + [0] * (9 - length)
    expected = [[math.tanh(0.1 * max(difference, 0)) for difference in row] for row in rank_differences.tolist()]
    torch.testing.assert_close(error_of(rank_differences, 0.1), torch.tensor(expected))


def test_draws_have_errors_keep_the_order_and_follow_the_size_of_the_error() -> None:
    generator = torch.Generator().manual_seed(0)
    lists = torch.tensor([[11, 12, 13, 14], [21, 22, 23, 24], [31, 32, 33, 34]])
    errors = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 0.5, 0.0, 0.0], [0.1, 0.0, 0.2, 0.7]])
    assert [sorted(row) for row in draw_by_error(lists, errors, 2, generator).tolist()][:2] == [[0, 0], [0, 22]]
    drawn = draw_by_error(lists[2:].expand(20_000, -1), errors[2:].expand(20_000, -1), 1, generator)
    counts = torch.bincount(drawn.flatten(), minlength=35)[31:] / 20_000
    torch.testing.assert_close(counts, errors[2], atol=0.02, rtol=0)
    three = draw_by_error(lists[2:].expand(50, -1), errors[2:].expand(50, -1), 3, generator)
    assert (three == torch.tensor([31, 33, 34])).all()
    assert draw_by_error(lists, errors, 9, generator).shape == (3, 4)


def test_the_loss_equals_loops_over_users_and_items(student) -> None:
    model = student(item_weight=0.7)
    drawn, positives = torch.arange(1, 20), torch.tensor([1, 2, 5, 9])  # what was drawn as a negative is not corrected
    batch = Batch(model.history.active_users[:7], drawn, positives)
    table = model.scores(torch.arange(model.history.n_users)).detach()
    state = model.generator.get_state()
    expected = {}
    for side, lists, rows, scores in (
        ("users", model.lists.targets, batch.users, table),
        ("items", model.item_lists, batch.positives, table.T),
    ):
        total = 0.0
        too_low, too_high = model.corrections(side, lists, rows)
        for row, above, below in zip(rows.tolist(), too_low.tolist(), too_high.tolist()):
            listed = [entity for entity in lists[row].tolist() if entity]
            by_student = sorted(listed, key=lambda entity: -scores[row, entity].item())
            above, below = ([entity for entity in part if entity] for part in (above, below))
            assert above == sorted(set(above), key=listed.index)
            assert all(by_student.index(entity) > listed.index(entity) for entity in above)
            assert all(by_student.index(entity) < listed.index(entity) for entity in below)
            total += by_hand(scores[row].tolist(), above, below)
        expected[side] = total / len(rows)
    model.generator.set_state(state)
    loss = model.distillation_loss(batch).item()
    assert loss == pytest.approx(expected["users"] + 0.7 * expected["items"], rel=1e-9)
    model.generator.set_state(state)
    model.config["item_weight"] = 0.0
    assert model.distillation_loss(batch).item() == pytest.approx(expected["users"], rel=1e-9)


def test_a_student_that_ranks_as_the_teacher_is_not_corrected(student) -> None:
    model = student()
    table = model.scores(torch.arange(model.history.n_users)).detach()
    users, items = table[:, 1:].argsort(dim=1, descending=True) + 1, table[1:].argsort(dim=0, descending=True).T + 1
    model.lists.on_cpu, model.item_lists = users[:, :20].int(), items[:, :15].int()
    model.on_epoch_start(0)
    assert not any(difference.any() for difference in model.rank_differences.values())
    loss = model.distillation_loss(Batch(model.history.active_users, torch.arange(1, model.n_items)))
    loss.backward()
    assert loss == 0
    assert all(not parameter.grad.any() for parameter in model.parameters())


def test_draws_change_with_the_step_errors_with_the_period_and_with_the_lists(student) -> None:
    model = student(error_period=3)
    users, first = model.history.active_users, model.rank_differences["users"].clone()
    step = [model.corrections("users", model.lists.targets, users)[0] for _ in range(2)]
    assert not torch.equal(*step)
    with torch.no_grad():
        model.backbone.user_embedding.weight.neg_()
    for epoch in (1, 2):
        model.on_epoch_start(epoch)
        assert torch.equal(model.rank_differences["users"], first)
    state = model.distillation_state()
    model.on_epoch_start(3)
    assert not torch.equal(model.rank_differences["users"], first)
    model.load_distillation_state(state)
    assert torch.equal(model.rank_differences["users"], first)

    model.lists.advance = lambda topk, epoch: model.lists.targets.copy_(model.lists.targets.flip(1))
    model.on_validation(model.ranking(50), 4)
    model.on_epoch_start(4)
    assert not torch.equal(model.rank_differences["users"], first)


def test_a_batch_of_users_brings_its_training_items(student) -> None:
    model = student()
    users = model.history.active_users[:3]
    expected = sorted(set(model.history.padded(users).flatten().tolist()) - {0})
    assert model.items_of(Batch(users, None)).tolist() == expected
    assert model.distillation_loss(Batch(users, None)).isfinite()


def test_a_resumed_training_ends_as_one_that_was_left_alone(make_config, split, trained_pool, tmp_path) -> None:
    """Stopped between two refreshes of the errors, so that the errors have to come from the file."""
    pool = trained_pool("EASE")
    outcomes = []
    for name, stops in (("whole", [None]), ("halves", [2, None])):
        for stop in stops:
            config = make_config("DCDStudent", **{**SMALL, "epochs": 5, "learning_rate": 0.05})
            init_seed(config["seed"], True)
            loaders = split.loaders(config)
            model = DCDStudent(config, loaders.train._dataset)
            model.learn_from(pool)
            trainer = DistillationTrainer(config, model)
            trainer.resume(tmp_path / name)
            model.on_epoch_start = stopping(model.on_epoch_start, stop)
            with pytest.raises(StoppedError) if stop else nullcontext():
                trainer.fit(loaders.train, loaders.valid, saved=True, show_progress=False)
        outcomes.append(model.state_dict())
    for key, tensor in outcomes[0].items():
        assert torch.equal(tensor, outcomes[1][key]), key


def test_learning_brings_the_student_nearer_to_the_list_than_plain_training_does(settings) -> None:
    fast = {"epochs": 30, "eval_step": 30, "learning_rate": 0.05, "train_batch_size": 256, "without_distillation": False}
    fidelity = {}
    for weight in (0.0, 1.0):
        config = {**settings, **fast, **SMALL, "distillation_weight": weight}
        rows = run_hetcomp("DCDStudent", "toy", config_dict=config, arguments=())["comparison"]
        fidelity[weight] = next(row["fidelity"] for row in rows if row["role"] == "student")
    assert fidelity[1.0] > fidelity[0.0] + 0.1
