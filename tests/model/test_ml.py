"""ML: CML's distances, stretched."""

from __future__ import annotations

import math

import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.utils import init_seed

from recbole_hetcomp.model.general_recommender.cml import CML
from recbole_hetcomp.model.general_recommender.ml import ML

NEGATIVES = 2


def build(make_config, split, model_class: type = ML, **overrides):
    negatives = {"distribution": "uniform", "sample_num": NEGATIVES, "alpha": 1.0, "dynamic": False, "candidate_num": 0}
    config = make_config(model_class.__name__, train_neg_sample_args=negatives, **overrides)
    init_seed(3, True)
    model = model_class(config, split.train)
    with torch.no_grad():
        model.user_embedding.weight[::2] *= 3  # some points outside the unit ball
        model.item_embedding.weight[::2] *= 0.5
    return model


def pairs(n: int = 40) -> Interaction:
    """As RecBole lays pair-wise batches out: the positives `NEGATIVES` times, then as many negatives."""
    generator = torch.Generator().manual_seed(1)
    users, items = (torch.randint(1, high, (n,), generator=generator).repeat(NEGATIVES) for high in (60, 80))
    negatives = torch.randint(1, 80, (NEGATIVES * n,), generator=generator)
    return Interaction({"user_id": users, "item_id": items, "neg_item_id": negatives})


def distance(model, user: int, item: int) -> float:
    points = [
        table.weight[row].detach().double() for table, row in ((model.user_embedding, user), (model.item_embedding, item))
    ]
    u, v = (point / max(1.0, point.norm().item()) for point in points)
    return float((u - v).square().sum())


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_score_is_minus_scale_times_the_squared_distance_in_the_ball(make_config, split, scale):
    model = build(make_config, split, score_scale=scale)
    batch = pairs()
    expected = [-scale * distance(model, u, i) for u, i in zip(batch["user_id"].tolist(), batch["item_id"].tolist())]
    assert model.predict(batch).tolist() == pytest.approx(expected, abs=1e-4)
    assert -4 * scale - 1e-4 <= model.predict(batch).min() <= model.predict(batch).max() <= 0


def test_predict_agrees_with_full_sort_predict(make_config, split):
    model = build(make_config, split)
    users = torch.arange(model.n_users)
    rows = model.full_sort_predict(Interaction({"user_id": users})).view(model.n_users, model.n_items)
    batch = pairs()
    assert torch.allclose(rows[batch["user_id"], batch["item_id"]], model.predict(batch), atol=1e-4)


def test_it_ranks_and_learns_alone_as_cml_does(make_config, split):
    model, cml = build(make_config, split), build(make_config, split, CML)
    cml.load_state_dict(model.state_dict())
    assert torch.equal(model.calculate_loss(pairs()), cml.calculate_loss(pairs()))
    assert torch.allclose(model.predict(pairs()), model.score_scale * cml.predict(pairs()))


def test_loss_equals_a_float64_loop(make_config, split):
    model = build(make_config, split)
    batch, n = pairs(), 40
    total = 0.0
    for row in range(n):
        user, item = batch["user_id"][row].item(), batch["item_id"][row].item()
        near = distance(model, user, item)
        far = [distance(model, user, batch["neg_item_id"][row + copy * n].item()) for copy in range(NEGATIVES)]
        share = sum(near + model.margin > d for d in far) / NEGATIVES
        total += math.log1p((model.n_items - 1) * share) * max(0.0, model.margin + near - min(far))
    assert model.calculate_loss(batch).item() == pytest.approx(total / n, rel=1e-5)


def test_gradients_of_scores_equal_finite_differences(make_config, split):
    model = build(make_config, split, embedding_size=3).double()
    user = Interaction({"user_id": torch.tensor([2])})  # outside the ball: the projection is part of the gradient
    weight = torch.linspace(-1, 1, model.n_items, dtype=torch.double)

    def value() -> torch.Tensor:
        return (model.full_sort_predict(user) * weight).sum()

    value().backward()
    for table, row in ((model.user_embedding.weight, 2), (model.item_embedding.weight, 4), (model.item_embedding.weight, 5)):
        for column in range(3):
            with torch.no_grad():
                table[row, column] += 1e-6
                up = value()
                table[row, column] -= 2e-6
                down = value()
                table[row, column] += 1e-6
            assert float(up - down) / 2e-6 == pytest.approx(table.grad[row, column].item(), rel=1e-5, abs=1e-8)
