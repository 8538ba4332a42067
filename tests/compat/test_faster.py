"""The faster loops give what RecBole's own give, to the last bit and with the same draws."""

from __future__ import annotations

import pickle
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.dataloader.general_dataloader import FullSortEvalDataLoader
from recbole.data.interaction import Interaction
from recbole.evaluator.collector import Collector
from recbole.model.loss import EmbLoss
from recbole.model.sequential_recommender.bert4rec import BERT4Rec
from recbole.sampler import Sampler
from recbole.sampler.sampler import AbstractSampler
from recbole.trainer import trainer as trainer_module

from recbole_hetcomp import compat


def functions():
    return (
        Interaction.__getitem__,
        AbstractSampler.sample_by_key_ids,
        AbstractDataLoader.__init__,
        FullSortEvalDataLoader.collate_fn,
        Collector.eval_batch_collect,
        BERT4Rec.reconstruct_test_data,
        EmbLoss.forward,
    )


@pytest.fixture
def stock():
    """The functions that are replaced, as RecBole has them."""
    compat.uninstall()
    found = functions()
    compat.install()
    assert not any(ours is theirs for ours, theirs in zip(functions(), found))
    return found


INDICES = {
    "places": np.array([3, 0, 0, 4]),
    "places, reversed": np.arange(5)[::-1],
    "int32": np.array([1, 2], dtype=np.int32),
    "uint8": torch.tensor([1, 0], dtype=torch.uint8),
    "from the end": torch.tensor([-1, -5]),
    "mask": np.array([True, False, True, False, False]),
    "tensor mask": torch.tensor([False, True, False, False, False]),
    "nothing": np.array([]),
    "a place": np.array(3),
    "objects": np.array([1, 4], dtype=object),
    "unsigned": np.array([1, 4], dtype=np.uint16),
    "list": [4, 1],
    "slice": slice(1, 4),
    "field": "item_id",
}


@pytest.mark.parametrize("kind", INDICES)
def test_rows_are_the_same(stock, kind) -> None:
    batch = Interaction({"item_id": torch.arange(5) * 7, "score": torch.rand(5, 2)})
    ours, theirs = batch[INDICES[kind]], stock[0](batch, INDICES[kind])
    if kind == "field":
        assert ours is theirs
        return
    assert ours.columns == theirs.columns
    for name in ours.columns:
        assert torch.equal(ours[name], theirs[name])
        assert ours[name].dtype == theirs[name].dtype


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
@pytest.mark.parametrize("num", [1, 3])
def test_negatives_are_the_same_draws(stock, split, distribution, num) -> None:
    samplers = [Sampler(["train"], [split.train], distribution).set_phase("train") for _ in range(2)]
    users = split.train.inter_feat["user_id"].numpy()
    for batch in (users, users[:50], users[:1].repeat(9)):
        drawn = []
        for sampler, function in zip(samplers, (AbstractSampler.sample_by_key_ids, stock[1])):
            np.random.seed(5)
            drawn.append((function(sampler, batch, num), np.random.random()))
        assert torch.equal(drawn[0][0], drawn[1][0])
        assert drawn[0][1] == drawn[1][1]  # the generator stands where it stood
        pairs = set(zip(users.tolist(), split.train.inter_feat["item_id"].tolist()))
        assert not pairs & set(zip(np.tile(batch, num).tolist(), drawn[0][0].tolist()))


def test_a_sampler_of_another_phase_has_its_own_pairs(split) -> None:
    sampler = Sampler(["train", "valid"], list(split.parts[:2]))
    train, valid = sampler.set_phase("train"), sampler.set_phase("valid")
    users = split.train.inter_feat["user_id"].numpy()
    train.sample_by_user_ids(users, None, 1)
    fields = ("user_id", "item_id")
    known = {pair for part in split.parts[:2] for pair in zip(*(part.inter_feat[field].tolist() for field in fields))}
    drawn = valid.sample_by_user_ids(users, None, 5).tolist()
    assert not known & set(zip(np.tile(users, 5).tolist(), drawn))


