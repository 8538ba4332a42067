"""DisWOT as a loss: against a loop, 0 for the teacher itself, and smaller after training by it than without."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.model.item_sample import ItemSample

NAME = "DisWOTStudent"


def unit_products(rows: torch.Tensor) -> torch.Tensor:
    products = rows @ rows.T
    return products / products.norm(dim=1, keepdim=True)


def of_products(users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    return users @ items.T


def of_distances(scale: float):
    return lambda users, items: torch.stack([-scale * (user - items).square().sum(1) for user in users])


def of_definition(users: torch.Tensor, items: torch.Tensor, positives: torch.Tensor, scores_of=of_products):
    """Both grams, the class gradients by autograd of a sum over the users one by one."""
    items = items.clone().requires_grad_()
    total = torch.zeros((), dtype=users.dtype)
    for row, positive in zip(scores_of(users, items), positives.tolist()):
        if positive >= 0:
            total = total + cross_entropy(row[None], torch.tensor([positive]))
    (gradients,) = torch.autograd.grad(total, items)
    return unit_products(users - users.mean(0)), unit_products(gradients)


def in_ball(rows: torch.Tensor) -> torch.Tensor:
    return torch.stack([row / max(1.0, float(row.norm())) for row in rows])


STUDENTS = {"MF": of_products, "LightGCN": of_products, "ML": of_distances(20.0), "CML": of_distances(1.0)}


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0), (0.5, 2.0)])
@pytest.mark.parametrize("student", STUDENTS)
def test_the_loss_equals_its_definition(learnt, batch, student, weights) -> None:
    """In float64, where the student's graph is no float32. Some of the points in the ball are on its surface, some not."""
    model = learnt(NAME, student=student, n_classes=30, relation_weight=weights[0], semantic_weight=weights[1])
    model.requires_grad_(False)
    if student != "LightGCN":
        for table in model.backbone.double().parameters():
            lengths = torch.linspace(0.2, 1, len(table), dtype=torch.float64) + torch.arange(len(table)) % 2
            table.mul_((lengths / table.norm(dim=1))[:, None])
        model.teacher = {side: table.double() for side, table in model.teacher.items()}
    state = model.generator.get_state()
    positives = model.sample.positives(batch.users, model.generator)
    model.generator.set_state(state)
    users, items = (table.double() for table in model.embeddings(batch.users))
    if student in ("ML", "CML"):
        clipped = in_ball(users), in_ball(items)
        assert all(0 < (inside != free).any(1).sum() < len(free) for inside, free in zip(clipped, (users, items)))
        users, items = clipped
    scores_of = STUDENTS[student]
    torch.testing.assert_close(scores_of(users, items), model.scores(batch.users).double(), rtol=1e-4, atol=1e-5)
    mine = of_definition(users, items[model.classes], positives, scores_of)
    taught = model.teacher["user"][batch.users].double(), model.teacher["item"][model.classes].double()
    theirs = of_definition(*taught, positives)
    distances = [(a - b).square().sum() / len(a) ** 2 for a, b in zip(mine, theirs)]
    expected = sum(weight * distance for weight, distance in zip(weights, distances))
    bound = 2e-3 if student == "LightGCN" else 1e-9
    assert model.distillation_loss(batch).item() == pytest.approx(float(expected), rel=bound)


def test_a_student_that_is_the_teacher_has_no_loss_and_no_gradient(learnt, batch) -> None:
    model = learnt(NAME, embedding_size=8, n_classes=30)
    with torch.no_grad():
        model.backbone.user_embedding.weight.copy_(model.teacher["user"])
        model.backbone.item_embedding.weight.copy_(model.teacher["item"])
    loss = model.distillation_loss(batch)
    loss.backward()
    assert loss.item() < 1e-12
    assert all(parameter.grad.abs().max() < 1e-6 for parameter in model.backbone.parameters())


def test_a_sample_holds_items_of_training_and_gives_each_user_one_of_its_own(split) -> None:
    history, generator = split.history, torch.Generator().manual_seed(1)
    sample = ItemSample.drawn(history, 15, generator)
    assert len(sample.items) == 15
    assert set(sample.items.tolist()) <= set(history.items.tolist())
    users = torch.arange(history.n_users)
    drawn = torch.stack([sample.positives(users, generator) for _ in range(60)])
    for user in users.tolist():
        own = set(history.padded(torch.tensor([user]))[0].tolist()) & set(sample.items.tolist()) - {0}
        met = {int(sample.items[column]) for column in drawn[:, user].tolist() if column >= 0}
        assert met == own or (met < own and len(own) > 4)
        assert (drawn[:, user] == -1).all() == (not own)
    everything = ItemSample.drawn(history, 10_000, generator)
    assert torch.equal(everything.items, history.items.unique())


def test_no_more_users_than_asked_are_looked_at(learnt, batch, monkeypatch) -> None:
    from recbole_hetcomp.model.distilled_recommender import diswotstudent

    asked = []
    whole = diswotstudent.features_and_scores

    def watched(backbone, users, items):
        asked.append(len(users))
        return whole(backbone, users, items)

    monkeypatch.setattr(diswotstudent, "features_and_scores", watched)
    learnt(NAME, relation_users=5).distillation_loss(batch)
    learnt(NAME, relation_users=500).distillation_loss(batch)
    assert asked == [5, len(batch.users)]


def test_neither_part_and_no_loss_of_its_own_leave_nothing_to_learn(learnt) -> None:
    off = {"relation_weight": 0.0, "semantic_weight": 0.0}
    with pytest.raises(UserError, match="leave nothing to learn"):
        learnt(NAME, **off, base_loss_weight=0.0).check_trainable()
    learnt(NAME, **off, base_loss_weight=1.0).check_trainable()


def test_a_sample_is_of_the_items_that_it_may_have(split) -> None:
    history, generator = split.history, torch.Generator().manual_seed(1)
    allowed = torch.arange(history.n_items) % 2 > 0
    assert (ItemSample.drawn(history, 15, generator, allowed).items % 2 == 1).all()
    with pytest.raises(UserError, match="no item with a vector"):
        ItemSample.drawn(history, 15, generator, torch.zeros(history.n_items, dtype=torch.bool))


def test_training_by_it_brings_the_student_nearer(learnt, train_alone) -> None:
    model = learnt(NAME, n_classes=40)
    assert train_alone(model, 150) < 0.5 * train_alone(learnt(NAME, n_classes=40), 0)
