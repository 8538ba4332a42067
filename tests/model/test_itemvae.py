"""ItemVAE against slow loops, and on data whose right answer is known."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset
from recbole.data.interaction import Interaction
from recbole.utils import init_seed

from recbole_hetcomp.model.general_recommender import itemvae
from recbole_hetcomp.model.general_recommender.itemvae import ItemVAE, gaussian_kl
from recbole_hetcomp.trainer.entity_batches import EntityBatches

N_USERS = N_ITEMS = 12
UNMET = N_ITEMS  # an item that stands in the item file and in no interaction


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
    (folder / "toy.item").write_text("item_id:token\n" + "".join(f"i{i}\n" for i in range(N_ITEMS + 1)))
    settings = {
        "data_path": str(tmp_path),
        "load_col": {"inter": ["user_id", "item_id"], "item": ["item_id"]},
        "use_gpu": False,
        "eval_args": {"split": {"RS": [1, 0, 0]}, "group_by": None, "order": "RO", "mode": "full"},
        "latent_dimension": 4,
        "mlp_hidden_size": [16, 8],
        "dropout_prob": 0.3,
        "anneal_cap": 0.2,
        "total_anneal_steps": 10,
    }
    config = Config(model=ItemVAE, dataset="toy", config_dict=settings)
    built, *_ = create_dataset(config).build()
    built.toy_config = config
    return built


def build(dataset) -> ItemVAE:
    init_seed(7, True)
    return ItemVAE(dataset.toy_config, dataset)


def train(model: ItemVAE, epochs: int = 100) -> ItemVAE:
    batches = EntityBatches(*model.training_entities, batch_size=5, seed=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model.train()
    for _ in range(epochs):
        for batch in batches:
            optimizer.zero_grad()
            sum(model.calculate_loss(batch)).backward()
            optimizer.step()
    return model.eval()


def all_scores(model: ItemVAE) -> torch.Tensor:
    users = Interaction({"user_id": torch.arange(model.n_users)})
    return model.full_sort_predict(users).view(model.n_users, model.n_items).detach()


def share_of_held_out_on_top(model: ItemVAE, dataset) -> float:
    """How many users find the one unseen item of their colour first among the items they never met."""
    scores = all_scores(model).clone()
    scores[:, 0] = -math.inf
    scores[dataset.inter_feat["user_id"], dataset.inter_feat["item_id"]] = -math.inf
    right = [
        int(scores[dataset.token2id("user_id", f"u{u}")].argmax()) == dataset.token2id("item_id", f"i{held_out(u)}")
        for u in range(N_USERS)
    ]
    return sum(right) / N_USERS


def columns_of(dataset) -> list[list[int]]:
    """The users of every item, by a loop over the interactions."""
    columns: list[list[int]] = [[] for _ in range(dataset.item_num)]
    for user, item in zip(dataset.inter_feat["user_id"].tolist(), dataset.inter_feat["item_id"].tolist()):
        columns[item].append(user)
    return [sorted(column) for column in columns]


def dense_encoder(model: ItemVAE, column: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and log variance [z] from the whole column of length one, as the paper writes it."""
    row = torch.zeros(model.n_users).to(model.output.weight)
    row[column] = 1 / math.sqrt(len(column))
    hidden = torch.tanh(row @ model.user_embedding.weight + model.user_bias)
    return model.gaussian(model.encoder(hidden)).chunk(2)


def dense_log_p(model: ItemVAE, latent: torch.Tensor) -> torch.Tensor:
    """[n_users]: log softmax over the real users; the padding user has probability 0."""
    logits = model.output(model.decoder(latent))
    return torch.cat([torch.tensor([-math.inf]).to(logits), logits[1:] - logits[1:].exp().sum().log()])


def test_gaussian_kl_agrees_with_torch_distributions() -> None:
    mean, log_variance = torch.randn(5, 3).double(), torch.randn(5, 3).double()
    normal, standard = torch.distributions.Normal(mean, (0.5 * log_variance).exp()), torch.distributions.Normal(0, 1)
    expected = torch.distributions.kl_divergence(normal, standard).sum(1)
    torch.testing.assert_close(gaussian_kl(mean, log_variance), expected)


def test_training_entities_are_the_items_with_interactions_each_once_per_epoch(dataset) -> None:
    model = build(dataset)
    field, ids = model.training_entities
    visited = torch.cat([batch[field] for batch in EntityBatches(field, ids, batch_size=5, seed=0)])
    assert field == "item_id"
    assert sorted(visited.tolist()) == [item for item, column in enumerate(columns_of(dataset)) if column]
    assert dataset.token2id("item_id", f"i{UNMET}") not in visited


def test_column_of_lists_the_users_of_each_item(dataset) -> None:
    users, counts = build(dataset).column_of(torch.tensor([3, dataset.token2id("item_id", f"i{UNMET}"), 1, 3]))
    columns = columns_of(dataset)
    expected = [columns[3], [], columns[1], columns[3]]
    assert counts.tolist() == [len(column) for column in expected]
    assert [sorted(part.tolist()) for part in users.split(counts.tolist())] == expected


