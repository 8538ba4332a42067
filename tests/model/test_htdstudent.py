"""HTD: how its parts are put together, its groups, and what training does; the topologies are tested with the losses."""

from __future__ import annotations

import pytest
import torch

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.losses.topology import entity_topology, full_topology, group_topology


@pytest.mark.parametrize("between", ["entities", "groups"])
def test_the_loss_is_put_together_from_topologies_and_groups(learnt, batch, between) -> None:
    model = learnt("HTDStudent", n_experts=3, group_topology=between, topology_share=0.7)
    model.generator.manual_seed(5)
    loss = model.distillation_loss(batch).item()
    model.generator.manual_seed(5)
    sides = model.sides(batch)
    gaps = torch.cat([model.projected(side) - side.teacher for side in sides]).double().detach()
    nearest = [(side.teacher @ model.auxiliary[side.name].gate.weight.T).argmax(1) for side in sides]
    groups = torch.cat([nearest[0], nearest[1] + 3])
    student, teacher = torch.cat([s.student for s in sides]).double(), torch.cat([s.teacher for s in sides]).double()
    topology = entity_topology(student, teacher, groups) + group_topology(student, teacher, groups, 6, between)
    expected = 0.7 * topology.item() + 0.3 * sum(float((row**2).sum()) for row in gaps) / 32
    assert loss == pytest.approx(expected, rel=1e-4)


def test_users_and_items_share_no_group(learnt, batch) -> None:
    model = learnt("HTDStudent", n_experts=3)
    users, items = (model.groups(side) for side in model.sides(batch))
    assert users.max() < 3 <= items.min()


def test_student_projectors_and_gate_all_learn(learnt, batch) -> None:
    model = learnt("HTDStudent", n_experts=3, group_topology="groups")
    before = {name: rows.clone() for name, rows in model.teacher.items()}
    model.distillation_loss(batch).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())
    assert all(torch.equal(model.teacher[name], rows) for name, rows in before.items())


def test_an_unknown_topology_is_refused(learnt) -> None:
    with pytest.raises(UserError, match="group_topology: 'pairs' is none of entities, groups"):
        learnt("HTDStudent", group_topology="pairs")


def test_training_brings_the_cosines_nearer_to_the_teachers(after_training) -> None:
    gaps = []
    for weight in (0.0, 30.0):
        model = after_training("HTDStudent", weight, n_experts=3, topology_share=0.9)
        with torch.no_grad():
            gaps.append(full_topology(torch.cat(model.embeddings()), torch.cat(list(model.teacher.values()))).item())
    assert gaps[1] < 0.8 * gaps[0]
