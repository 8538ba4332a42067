"""What students of vectors share: any student with tables, batches of users, equal starts and exact resumption."""

from __future__ import annotations

import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.split import make_split
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.teacher_training.scheduling import build_pool

METHODS = ["FitNet", "DE", "FTD", "HTD", "VkD", "EmbedDistill", "PCKD", "FreqD"]
SMALL = {"list_depth": 20, "n_experts": 3, "n_top": 5, "n_random": 7, "n_candidates": 4}


@pytest.mark.parametrize("method", METHODS)
def test_a_graph_student_learns_through_its_propagation(learnt, batch, method) -> None:
    model = learnt(f"{method}Student", student="LightGCN", side="symmetric", **SMALL)
    model.distillation_loss(batch).backward()
    gradients = [parameter.grad for parameter in model.backbone.parameters()]
    assert all(torch.isfinite(gradient).all() and gradient.any() for gradient in gradients)


@pytest.mark.parametrize("method", METHODS)
def test_batches_of_users_come_with_items_that_are_drawn(learnt, method) -> None:
    model = learnt(f"{method}Student", base_loss_weight=0.0, user_batches=True, **SMALL)
    users = Interaction({"user_id": torch.arange(3, 15)})
    assert model.calculate_loss(users).isfinite()
    items = model.items_of(Batch(users["user_id"], None))
    assert items.min() >= 1
    assert items.max() < model.n_items


def test_what_a_method_asks_the_student_before_training_leaves_its_buffers_alone(make_config) -> None:
    """BatchNorm's running statistics among them."""
    of_data = {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "MAX_ITEM_LIST_LENGTH": 10, "teachers": ["BPR"]}
    config = make_config("FitNetStudent", student="AdaRecNet", architecture=["conv3"] * 6, n_cells=1, **of_data)
    split = make_split(config)
    torch.manual_seed(3)
    model = config.model_class(config, split.train_for(config)).train()
    before = {name: buffer.clone() for name, buffer in model.backbone.named_buffers()}
    assert before
    model.learn_from(build_pool(config, split))
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.backbone.named_buffers())
    assert all(module.training for module in model.backbone.modules())


def test_two_students_of_one_seed_begin_with_the_same_projectors(learnt) -> None:
    states = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        states.append(learnt("DEStudent", n_experts=2).auxiliary.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("method", ["HTD", "VkD", "EmbedDistill"])
def test_a_state_goes_into_another_students_place(learnt, batch, method) -> None:
    """What an interrupted run leaves, projectors and folded tables among it, goes back into a student that has learnt."""
    models = [learnt(f"{method}Student", **SMALL) for _ in range(2)]
    with torch.no_grad():
        for parameter in models[0].parameters():
            parameter.add_(0.1)
    models[1].load_state_dict(models[0].state_dict())
    for model in models:
        model.generator.manual_seed(3)
    assert models[0].distillation_loss(batch).item() == models[1].distillation_loss(batch).item()


def test_a_student_without_tables_is_refused(make_model, trained_pool) -> None:
    model = make_model("FitNetStudent", student="NeuMF", teacher_rank=4)
    with pytest.raises(UserError, match="NeuMF has no vectors of users and items"):
        model.learn_from(trained_pool("BPR"))
