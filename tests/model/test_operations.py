"""Operations on sequences: against loops, what each position sees, and padding that counts for nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recbole_hetcomp.model.masked_norm import MaskedBatchNorm
from recbole_hetcomp.model.operations import CONVOLUTIONS, COSTS, OPERATIONS, Operation, reach, searched

T = 12
VALID = torch.ones(1, 1, T)


def seen_by(operation: Operation, place: int) -> list[int]:
    """The positions that the output at `place` depends on."""
    operation.eval()
    values = torch.rand(1, 3, T) + 1
    values.requires_grad_(True)
    operation(values, VALID)[0, :, place].square().sum().backward()
    return [] if values.grad is None else values.grad.abs().sum((0, 1)).nonzero().squeeze(1).tolist()


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_sees_its_kernels_positions_at_their_distance(name, causal) -> None:
    kernel, dilation, looks_back = CONVOLUTIONS[name]
    back = kernel - 1 if causal or looks_back else kernel // 2
    expected = [6 + dilation * (step - back) for step in range(kernel)]
    assert seen_by(Operation(name, 3, causal=causal), 6) == [place for place in expected if 0 <= place < T]
    assert max(6 - place for place in expected) == (reach(name) if back == kernel - 1 else reach(name) // 2)


@pytest.mark.parametrize("name", OPERATIONS)
def test_causal_operations_see_nothing_behind_their_position(name) -> None:
    operation = Operation(name, 3, causal=True).eval()
    values = torch.rand(2, 3, T)
    changed = values.clone()
    changed[:, :, 7:] = torch.rand(2, 3, T - 7) * 9
    torch.testing.assert_close(operation(values, VALID)[:, :, :7], operation(changed, VALID)[:, :, :7], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["max_pool", "avg_pool"])
@pytest.mark.parametrize("causal", [True, False])
def test_pools_equal_a_loop_over_the_valid_positions(name, causal) -> None:
    values, length = torch.rand(1, 2, T), 9
    valid = (torch.arange(T) < length).float().view(1, 1, T)
    found = Operation(name, 2, causal=causal)(values, valid)
    around = (-2, -1, 0) if causal else (-1, 0, 1)
    for place in range(T):
        near = [values[0, :, place + step] for step in around if 0 <= place + step < length]
        made = torch.stack(near or [torch.zeros(2)])
        expected = (made.max(0).values if name == "max_pool" else made.mean(0)) * (place < length)
        torch.testing.assert_close(found[0, :, place], expected)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("name", OPERATIONS)
def test_padding_counts_for_nothing(name, causal, training) -> None:
    """Neither its number nor what stands there; and 0 is given for it."""
    one, other = (Operation(name, 3, causal=causal).train(training) for _ in range(2))
    other.load_state_dict(one.state_dict())
    values, lengths = torch.rand(4, 3, T), torch.tensor([3, 7, 1, 5])
    valid = (torch.arange(T) < lengths[:, None]).float()[:, None]
    junk = values * valid + (1 - valid) * 100
    whole, short = one(junk, valid), other(values[:, :, :7], valid[:, :, :7])
    torch.testing.assert_close(whole[:, :, :7], short)
    assert not (whole * (1 - valid)).any()
    for name, buffer in one.named_buffers():
        torch.testing.assert_close(buffer, dict(other.named_buffers())[name])


def test_without_padding_the_norm_is_torchs() -> None:
    ours, theirs = MaskedBatchNorm(5), nn.BatchNorm1d(5)
    for _ in range(3):
        values = 3 * torch.randn(6, 5, 4) + 1
        torch.testing.assert_close(ours(values, torch.ones(6, 1, 4)), theirs(values))
    for name, buffer in theirs.named_buffers():
        torch.testing.assert_close(dict(ours.named_buffers())[name], buffer)
    torch.testing.assert_close(ours.eval()(values, torch.ones(6, 1, 4)), theirs.eval()(values))


def test_where_all_are_causal_those_that_would_be_the_same_are_searched_once() -> None:
    assert set(searched("all")) - set(searched("causal")) == {"causal3", "causal5"}
    values = torch.rand(2, 3, T)
    for name, same in (("causal3", "dilated3"), ("causal5", "dilated5")):
        one, other = (Operation(kind, 3, causal=True).eval() for kind in (name, same))
        other.load_state_dict(one.state_dict())
        assert torch.equal(one(values, VALID), other(values, VALID))
    assert max(COSTS[name] for name in OPERATIONS if name not in CONVOLUTIONS) < min(COSTS[name] for name in CONVOLUTIONS)
