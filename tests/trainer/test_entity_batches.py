"""Batches of entities: each once an epoch, in an order of their own seed."""

from __future__ import annotations

import pytest
import torch

from recbole_hetcomp.trainer.entity_batches import EntityBatches

IDS = torch.tensor([2, 3, 5, 7, 11, 13, 17])


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 100])
def test_every_entity_comes_once_an_epoch(batch_size):
    batches = EntityBatches("user_id", IDS, batch_size, seed=1)
    for _ in range(3):
        parts = [batch["user_id"] for batch in batches]
        assert sorted(torch.cat(parts).tolist()) == IDS.tolist()
        assert len(parts) == len(batches)
        assert max(map(len, parts)) <= batch_size


def test_every_epoch_has_an_order_of_its_own__the_same_for_the_same_seed():
    def orders(seed: int) -> list[list[int]]:
        batches = EntityBatches("user_id", IDS, 3, seed)
        return [torch.cat([batch["user_id"] for batch in batches]).tolist() for _ in range(4)]

    assert orders(1) == orders(1)
    assert orders(1) != orders(2)
    assert len({tuple(order) for order in orders(1)}) == 4


def test_nothing_is_drawn_from_the_global_stream():
    state = torch.get_rng_state()
    list(EntityBatches("user_id", IDS, 3, seed=1))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_generators_state_is_all_that_the_order_depends_on():
    first, second = (EntityBatches("item_id", IDS, 3, seed) for seed in (1, 2))
    list(first)
    second.generator.set_state(first.generator.get_state())
    for ours, theirs in zip(first, second):
        assert torch.equal(ours["item_id"], theirs["item_id"])
