"""MF: inner products, and the loss of BPR against a loop."""

from __future__ import annotations

import math

import torch
from recbole.data.interaction import Interaction
from recbole.utils import init_seed

from recbole_hetcomp.model.general_recommender.mf import MF


def build(make_config, split, **overrides) -> MF:
    config = make_config("MF", **overrides)
    init_seed(3, True)
    return MF(config, split.train)


def triples(n: int = 40) -> Interaction:
    generator = torch.Generator().manual_seed(1)
    draw = [torch.randint(1, high, (n,), generator=generator) for high in (60, 80, 80)]
    return Interaction(dict(zip(("user_id", "item_id", "neg_item_id"), draw)))


def test_predict_agrees_with_full_sort_predict(make_config, split):
    model = build(make_config, split)
    users = torch.arange(model.n_users)
    rows = model.full_sort_predict(Interaction({"user_id": users})).view(model.n_users, model.n_items)
    batch = triples()
    assert torch.allclose(rows[batch["user_id"], batch["item_id"]], model.predict(batch), atol=1e-7)


def test_score_is_the_inner_product(make_config, split):
    model = build(make_config, split)
    p, q = model.user_embedding.weight[3].tolist(), model.item_embedding.weight[5].tolist()
    score = model.predict(Interaction({"user_id": torch.tensor([3]), "item_id": torch.tensor([5])}))
    assert math.isclose(score.item(), sum(a * b for a, b in zip(p, q)), rel_tol=1e-5, abs_tol=1e-9)


def test_loss_equals_a_float64_loop_over_triples(make_config, split):
    model = build(make_config, split, init_std=1.0)
    batch = triples()
    p, q = model.user_embedding.weight.detach().double(), model.item_embedding.weight.detach().double()
    terms = [
        math.log1p(math.exp(float(p[u] @ q[j] - p[u] @ q[i])))
        for u, i, j in zip(batch["user_id"], batch["item_id"], batch["neg_item_id"])
    ]
    assert math.isclose(model.calculate_loss(batch).item(), sum(terms) / len(terms), rel_tol=1e-5)


def test_gradients_equal_finite_differences(make_config, split):
    model = build(make_config, split, embedding_size=3, init_std=0.5).double()
    batch = triples(6)
    model.calculate_loss(batch).backward()
    for table in (model.user_embedding.weight, model.item_embedding.weight):
        used = table.grad.abs().sum(1).nonzero()[:3, 0]
        for row in used.tolist():
            for column in range(3):
                with torch.no_grad():
                    table[row, column] += 1e-6
                    up = model.calculate_loss(batch)
                    table[row, column] -= 2e-6
                    down = model.calculate_loss(batch)
                    table[row, column] += 1e-6
                assert math.isclose(float(up - down) / 2e-6, table.grad[row, column].item(), rel_tol=1e-5, abs_tol=1e-9)


def test_initial_values_have_the_standard_deviation_that_is_asked_for(make_config, split):
    for std in (0.01, 0.2):
        model = build(make_config, split, embedding_size=64, init_std=std)
        assert math.isclose(model.user_embedding.weight.std().item(), std, rel_tol=0.05)
        assert math.isclose(model.item_embedding.weight.std().item(), std, rel_tol=0.05)