def test_calculate_loss_is_the_negative_elbo_of_a_brute_force_computation(dataset) -> None:
    model = build(dataset).double().eval().requires_grad_(False)  # eval: no dropout, but the latent noise stays
    items = torch.tensor([2, 5, 7])
    torch.manual_seed(11)
    reconstruction, weighted_kl = model.calculate_loss(Interaction({"item_id": items}))
    torch.manual_seed(11)
    noise = torch.randn(3, 4).double()
    expected_reconstruction, expected_kl = 0.0, 0.0
    for row, item in enumerate(items.tolist()):
        column = columns_of(dataset)[item]
        mean, log_variance = dense_encoder(model, column)
        log_p = dense_log_p(model, mean + noise[row] * (0.5 * log_variance).exp())
        expected_reconstruction -= sum(float(log_p[user]) for user in column) / 3
        expected_kl -= float(0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()) / 3
    assert float(reconstruction) == pytest.approx(expected_reconstruction, rel=1e-6)
    assert float(weighted_kl) == pytest.approx(0.2 * 1 / 10 * expected_kl, rel=1e-6)  # first of ten annealing steps


def test_weight_of_the_kl_term_grows_to_its_cap_and_survives_a_checkpoint(dataset) -> None:
    model = build(dataset)
    weights = [float(model._kl_weight()) for _ in range(12)]
    assert weights == pytest.approx([0.2 * min(1, (step + 1) / 10) for step in range(12)])
    other = build(dataset)
    other.load_state_dict(model.state_dict())
    assert int(other.n_updates) == 12


def test_score_is_log_p_of_the_item_given_the_user_up_to_a_constant_per_user(dataset) -> None:
    model = train(build(dataset), epochs=2).double()
    columns = columns_of(dataset)
    for item in range(1, N_ITEMS + 1):
        if columns[item]:
            log_p_user = dense_log_p(model, dense_encoder(model, columns[item])[0])[1:]
            expected = log_p_user + math.log(len(columns[item]))  # Bayes: p(u|i) p(i)
            torch.testing.assert_close(all_scores(model)[1:, item], expected, rtol=1e-6, atol=1e-6)


def test_predict_agrees_with_full_sort_predict(dataset) -> None:
    model = train(build(dataset), epochs=2)
    users = torch.arange(model.n_users).repeat_interleave(model.n_items)
    items = torch.arange(model.n_items).repeat(model.n_users)
    one_by_one = model.predict(Interaction({"user_id": users, "item_id": items}))
    torch.testing.assert_close(one_by_one.view(model.n_users, -1), all_scores(model), rtol=1e-5, atol=1e-5)


def test_scores_do_not_depend_on_the_blocks_in_which_items_are_encoded(dataset, monkeypatch) -> None:
    model = train(build(dataset), epochs=2)
    whole = all_scores(copy.deepcopy(model))
    model.restored_items = None
    monkeypatch.setattr(itemvae, "LOGITS_AT_ONCE", 3 * model.n_users)
    torch.testing.assert_close(all_scores(model), whole)


def test_scores_in_evaluation_are_deterministic_and_finite(dataset) -> None:
    model = train(build(dataset), epochs=2)
    first = all_scores(model)
    model.restored_items = None
    assert torch.isfinite(first).all()  # also for the item that nobody met
    torch.testing.assert_close(all_scores(model), first, rtol=0, atol=0)


def test_kept_item_vectors_never_outlive_the_parameters(dataset) -> None:
    model, other = train(build(dataset), epochs=1), train(build(dataset), epochs=3)
    stale = all_scores(model)
    model.load_state_dict(other.state_dict())
    torch.testing.assert_close(all_scores(model), all_scores(other))
    assert not torch.allclose(all_scores(train(model, epochs=1)), stale)


def test_training_finds_the_held_out_item_of_the_checkerboard(dataset) -> None:
    model = build(dataset)
    untrained = share_of_held_out_on_top(model.eval(), dataset)
    assert share_of_held_out_on_top(train(model), dataset) == 1.0 > untrained


def test_padding_is_never_encoded_and_never_trained(dataset) -> None:
    model = build(dataset)
    tables = {"in": model.user_embedding.weight, "out": model.output.weight, "bias": model.output.bias}
    before = {name: table[0].clone() for name, table in tables.items()}
    train(model, epochs=2)
    all_scores(model)
    assert 0 not in model.training_entities[1]
    assert not model.item_vectors()[0].any()
    for name, table in tables.items():
        torch.testing.assert_close(table[0], before[name], rtol=0, atol=0)


def test_same_seed_gives_the_same_model(dataset) -> None:
    first, second = (train(build(dataset), epochs=2) for _ in range(2))
    torch.testing.assert_close(all_scores(first), all_scores(second), rtol=0, atol=0)


def test_model_can_be_copied_after_scoring(dataset) -> None:
    model = train(build(dataset), epochs=1)
    scores = all_scores(model)
    torch.testing.assert_close(all_scores(copy.deepcopy(model)), scores)


def test_state_holds_parameters_and_the_annealing_only(dataset) -> None:
    model = train(build(dataset), epochs=1)
    all_scores(model)
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()} | {"n_updates"}
