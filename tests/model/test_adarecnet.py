"""AdaRecNet: the mixed network is the discrete one that it derives; no position sees padding, or what comes later."""

from __future__ import annotations

import itertools

import pytest
import torch

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.asked import AskedByRow
from recbole_hetcomp.data.split import make_split
from recbole_hetcomp.model.operations import COSTS, reach
from recbole_hetcomp.model.sequential_recommender.adarecnet import EDGES, AdaRecNet
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.serving.student import load_student

COLUMNS = {"inter": ["user_id", "item_id", "timestamp"]}
FOUND = ["conv3", "dilated3", "skip", "max_pool", "avg_pool", "conv5"]
LONGEST = 10


@pytest.fixture
def sequential(settings) -> dict:
    return {**settings, "load_col": COLUMNS, "MAX_ITEM_LIST_LENGTH": LONGEST, "n_cells": 2}


@pytest.fixture
def net(sequential):
    """`net(**settings)`: an AdaRecNet for `toy` in evaluation mode, with running statistics of some batches."""

    def make(**given) -> AdaRecNet:
        config = Config("AdaRecNet", "toy", config_dict={**sequential, **given}, arguments=())
        split = make_split(config)
        torch.manual_seed(5)
        model = AdaRecNet(config, split.train_for(config))
        with torch.no_grad():
            model.item_embedding.weight.normal_()
            for _ in range(3):
                model.train().states(*some_sequences(model))
        return model.eval()

    return make


def some_sequences(model: AdaRecNet) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([1, 4, 7, LONGEST])
    inside = torch.arange(LONGEST) < lengths[:, None]
    return torch.randint(1, model.n_items, inside.shape) * inside, lengths


@pytest.mark.parametrize("ops", ["causal", "all"])
@pytest.mark.parametrize("seed", range(4))
def test_the_mixed_network_is_the_one_that_it_derives_with_the_same_parameters(net, ops, seed) -> None:
    mixed = net(adarec_ops=ops)
    with torch.no_grad():
        mixed.alpha.copy_(torch.randn(mixed.alpha.shape, generator=torch.Generator().manual_seed(seed)))
    chosen = mixed.derived()
    assert chosen == [mixed.names[place] for place in mixed.alpha.argmax(1)]
    derived = net(adarec_ops=ops, architecture=chosen)
    state, own = mixed.state_dict(), derived.state_dict()
    assert {*own} < {*state}
    derived.load_state_dict({name: state[name] for name in own})
    sequences = some_sequences(mixed)
    assert torch.equal(mixed(*sequences), derived(*sequences))
    other = [mixed.names[place] for place in mixed.alpha.argmin(1)]
    assert not torch.equal(mixed(*sequences), net(adarec_ops=ops, architecture=other)(*sequences))


def test_a_one_hot_draw_is_the_discrete_network_in_training_too(net) -> None:
    """But for the dropout. With logits this far apart the draw is certain."""
    mixed = net(dropout_prob=0.0)
    with torch.no_grad():
        mixed.alpha.zero_()
        for edge, name in enumerate(FOUND):
            mixed.alpha[edge, mixed.names.index(name)] = 1e4
    derived, state = net(dropout_prob=0.0, architecture=FOUND), mixed.state_dict()
    derived.load_state_dict({name: state[name] for name in derived.state_dict()})
    sequences = some_sequences(mixed)
    torch.testing.assert_close(mixed.train()(*sequences), derived.train()(*sequences))


def test_in_training_each_edge_has_one_operation_and_all_logits_learn(net) -> None:
    mixed = net().train()
    weights = torch.stack(mixed.choices())
    assert weights.shape == (len(EDGES), len(mixed.names))
    torch.testing.assert_close(weights.max(1).values, torch.ones(len(EDGES)))
    torch.testing.assert_close(weights.sum(1), torch.ones(len(EDGES)))
    assert len({tuple(torch.stack(mixed.choices()).argmax(1).tolist()) for _ in range(20)}) > 10
    mixed(*some_sequences(mixed)).square().sum().backward()
    assert bool((mixed.alpha.grad != 0).all())


@pytest.mark.parametrize(("ops", "architecture"), itertools.product(["causal", "all"], [None, FOUND]))
def test_what_is_behind_the_end_changes_nothing(net, ops, architecture) -> None:
    model = net(adarec_ops=ops, architecture=architecture)
    items, lengths = some_sequences(model)
    inside = torch.arange(LONGEST) < lengths[:, None]
    junk = torch.where(inside, items, torch.randint(1, model.n_items, items.shape))
    torch.testing.assert_close(model(junk, lengths), model(items, lengths), rtol=0, atol=0)
    shorter = lengths < LONGEST
    torch.testing.assert_close(model(items[shorter, :7], lengths[shorter]), model(items, lengths)[shorter])


