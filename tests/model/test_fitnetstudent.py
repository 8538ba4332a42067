"""FitNet: its loss against a loop, the PCA optimum of an affine projector, and what training does to the vectors."""

from __future__ import annotations

import pytest
import torch


def test_the_loss_equals_a_loop(learnt, batch) -> None:
    model = learnt("FitNetStudent")
    model.requires_grad_(False)
    total = 0.0
    for name, ids, table in zip(("user", "item"), (batch.users, batch.items), model.embeddings()):
        first, _, second = model.auxiliary[name].double()
        for entity in ids.tolist():
            hidden = [max(0.0, float(row @ table[entity].double() + b)) for row, b in zip(first.weight, first.bias)]
            output = second.weight @ torch.tensor(hidden, dtype=torch.float64) + second.bias
            total += float(((output - model.teacher[name][entity]) ** 2).sum()) / len(ids)
    model.auxiliary.float()
    assert model.distillation_loss(batch).item() == pytest.approx(total, rel=1e-4)


def test_an_affine_projector_reaches_the_optimum_of_pca(learnt, train_alone) -> None:
    model = learnt("FitNetStudent", hidden_ratio=0)
    before = {name: rows.clone() for name, rows in model.teacher.items()}
    best = 0.0
    for rows in before.values():
        centred = (rows[1:] - rows[1:].mean(0)).double()
        best += float(torch.linalg.svdvals(centred)[4:].square().sum()) / len(centred)
    assert train_alone(model, 600) == pytest.approx(best, rel=0.01)
    assert all(torch.equal(model.teacher[name], rows) for name, rows in before.items())


def test_several_teachers_are_one_by_their_spectral_factors(learnt, batch) -> None:
    model = learnt("FitNetStudent", "BPR", "EASE", teacher_rank=6)
    assert model.teacher["item"].shape == (model.n_items, 6)
    assert model.distillation_loss(batch).isfinite()


def test_what_is_served_has_no_projector(learnt) -> None:
    model = learnt("FitNetStudent")
    assert len(list(model.auxiliary.parameters()))
    assert set(model.served_state()) == {"backbone.user_embedding.weight", "backbone.item_embedding.weight"}


def test_training_puts_the_teachers_vectors_into_the_students(after_training, missed) -> None:
    plain, distilled = (missed(after_training("FitNetStudent", weight)) for weight in (0.0, 10.0))
    assert distilled < 0.7 * plain
