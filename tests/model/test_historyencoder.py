"""HistoryEncoder: users as functions of histories, against loops; and what that changes for a student of vectors."""

from __future__ import annotations

import math

import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.utils import init_seed

from recbole_hetcomp.knowledge.pseudo_users import ridge_fold_in
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.general_recommender.historyencoder import HistoryEncoder


def build(make_config, split, **overrides) -> HistoryEncoder:
    config = make_config("HistoryEncoder", init_std=0.5, **{"embedding_size": 4, **overrides})
    init_seed(3, True)
    return HistoryEncoder(config, split.train)


def by_hand(model: HistoryEncoder, history: list[int]) -> torch.Tensor:
    rows = model.input_embedding.weight.detach()[history]
    mean = rows.mean(0) if history else torch.zeros(rows.size(1))
    return model.layers(mean)


@pytest.mark.parametrize("hidden", [0, 7])
def test_a_user_is_the_mean_of_the_history_and_a_layer(make_config, split, hidden) -> None:
    model = build(make_config, split, hidden_size=hidden)
    histories = torch.tensor([[5, 0, 9, 2], [0, 0, 0, 0], [7, 0, 0, 0]])
    found = model.encode(histories)
    for row, history in zip(found, histories.tolist()):
        assert torch.allclose(row, by_hand(model, [item for item in history if item]), atol=1e-6)
    nobody = torch.zeros(2, 0, dtype=torch.int64)
    assert torch.equal(model.encode(nobody), found[1].expand(2, -1))
    users = torch.arange(1, 9)
    trained = [[item for item in row if item] for row in model.history.padded(users).tolist()]
    assert torch.allclose(model.user_vectors(users), torch.stack([by_hand(model, row) for row in trained]), atol=1e-6)


def test_the_item_that_is_to_be_found_is_left_out(make_config, split) -> None:
    model = build(make_config, split)
    users, negatives = torch.arange(1, 9), torch.arange(11, 19)
    positives = model.history.padded(users)[:, 2]
    batch = Interaction({"user_id": users, "item_id": positives, "neg_item_id": negatives})
    table, total = model.item_embedding.weight.detach(), 0.0
    for user, item, negative in zip(users.tolist(), positives.tolist(), negatives.tolist()):
        others = [other for other in model.history.padded(torch.tensor([user]))[0].tolist() if other not in (0, item)]
        total += math.log1p(math.exp(float(by_hand(model, others) @ (table[negative] - table[item])))) / len(users)
    assert model.calculate_loss(batch).item() == pytest.approx(total, rel=1e-5)


def test_all_ways_to_a_score_agree(make_config, split) -> None:
    model = build(make_config, split, hidden_size=5)
    users, items = torch.arange(model.n_users), torch.arange(model.n_items)
    full = model.full_sort_predict(Interaction({"user_id": users})).view(model.n_users, model.n_items)
    pairs = Interaction({"user_id": users[1:9], "item_id": items[21:29]})
    assert torch.allclose(full[users[1:9], items[21:29]], model.predict(pairs), atol=1e-6)
    vectors = model.vectors(users)
    assert torch.allclose(vectors.users @ vectors.items.T, full, atol=1e-6)


def test_pseudo_users_help_where_no_user_was_matched(learnt) -> None:
    """EmbedDistill's specification, test 5: the gap of users left out of the matching is lower with pseudo-users.

    They are made of the histories of the users that are matched; the teacher's vectors are a map of theirs, and noise.
    """
    gaps = {}
    for weight in (0.0, 0.5):
        config = {
            "student": "HistoryEncoder",
            "hidden_size": 64,
            "side": "symmetric",
            "score_weight": 0.0,
            "pseudo_mix": 0.0,
        }
        model = learnt("EmbedDistillStudent", **config, item_weight=0.0, pseudo_weight=weight, pseudo_share=1.0)
        users = model.history.active_users
        histories = model.history.padded(users)
        model.teacher["item"] = torch.randn(model.n_items, 8, generator=torch.Generator().manual_seed(1))
        turned, noise = (torch.randn(n, 8, generator=torch.Generator().manual_seed(2)) for n in (8, len(users)))
        folded = ridge_fold_in(model.teacher["item"][histories], histories > 0, 0.1)
        model.teacher["user"][users] = folded @ turned + 0.05 * noise
        if weight:
            model.to_own = model.fold_in_to_own()
            assert (model.to_own - turned).abs().max() < 0.5  # the noise is not fitted away
        shown, left_out = Batch(users[: len(users) * 4 // 5], torch.arange(1, 9)), users[len(users) * 4 // 5 :]
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(300):
            optimizer.zero_grad()
            model.distillation_loss(shown).backward()
            optimizer.step()
        with torch.no_grad():
            found = model.projected("user", model.embeddings(left_out)[0])
            gaps[weight] = (found - model.teacher["user"][left_out]).norm(dim=1).mean().item()
    assert gaps[0.5] < 0.9 * gaps[0.0]


def test_pseudo_users_are_made_up_of_histories_and_not_of_vectors(learnt) -> None:
    """Test 6 there. A student whose users all match, by a linear map, matches every mixture of their vectors: those would
    teach nothing. Pseudo-users still do.
    """
    config = {"side": "symmetric", "embedding_size": 8, "teacher_rank": 8, "item_weight": 0.0, "score_weight": 0.0}
    model = learnt("EmbedDistillStudent", **config, pseudo_share=1.0)
    users = model.history.active_users
    with torch.no_grad():
        model.auxiliary["user"].weight.copy_(torch.eye(8))
        model.embeddings()[0].copy_(model.teacher["user"])
        model.embeddings()[1].copy_(model.teacher["item"] @ torch.randn(8, 8))
    everyone = Batch(users, torch.arange(1, 9))
    matched = model.distillation_loss(everyone) - 0.5 * model.pseudo_loss(users)
    model.pseudo_loss(users).backward()
    assert model.backbone.item_embedding.weight.grad.abs().max() > 1e-3
    assert abs(matched.item()) < 0.2 * model.pseudo_loss(users).item()
