"""FreqD: its loss against a loop over dense filters, FitNet as the case without neighbours, and what training does."""

from __future__ import annotations

import pytest
import torch

from recbole_hetcomp.config.errors import UserError

NAME = "FreqDStudent"


@pytest.mark.parametrize("distance", ["cosine", "squared"])
def test_the_loss_equals_a_loop(learnt, batch, distance) -> None:
    model = learnt(NAME, distance=distance, edge_keep=1.0, n_neighbours=3)
    model.requires_grad_(False)
    total = 0.0
    for name, ids, table in zip(("user", "item"), (batch.users, batch.items), model.embeddings()):
        graph, images, teacher = model.graphs[name], model.auxiliary[name](table).double(), model.teacher[name].double()
        for entity in ids.tolist():
            own, other = 0.5 * images[entity], 0.5 * teacher[entity]
            for (node, neighbour), weight in zip(graph.edges.T.tolist(), graph.weights.tolist()):
                if node == entity:
                    own = own + 0.5 * weight * images[neighbour]
                    other = other + 0.5 * weight * teacher[neighbour]
            gap = ((own - other) ** 2).sum() if distance == "squared" else 1 - own @ other / (own.norm() * other.norm())
            total += float(gap) / len(ids)
    assert model.distillation_loss(batch).item() == pytest.approx(total, rel=1e-4)


def test_without_neighbours_it_is_fitnet(learnt, batch) -> None:
    model, fitnet = (
        learnt(NAME, distance="squared", neighbour_share=0.0),
        learnt("FitNetStudent"),
    )
    assert model.distillation_loss(batch).item() == pytest.approx(fitnet.distillation_loss(batch).item(), rel=1e-5)


def test_neighbours_beyond_the_batch_learn_and_the_teacher_does_not(learnt, batch) -> None:
    model = learnt(NAME)
    before = {name: rows.clone() for name, rows in model.teacher.items()}
    model.distillation_loss(batch).backward()
    moved = model.backbone.user_embedding.weight.grad.abs().sum(1).nonzero().squeeze(1).tolist()
    assert set(batch.users.tolist()) < set(moved)
    assert 0 not in moved
    assert all(torch.equal(model.teacher[name], rows) for name, rows in before.items())


def test_an_unknown_distance_is_refused(learnt) -> None:
    with pytest.raises(UserError, match="distance: 'far' is none of cosine, squared"):
        learnt(NAME, distance="far")


def test_training_brings_the_filtered_vectors_nearer_to_the_teachers(after_training) -> None:
    gaps = []
    for weight in (0.0, 10.0):
        model = after_training(NAME, weight, distance="squared", hidden_ratio=0)
        active = model.history.active_users
        nodes, passed = model.graphs["user"].low_pass(active, 0.5, 1.0, model.generator)
        own, other = (passed @ rows.detach()[nodes] for rows in (model.embeddings()[0], model.teacher["user"]))
        inputs = torch.cat([own, torch.ones(len(own), 1)], 1)
        gaps.append((other - inputs @ torch.linalg.lstsq(inputs, other).solution).square().sum().item())
    assert gaps[1] < 0.7 * gaps[0]