@pytest.mark.parametrize("unknown", [10**6, -(10**6)])
def test_users_that_there_are_not_are_refused_as_ever(split, unknown) -> None:
    sampler = Sampler(["train"], [split.train]).set_phase("train")
    with pytest.raises(ValueError, match="not exist"):
        sampler.sample_by_user_ids(np.array([1, unknown]), None, 1)


def loaders_of(make_config, split, monkeypatch, init, **settings):
    monkeypatch.setattr(AbstractDataLoader, "__init__", init)
    return split.loaders(make_config("BPR", **settings))


def same_batches(ours, theirs) -> None:
    assert ours.columns == theirs.columns
    for name in ours.columns:
        assert torch.equal(ours[name], theirs[name])


@pytest.mark.parametrize("loading", [{}, {"shuffle": False}, {"worker": 1}, {"train_batch_size": 10**6}], ids=str)
def test_training_batches_are_the_same_draws_epoch_after_epoch(stock, make_config, split, monkeypatch, loading) -> None:
    ours, theirs = (
        loaders_of(make_config, split, monkeypatch, init, **{"train_batch_size": 100, **loading}).train
        for init in (AbstractDataLoader.__init__, stock[2])
    )
    assert len(ours) == len(theirs)
    for epoch in range(3):
        batches = []
        for loader in (ours, theirs):
            np.random.seed(epoch)
            batches.append(list(loader))
        assert len(batches[0]) == len(batches[1]) == len(ours)
        for mine, other in zip(*batches):
            same_batches(mine, other)
        assert torch.equal(ours.generator.get_state(), theirs.generator.get_state())