def test_what_comes_later_is_not_seen_where_all_operations_are_causal(net) -> None:
    items, lengths = torch.arange(1, LONGEST + 1)[None], torch.tensor([LONGEST])
    changed = items.clone()
    changed[:, 6:] = torch.arange(30, 30 + LONGEST - 6)
    same = {}
    for ops in ("causal", "all"):
        model = net(adarec_ops=ops, architecture=["conv3"] * len(EDGES))
        one, other = (model.states(given, lengths)[-1][:, :6] for given in (items, changed))
        same[ops] = torch.allclose(one, other, atol=1e-6)
    assert same == {"causal": True, "all": False}


def test_its_vectors_are_what_losses_over_all_items_stream(net, sequential) -> None:
    model = net(architecture=FOUND)
    rows = make_split(Config("AdaRecNet", "toy", config_dict=sequential, arguments=())).rows(2, 0)
    asked, some = AskedByRow(model, rows), torch.arange(1, 9)
    vectors = asked.vectors(some)
    torch.testing.assert_close(vectors.users @ vectors.items.T, model.full_sort_predict(rows.asked(some)))


@pytest.mark.parametrize("loss", ["CE", "BPR"])
@pytest.mark.parametrize("architecture", [None, FOUND])
def test_it_trains_alone_and_its_file_makes_it_again(sequential, loss, architecture) -> None:
    given = {**sequential, "epochs": 3, "loss_type": loss, "architecture": architecture}
    result = run_hetcomp("AdaRecNet", "toy", config_dict=given, arguments=())
    assert 0 < result["test_result"]["recall@10"] <= 1
    _, served, _ = load_student(result["checkpoint"], arguments=())
    assert served.architecture == architecture
    sequences = some_sequences(served)
    assert torch.equal(served(*sequences), result["model"].eval()(*sequences))


def test_it_learns_what_follows_what(sequential) -> None:
    """Of a sequence whose next item is the last one plus 1."""
    config = Config("AdaRecNet", "toy", config_dict={**sequential, "architecture": FOUND}, arguments=())
    torch.manual_seed(0)
    model = AdaRecNet(config, make_split(config).train_for(config)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        items = torch.randint(1, 70, (64, 1)) + torch.arange(LONGEST)
        batch = {model.ITEM_SEQ: items, model.ITEM_SEQ_LEN: torch.full((64,), LONGEST), model.POS_ITEM_ID: items[:, -1] + 1}
        optimizer.zero_grad()
        model.calculate_loss(batch).backward()
        optimizer.step()
    best = model.eval().full_sort_predict(batch).argmax(1)
    assert float((best == items[:, -1] + 1).float().mean()) > 0.9


@pytest.mark.parametrize(
    ("architecture", "sentence"),
    [
        (["conv3"], r"architecture: \['conv3'\] has 1 operations; give 6, one for each edge: 0-1, 0-2, 1-2"),
        (["conv3"] * 5 + ["conv7"], "architecture: .* is none of conv3, conv5"),
        ([], "architecture: "),
        ("conv3", "architecture: "),
    ],
)
def test_an_architecture_that_is_none_is_one_sentence(sequential, architecture, sentence) -> None:
    with pytest.raises(UserError, match=sentence):
        run_hetcomp("AdaRecNet", "toy", config_dict={**sequential, "architecture": architecture}, arguments=())


def farther_back(net, back: int) -> float:
    """The probability, a mean over edges, of operations that see 4 places back, once the mixed network has learnt sequences
    of which each item is the one `back` places before it plus 1.
    """
    torch.manual_seed(back)
    model = net(n_cells=1, dropout_prob=0.0, embedding_size=16).train()
    own = [part for name, part in model.named_parameters() if name != "alpha"]
    optimizer = torch.optim.Adam([{"params": own, "lr": 0.02}, {"params": [model.alpha], "lr": 0.03}])
    costs = torch.tensor([COSTS[name] for name in model.names])
    for _ in range(150):
        items = torch.randint(1, 60, (64, back))
        while items.size(1) <= LONGEST:
            items = torch.cat([items, items[:, -back, None] % 70 + 1], 1)
        batch = {model.ITEM_SEQ: items[:, :LONGEST], model.ITEM_SEQ_LEN: torch.full((64,), LONGEST)}
        optimizer.zero_grad()
        loss = model.calculate_loss({**batch, model.POS_ITEM_ID: items[:, LONGEST]})
        (loss + 0.3 * (model.alpha.softmax(1) * costs).sum()).backward()
        optimizer.step()
    far = torch.tensor([reach(name) >= 4 for name in model.names])
    return float(model.alpha.detach().softmax(1)[:, far].sum(1).mean())


@pytest.mark.slow
def test_where_the_next_item_follows_from_one_farther_back_the_search_looks_farther_back(net) -> None:
    near, far = farther_back(net, 1), farther_back(net, 5)
    assert far > near + 0.1
