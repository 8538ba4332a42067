"""Transport among layers: its plans against a brute force and an assignment, and weights that follow the cost."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from recbole_hetcomp.knowledge.transport import LEAST, LayerTransport, cost_attention, transport_plan
from recbole_hetcomp.losses.divergence import layer_divergences

PART = st.floats(0.05, 0.95)
COST = st.floats(0.0, 100.0)


def uniform(n: int) -> torch.Tensor:
    return torch.full((n,), 1 / n, dtype=torch.float64)


@given(st.lists(COST, min_size=4, max_size=4), PART, PART)
def test_a_plan_between_two_and_two_is_the_better_end_of_the_one_that_are_possible(costs, supply, demand) -> None:
    """There one number, F_00, is free, and the cost is linear in it."""
    matrix = torch.tensor(costs, dtype=torch.float64).view(2, 2)
    of_rows, of_columns = (torch.tensor([part, 1 - part], dtype=torch.float64) for part in (supply, demand))
    plan = transport_plan(matrix, of_rows, of_columns)
    least = math.inf
    for first in (max(0.0, supply + demand - 1), min(supply, demand)):
        ends = torch.tensor([[first, supply - first], [demand - first, 1 - supply - demand + first]], dtype=torch.float64)
        least = min(least, float((ends * matrix).sum()))
    assert float((plan * matrix).sum()) == pytest.approx(least, abs=1e-6)
    torch.testing.assert_close(plan.sum(1), of_rows, atol=1e-7, rtol=0)
    torch.testing.assert_close(plan.sum(0), of_columns, atol=1e-7, rtol=0)


@pytest.mark.parametrize("n", [2, 4, 7])
def test_between_as_many_layers_of_equal_weight_it_is_the_best_assignment(n) -> None:
    costs = torch.rand(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    plan = transport_plan(costs, uniform(n), uniform(n))
    rows, columns = linear_sum_assignment(costs.numpy())
    assert float((plan * costs).sum()) == pytest.approx(costs.numpy()[rows, columns].sum() / n)


@pytest.mark.parametrize("kind", ["forward", "reverse"])
def test_layers_that_are_the_teachers_in_another_order_cost_nothing_and_are_found(kind) -> None:
    teacher, order = torch.randn(4, 6, 5, 8, generator=torch.Generator().manual_seed(1)), [2, 0, 3, 1]
    valid = torch.ones(6, 5, dtype=torch.bool)
    costs = layer_divergences([teacher[place] for place in order], [*teacher], valid, kind).double()
    plan = transport_plan(costs, uniform(4), uniform(4))
    assert float((plan * costs).sum()) == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(plan, torch.eye(4, dtype=torch.float64)[order] / 4)
    assert float(costs.diagonal().mean()) > 0.1  # of each layer with that of its own number


@given(st.lists(st.tuples(st.floats(0.01, 10.0), st.floats(0.05, 1.0)), min_size=2, max_size=6))
def test_cost_attention_is_the_softmax_of_all_prices_over_a_layers_own(layers) -> None:
    spent, weights = (torch.tensor(part, dtype=torch.float64) for part in zip(*layers))
    found = cost_attention(spent, weights)
    prices = [one / weight for one, weight in layers]
    total = math.fsum(prices)
    masses = [math.exp(total / max(price, LEAST * total) / 10) for price in prices]
    assert found.tolist() == pytest.approx([mass / math.fsum(masses) for mass in masses])
    assert prices[int(found.argmin())] == pytest.approx(max(prices))


def test_layers_that_cost_nothing_keep_equal_weights_and_one_that_does_keeps_a_bounded_one() -> None:
    torch.testing.assert_close(cost_attention(torch.zeros(3), uniform(3)), uniform(3))
    weights = uniform(4)
    for _ in range(50):
        weights = cost_attention(torch.tensor([0.0, 0.0, 0.0, 1.0]) * weights, weights)
        assert bool((weights > 1e-3).all())
    assert int(weights.argmin()) == 3


def test_a_plan_is_kept_for_as_many_steps_and_a_resumed_transport_goes_on_alike() -> None:
    draw = torch.Generator().manual_seed(3)
    costs = [torch.rand(3, 2, generator=draw) for _ in range(6)]
    whole, stopped = LayerTransport(3, 2, every=2), LayerTransport(3, 2, every=2)
    plans = [whole.step(each) for each in costs]
    assert plans[0] is plans[1]
    assert plans[1] is not plans[2]
    for each in costs[:3]:
        stopped.step(each)
    resumed = LayerTransport(3, 2, every=2)
    resumed.load_state_dict(stopped.state_dict())
    for plan, each in zip(plans[3:], costs[3:]):
        torch.testing.assert_close(resumed.step(each), plan, rtol=0, atol=0)


@pytest.mark.parametrize(
    "change",
    [
        {"plan": torch.ones(2, 3)},
        {"plan": -torch.ones(3, 2)},
        {"of_student": torch.tensor([1.0, 0.0, 0.0])},
        {"of_teacher": torch.tensor([float("nan"), 0.5])},
        {"of_teacher": torch.tensor([1.0, 1.0])},
        {"steps": -1},
    ],
)
def test_what_no_transport_comes_to_is_refused(change) -> None:
    transport = LayerTransport(3, 2)
    transport.step(torch.rand(3, 2))
    with pytest.raises(ValueError, match=r"transport|weight"):
        LayerTransport(3, 2).load_state_dict({**transport.state_dict(), **change})
