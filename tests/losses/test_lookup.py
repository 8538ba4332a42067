"""Looking up rows: torch's own values and gradients, to the last bit."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import embedding

from recbole_hetcomp.losses.lookup import Table, look_up


@pytest.mark.parametrize("shape", [(0,), (1,), (4_000,), (300, 40)])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", [torch.int64, torch.int32])
def test_values_and_gradients_are_those_of_embedding__with_any_number_of_threads(shape, threads, kind) -> None:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(50, 8, generator=generator, requires_grad=True)
    ids = torch.randint(0, 50, shape, generator=generator).to(kind)  # each many times
    upstream = torch.randn(*shape, 8, generator=generator)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        rows = look_up(table, ids)
        (gradient,) = torch.autograd.grad(rows, table, upstream)
    finally:
        torch.set_num_threads(before)
    expected = embedding(ids, table)
    assert torch.equal(rows, expected)
    assert torch.equal(gradient, torch.autograd.grad(expected, table, upstream)[0])


def test_a_gradient_that_is_a_view_is_added_up_as_it_reads() -> None:
    table = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([[1, 2], [1, 5]])
    assert torch.autograd.gradcheck(
        lambda rows: look_up(rows, ids).transpose(0, 2).sum(1, keepdim=True).expand(-1, 3, -1), table
    )


def test_a_table_is_an_embedding_to_whoever_reads_or_writes_it() -> None:
    ours, torchs = Table(7, 3), torch.nn.Embedding(7, 3)
    torchs.load_state_dict(ours.state_dict())
    ids = torch.tensor([6, 0, 6])
    assert isinstance(ours, torch.nn.Embedding)
    assert torch.equal(ours(ids), torchs(ids))
