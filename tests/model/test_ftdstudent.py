"""FTD: the loss is that of the batch's users and items together, and training brings the cosines nearer to the teacher's."""

from __future__ import annotations

import pytest
import torch

from recbole_hetcomp.losses.topology import full_topology


def test_users_and_items_are_compared_with_each_other(learnt, batch) -> None:
    model = learnt("FTDStudent")
    model.requires_grad_(False)
    tables = [
        torch.cat([user[batch.users], item[batch.items]]) for user, item in (model.embeddings(), model.teacher.values())
    ]
    units = [rows.double() / rows.double().norm(dim=1, keepdim=True) for rows in tables]
    total = sum(float((units[0][x] @ units[0][y] - units[1][x] @ units[1][y]) ** 2) for x in range(32) for y in range(32))
    assert model.distillation_loss(batch).item() == pytest.approx(total / 32**2, rel=1e-4)


def test_a_scaled_copy_of_the_teacher_has_nothing_to_learn(learnt, batch) -> None:
    model = learnt("FTDStudent", embedding_size=8)
    before = {name: rows.clone() for name, rows in model.teacher.items()}
    with torch.no_grad():
        for table, rows in zip(model.embeddings(), model.teacher.values()):
            table.copy_(3 * rows)
    loss = model.distillation_loss(batch)
    assert abs(loss.item()) < 1e-6  # a difference of float32 sums
    loss.backward()
    assert all(torch.equal(model.teacher[name], rows) for name, rows in before.items())


def test_training_brings_the_cosines_nearer_to_the_teachers(after_training) -> None:
    gaps = []
    for weight in (0.0, 30.0):
        model = after_training("FTDStudent", weight)
        with torch.no_grad():
            gaps.append(full_topology(torch.cat(model.embeddings()), torch.cat(list(model.teacher.values()))).item())
    assert gaps[1] < 0.6 * gaps[0]
