"""A user of whom no teacher says anything: what a method makes of lists without an item and of scores that are all alike."""

from __future__ import annotations

import pytest
import torch

from recbole_hetcomp.model.batch import Batch

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
