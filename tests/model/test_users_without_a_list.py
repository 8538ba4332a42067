"""A user of whom no teacher says anything: what a method makes of lists without an item and of scores that are all alike."""

from __future__ import annotations

import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.teachers import TeacherPool

SILENT, HEARD = 5, 6
METHODS = [
    ("CDStudent", {"guide": "student"}),
    ("CDStudent", {"guide": "teacher"}),
    ("KDCEStudent", {"guide": "student"}),
    ("KDCEStudent", {"guide": "teacher"}),
    ("KDCEStudent", {"guide": "catalogue"}),
    ("RCEKDStudent", {"sample_depth": 20, "n_ranked": 10, "n_sampled": 10}),
    ("RRDStudent", {}),
    ("RDStudent", {}),
    ("CLDRDStudent", {}),
    ("MTDStudent", {}),
    ("UnKDStudent", {"n_groups": 2}),
    ("DCDStudent", {"item_weight": 0.0}),
    ("OKDStudent", {"okd_candidates": "off_policy"}),
    ("OKDStudent", {"okd_candidates": "on_policy"}),
    ("OFAStudent", {"ofa_teachers": "mean"}),
    ("OFAStudent", {"ofa_teachers": "per_teacher"}),
    ("EmbedDistillStudent", {"side": "symmetric", "user_weight": 0.0, "item_weight": 0.0, "pseudo_weight": 0.0}),
]


@pytest.mark.parametrize(("method", "given"), METHODS)
def test_the_base_loss_alone_speaks_for_such_a_user(from_scores, method, given) -> None:
    model, _ = from_scores(method, without_list=[SILENT], **given)
    learnt = []
    for user in (SILENT, HEARD):
        model.zero_grad()
        loss = model.distillation_loss(Batch(torch.tensor([user]), None))
        assert loss.isfinite()
        if loss.requires_grad:
            loss.backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        assert all(gradient.isfinite().all() for gradient in gradients)
        learnt.append(max((gradient.abs().max().item() for gradient in gradients), default=0.0))
    assert learnt[0] < 1e-7 < learnt[1]


def test_okds_adapters_learn_nothing_of_such_a_user(from_scores) -> None:
    model, _ = from_scores("OKDStudent", without_list=[SILENT])
    learnt = []
    for user in (SILENT, HEARD):
        model.zero_grad()
        model.distillation_loss(Batch(torch.tensor([user]), None))
        loss = model.loss_apart(Interaction({}))
        loss.backward()
        learnt.append((loss.item() != 0, any(parameter.grad.any() for parameter in model.apart.parameters())))
    assert learnt == [(False, False), (True, True)]


def test_of_several_teachers_those_that_know_the_user_alone_are_heard(make_model, list_pool, score_table) -> None:
    """OFA, teacher by teacher: one that knows nothing of a user leaves the loss what the other's alone is."""
    model = make_model("OFAStudent", ofa_teachers="per_teacher")
    pool = list_pool(2)
    generator = torch.Generator().manual_seed(4)
    for teacher, silent in zip(pool.teachers, ([SILENT], [])):
        scores = torch.randn(model.n_users, model.n_items, generator=generator)
        scores[silent] = 0.0
        teacher.trajectory.items[:, silent] = 0
        teacher.load = lambda scores=scores: score_table(scores)
    model.learn_from(TeacherPool(pool.teachers))
    model.on_epoch_start(0)
    both = [model.distillation_loss(Batch(torch.tensor([user]), None)).item() for user in (SILENT, HEARD)]
    model.of_each, model.drawn_soft, model.heard = model.of_each[1:], model.drawn_soft[1:], model.heard[1:]
    alone = [model.distillation_loss(Batch(torch.tensor([user]), None)).item() for user in (SILENT, HEARD)]
    assert both[0] == pytest.approx(alone[0], rel=1e-6)
    assert both[1] != pytest.approx(alone[1], rel=1e-3)