@pytest.mark.parametrize("short", [0, 1, 30], ids="last batch short by {}".format)
@pytest.mark.parametrize("stop", [0, 1, 4, 5, 6])
def test_a_loop_that_ends_early_leaves_later_epochs_the_same(stock, make_config, split, monkeypatch, short, stop) -> None:
    rows = len(split.train) - len(split.train) % 5
    split.train.inter_feat = split.train.inter_feat[:rows]
    loaders = [
        loaders_of(make_config, split, monkeypatch, init, train_batch_size=rows // 5 + short).train
        for init in (AbstractDataLoader.__init__, stock[2])
    ]
    for n_batches in (stop, 99):
        read = []
        for loader in loaders:
            np.random.seed(n_batches)
            read.append([*islice(iter(loader), n_batches)])
        assert len(read[0]) == len(read[1])
        for ours, theirs in zip(*read):
            same_batches(ours, theirs)
        assert torch.equal(*(loader.generator.get_state() for loader in loaders))


def test_a_loader_is_pickled_as_recboles_own(make_config, split) -> None:
    loader = split.loaders(make_config("BPR", train_batch_size=100)).train
    parts = pickle.loads(pickle.dumps((vars(loader)["dataset"], loader.batch_sampler)))
    assert parts[0] == list(range(len(split.train)))
    assert type(parts[1]) is torch.utils.data.BatchSampler
    assert [len(batch) for batch in parts[1]] == [len(batch) for batch in loader.batch_sampler]


@pytest.mark.parametrize("users_at_once", [1, 7, 10**6])
def test_evaluation_batches_are_the_same(stock, make_config, split, users_at_once) -> None:
    loader = split.loaders(make_config("BPR", eval_batch_size=users_at_once * split.whole.item_num)).valid
    batches = 0
    for index in loader.batch_sampler:
        (ours, (ours_u, ours_i), *ours_positive) = loader.collate_fn(index)
        (theirs, (theirs_u, theirs_i), *theirs_positive) = stock[3](loader, index)
        same_batches(ours, theirs)
        for mine, other in zip((ours_u, ours_i, *ours_positive), (theirs_u, theirs_i, *theirs_positive)):
            assert torch.equal(mine, other)
            assert mine.dtype == other.dtype
        batches += 1
    assert batches == len(loader)


@pytest.mark.parametrize("metrics", [["Recall"], ["NDCG", "ItemCoverage"], ["GiniIndex"], ["Recall", "GAUC"]], ids=str)
@pytest.mark.parametrize("repeats", [False, True])
def test_what_an_evaluation_collects_is_the_same(stock, make_config, metrics, repeats) -> None:
    cut = "" if metrics[0] == "GAUC" else "@3"
    config = make_config("BPR", metrics=metrics, topk=[3, 7], valid_metric=f"{metrics[0]}{cut}")
    users, items = torch.tensor([0, 0, 1, 3, 3, 3]), torch.tensor([5, 9, 1, 30, 2, 5])
    if repeats:
        users, items = users.repeat(2), items.repeat(2)
    found = []
    for function in (Collector.eval_batch_collect, stock[4]):
        collector = Collector(config)
        for seed in range(2):
            scores = torch.rand(4, 40, generator=torch.Generator().manual_seed(seed)).round(decimals=1)  # with ties
            function(collector, scores, None, users, items)
        found.append(collector.data_struct)
    for name in ("rec.items", "rec.topk", "rec.meanrank"):
        assert (name in found[0]) == (name in found[1])
        if name in found[0]:
            assert torch.equal(found[0].get(name), found[1].get(name))
            assert found[0].get(name).dtype == found[1].get(name).dtype


def test_adam_in_one_pass_takes_the_same_steps() -> None:
    start = torch.randn(50, 8, generator=torch.Generator().manual_seed(0)).double()
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    optimisers = [
        trainer_module.optim.Adam([{"params": [ours], "weight_decay": 0.1}], lr=0.01),
        torch.optim.Adam([theirs], lr=0.01, weight_decay=0.1),
    ]
    assert optimisers[0].param_groups[0]["fused"]
    for step in range(30):
        gradient = torch.randn(50, 8, generator=torch.Generator().manual_seed(step)).double()
        gradient[step:] = 0  # rows that no batch has touched
        for parameter, optimiser in zip((ours, theirs), optimisers):
            parameter.grad = gradient.clone()
            optimiser.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_other_names_of_the_optimisers_stay() -> None:
    assert trainer_module.optim.SGD is torch.optim.SGD
    assert isinstance(trainer_module.optim.Adam(torch.nn.Linear(2, 2).parameters(), lr=0.1), torch.optim.Adam)


@pytest.mark.parametrize("norm", [1, 2, 3])
@pytest.mark.parametrize("require_pow", [True, False])
def test_the_norm_of_embeddings_is_the_same_with_its_gradient(stock, norm, require_pow) -> None:
    parts = [torch.randn(7, size, requires_grad=True) for size in (4, 5, 6)]
    found = []
    for function in (EmbLoss.forward, stock[-1]):
        value = function(EmbLoss(norm), *parts, require_pow=require_pow)
        found.append([value, *torch.autograd.grad(value, parts)])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found))
    assert found[0][0].shape == found[1][0].shape == (1,)


def test_the_norm_of_embeddings_copies_nothing_from_the_cpu(stock, monkeypatch) -> None:
    """RecBole's makes a 0 there, whose way to a GPU waits for all that the GPU has to do before."""
    made, zeros = [], torch.zeros

    def watched(*size, device=None):
        made.append(device)
        return zeros(*size, device=device)

    monkeypatch.setattr(torch, "zeros", watched)
    for function in (EmbLoss.forward, stock[-1]):
        function(EmbLoss(), torch.randn(3, 2, device="meta"))
    assert made == [torch.device("meta"), None]


def test_bert4recs_mask_stands_behind_each_sequence(stock) -> None:
    lengths = torch.tensor([1, 3, 5, 5, 2])
    sequences = torch.arange(1, 26).view(5, 5).masked_fill(torch.arange(5) >= lengths[:, None], 0)
    model, given = SimpleNamespace(mask_token=99), sequences.clone()
    made = BERT4Rec.reconstruct_test_data(model, sequences, lengths)
    assert torch.equal(made, stock[-2](model, sequences, lengths))
    assert torch.equal(sequences, given)
