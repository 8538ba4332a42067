"""VkD: its loss against a loop, projectors that stay orthonormal, the optimum of PCA, and what training does."""

from __future__ import annotations

import pytest
import torch


def test_the_loss_equals_a_loop(learnt, batch) -> None:
    model = learnt("VkDStudent")
    model.requires_grad_(False)
    before = {name: rows.clone() for name, rows in model.teacher.items()}
    total = 0.0
    for name, ids, table in zip(("user", "item"), (batch.users, batch.items), model.embeddings()):
        mean = sum(model.teacher[name][entity].double() for entity in ids) / len(ids)
        for entity in ids.tolist():
            image = model.auxiliary[name].weight.double() @ table[entity].double()
            total += float(((model.teacher[name][entity] - mean - image) ** 2).sum()) / len(ids)
    assert model.distillation_loss(batch).item() == pytest.approx(total, rel=1e-4)
    assert all(torch.equal(model.teacher[name], rows) for name, rows in before.items())


def test_the_projectors_are_orthonormal_before_and_after_a_step(learnt, batch) -> None:
    model = learnt("VkDStudent")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    before = model.auxiliary["item"].weight.detach().clone()
    for _ in range(3):
        weight = model.auxiliary["item"].weight
        assert torch.allclose(weight.T @ weight, torch.eye(4), atol=1e-5)
        optimizer.zero_grad()
        model.distillation_loss(batch).backward()
        optimizer.step()
    assert not torch.allclose(model.auxiliary["item"].weight, before, atol=0.01)


def test_a_table_reaches_the_optimum_of_pca(learnt, train_alone) -> None:
    model = learnt("VkDStudent")
    best = 0.0
    for rows in model.teacher.values():
        centred = (rows[1:] - rows[1:].mean(0)).double()
        best += float(torch.linalg.svdvals(centred)[4:].square().sum()) / len(centred)
    assert train_alone(model, 400) == pytest.approx(best, rel=0.01)


def test_what_is_served_has_no_projector(learnt) -> None:
    served = learnt("VkDStudent").served_state()
    assert set(served) == {"backbone.user_embedding.weight", "backbone.item_embedding.weight"}


def test_training_puts_the_teachers_vectors_into_the_students(after_training, missed) -> None:
    plain, distilled = (missed(after_training("VkDStudent", weight)) for weight in (0.0, 10.0))
    assert distilled < 0.7 * plain
