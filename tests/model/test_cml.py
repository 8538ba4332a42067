"""CML against slow loops, and on data whose right answer is known."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset
from recbole.data.dataloader import TrainDataLoader
from recbole.data.interaction import Interaction
from recbole.sampler import Sampler
from recbole.utils import init_seed

from recbole_hetcomp.losses.lookup import Table
from recbole_hetcomp.model.general_recommender.cml import (
    CML,
    looking_up,
    rank_weight,
    squared_distances,
    unit_ball,
)

N_USERS = N_ITEMS = 12
N_NEGATIVES = 4


def is_positive(user: int, item: int) -> bool:
    """The checkerboard: even users like even items, odd users like odd items."""
    return (user + item) % 2 == 0


def held_out(user: int) -> int:
    """The one item of its own colour that a user never met."""
    return user


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.argv", ["pytest"])
    folder = tmp_path / "toy"
    folder.mkdir()
    pairs = [(u, i) for u in range(N_USERS) for i in range(N_ITEMS) if is_positive(u, i) and i != held_out(u)]
    rows = "".join(f"u{u}\ti{i}\n" for u, i in pairs)
    (folder / "toy.inter").write_text("user_id:token\titem_id:token\n" + rows)
    settings = {
        "data_path": str(tmp_path),
        "load_col": {"inter": ["user_id", "item_id"]},
        "use_gpu": False,
        "eval_args": {"split": {"RS": [1, 0, 0]}, "group_by": None, "order": "RO", "mode": "full"},
        "embedding_size": 8,
        "margin": 1.0,
        "train_neg_sample_args": {"distribution": "uniform", "sample_num": N_NEGATIVES},
    }
    config = Config(model=CML, dataset="toy", config_dict=settings)
    built, *_ = create_dataset(config).build()
    built.toy_config = config
    return built


def build(dataset) -> CML:
    init_seed(7, True)
    return CML(dataset.toy_config, dataset)


def batch_of(dataset, generator: torch.Generator) -> Interaction:
    """All interactions and, as RecBole lays them out, N_NEGATIVES blocks of negatives, drawn from the other colour."""
    users, items = dataset.inter_feat["user_id"], dataset.inter_feat["item_id"]
    parity = torch.tensor([0] + [int(token[1:]) % 2 for token in dataset.field2id_token["item_id"][1:]])
    others = torch.stack([torch.arange(1, N_ITEMS + 1)[parity[1:] != p] for p in (0, 1)])  # [2, N_ITEMS / 2]
    draw = torch.randint(N_ITEMS // 2, (N_NEGATIVES, len(items)), generator=generator)
    negatives = others[parity[items].expand_as(draw), draw]
    fields = {"user_id": users.repeat(N_NEGATIVES), "item_id": items.repeat(N_NEGATIVES)}
    return Interaction({**fields, "neg_item_id": negatives.flatten()})


def train(model: CML, dataset, steps: int = 150, weight_decay: float = 0.0) -> CML:
    generator = torch.Generator().manual_seed(3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, weight_decay=weight_decay)
    for _ in range(steps):
        optimizer.zero_grad()
        model.calculate_loss(batch_of(dataset, generator)).backward()
        optimizer.step()
    return model.eval()


def all_scores(model: CML) -> torch.Tensor:
    users = Interaction({"user_id": torch.arange(model.n_users)})
    return model.full_sort_predict(users).view(model.n_users, model.n_items)


def share_of_held_out_on_top(model: CML, dataset) -> float:
    """How many users find the one unseen item of their colour first among the items they never met."""
    scores = all_scores(model).detach().clone()
    scores[:, 0] = -math.inf
    scores[dataset.inter_feat["user_id"], dataset.inter_feat["item_id"]] = -math.inf
    right = [
        int(scores[dataset.token2id("user_id", f"u{u}")].argmax()) == dataset.token2id("item_id", f"i{held_out(u)}")
        for u in range(N_USERS)
    ]
    return sum(right) / N_USERS


def test_unit_ball_shrinks_only_what_lies_outside() -> None:
    points = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    torch.testing.assert_close(unit_ball(points), torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))


def test_squared_distances_agree_with_cdist() -> None:
    users, items = torch.randn(5, 8).double(), torch.randn(7, 8).double()
    torch.testing.assert_close(squared_distances(users, items), torch.cdist(users, items).square())


def test_rank_weight_agrees_with_a_loop() -> None:
    positive, negatives = torch.rand(6).double() * 3, torch.rand(4, 6).double() * 3
    margin, n_items = 0.5, 20
    expected = []
    for b in range(6):
        intruders = sum(1 for k in range(4) if positive[b] + margin > negatives[k, b])
        expected.append(math.log(1 + n_items * intruders / 4))
    actual = rank_weight(positive, negatives, n_items, margin)
    torch.testing.assert_close(actual, torch.tensor(expected), rtol=1e-6, atol=1e-6)


def test_rank_weight_is_zero_once_every_negative_is_far() -> None:
    assert rank_weight(torch.zeros(2), torch.full((3, 2), 1.5), 10, margin=1.0).tolist() == [0, 0]


def test_calculate_loss_agrees_with_a_loop_over_interactions(dataset) -> None:
    model = build(dataset).double()
    model.user_embedding.weight.data *= 2  # some points have to lie outside the ball
    batch = batch_of(dataset, torch.Generator().manual_seed(0))
    n = len(dataset.inter_feat)
    users, items = (unit_ball(table.weight.detach()) for table in (model.user_embedding, model.item_embedding))
    total = 0.0
    for b in range(n):
        user = users[batch["user_id"][b]]
        near = (user - items[batch["item_id"][b]]).square().sum()
        far = [(user - items[batch["neg_item_id"][b + k * n]]).square().sum() for k in range(N_NEGATIVES)]
        rank = N_ITEMS * sum(bool(near + 1 > f) for f in far) / N_NEGATIVES
        total += math.log(1 + rank) * max(0.0, float(1 + near - min(far)))
    assert model.calculate_loss(batch).item() == pytest.approx(total / n, rel=1e-6)


def test_loader_lays_a_batch_out_as_copies_of_the_positives(dataset) -> None:
    sampler = Sampler("train", dataset, "uniform", 1.0)
    loader = TrainDataLoader(dataset.toy_config, dataset, sampler.set_phase("train"), shuffle=True)
    for batch in loader:
        for field in ("user_id", "item_id"):
            copies = batch[field].view(N_NEGATIVES, -1)
            assert (copies == copies[0]).all()
        assert 0 not in batch["neg_item_id"]
        assert build(dataset).calculate_loss(batch) > 0


def test_users_and_items_stay_in_the_unit_ball_while_training(dataset) -> None:
    model = train(build(dataset), dataset, steps=30)
    assert model.user_embedding.weight.norm(dim=1).max() > 1  # the free parameters left it ...
    assert unit_ball(model.user_embedding.weight).norm(dim=1).max() <= 1 + 1e-6  # ... the points cannot
    assert all_scores(model).min() >= -4 - 1e-5  # the square of the ball's diameter


def test_a_table_moved_into_the_ball_at_once_gives_the_same_rows_and_gradients() -> None:
    table, ids = Table(9, 4).double(), torch.tensor([[3, 8, 3], [0, 1, 2]])
    table.weight.data *= torch.arange(9.0).double()[:, None]  # inside the ball and outside
    weights, found = torch.randn(2, 3, 4, dtype=torch.float64), []
    for n_rows in (9, 10):  # row by row, and the whole table
        rows = looking_up(table, n_rows)(ids)
        found.append((rows, *torch.autograd.grad((rows * weights).sum(), table.weight)))
    torch.testing.assert_close(*found)
    torch.testing.assert_close(found[0][0], unit_ball(table.weight[ids]))
    assert found[0][1].abs().sum() > 0


def test_predict_agrees_with_full_sort_predict(dataset) -> None:
    model = train(build(dataset), dataset, steps=5)
    users = torch.arange(model.n_users).repeat_interleave(model.n_items)
    items = torch.arange(model.n_items).repeat(model.n_users)
    one_by_one = model.predict(Interaction({"user_id": users, "item_id": items}))
    torch.testing.assert_close(one_by_one.view(model.n_users, -1), all_scores(model), rtol=1e-4, atol=1e-5)


def test_training_finds_the_held_out_item_of_the_checkerboard(dataset) -> None:
    model = build(dataset)
    untrained = share_of_held_out_on_top(model, dataset)
    assert share_of_held_out_on_top(train(model, dataset), dataset) == 1.0 > untrained


def test_padding_rows_are_never_trained(dataset) -> None:
    model = build(dataset)
    before = [table.weight[0].clone() for table in (model.user_embedding, model.item_embedding)]
    train(model, dataset, steps=5)
    for table, row in zip((model.user_embedding, model.item_embedding), before):
        torch.testing.assert_close(table.weight[0], row, rtol=0, atol=0)


def test_same_seed_gives_the_same_model(dataset) -> None:
    first, second = (train(build(dataset), dataset, steps=5) for _ in range(2))
    torch.testing.assert_close(all_scores(first), all_scores(second), rtol=0, atol=0)


def test_model_can_be_copied_while_it_trains(dataset) -> None:
    model = train(build(dataset), dataset, steps=2)
    torch.testing.assert_close(all_scores(copy.deepcopy(model)), all_scores(model))
