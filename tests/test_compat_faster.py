"""The faster loops give what RecBole's own give, to the last bit and with the same draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.sampler import Sampler
from recbole.sampler.sampler import AbstractSampler

from recbole_hetcomp import compat


@pytest.fixture
def stock():
    """(Interaction.__getitem__, AbstractSampler.sample_by_key_ids) as RecBole has them."""
    compat.uninstall()
    functions = Interaction.__getitem__, AbstractSampler.sample_by_key_ids
    compat.install()
    assert functions[0] is not Interaction.__getitem__
    assert functions[1] is not AbstractSampler.sample_by_key_ids
    return functions


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
