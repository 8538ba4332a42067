"""HetComp's two losses: the worked example, loops over the catalogue, and what the gradient may touch."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recbole_hetcomp import losses
from recbole_hetcomp.losses import Dense, log_mass, plackett_luce_loss, unordered_loss
from recbole_hetcomp.losses.adaptive_transfer import list_sizes


def overall_ranking_loss(scores: Tensor, *lists: Tensor) -> Tensor:
    return losses.overall_ranking_loss(Dense(scores), *lists)


def fine_ranking_loss(scores: Tensor, *lists: Tensor, **settings: Any) -> Tensor:
    return losses.fine_ranking_loss(Dense(scores), *lists, **settings)


LOSSES = [overall_ranking_loss, fine_ranking_loss]
SUBMISSION: dict[str, Any] = {"depths": (1.0,), "weights": (1.0,)}


class Case(NamedTuple):
    scores: Tensor
    targets: Tensor
    observed: Tensor
    history: Tensor


def worked_example() -> Case:
    """30 items, here called 1 to 30: scores ((7 i mod 11) - 5) / 3 with i from 0, the first four observed."""
    scores = torch.tensor([((7 * item) % 11 - 5) / 3 for item in range(30)], dtype=torch.float64)
    targets = torch.tensor([4 + (5 * k) % 26 for k in range(20)]) + 1
    padded = torch.cat([torch.full((1,), 50.0, dtype=torch.float64), scores])
    return Case(padded[None], targets[None], torch.tensor([[3, 1]]), torch.tensor([[1, 2, 3, 4]]))


def random_case(seed: int, n_rows: int, n_targets: int, n_items: int = 40, dtype: torch.dtype = torch.float64) -> Case:
    """Distinct targets outside the history, observed items inside it, lists of random length; row 0 may be empty."""
    generator = torch.Generator().manual_seed(seed)
    items = torch.rand(n_rows, n_items, generator=generator).argsort(1) + 1
    history, targets = items[:, :8], items[:, 8 : 8 + n_targets]
    length = torch.randint(0, 9, (n_rows, 1), generator=generator)
    history = history.masked_fill(torch.arange(8) >= length, 0)
    n_listed = torch.randint(0, n_targets + 1, (n_rows, 1), generator=generator)
    targets = targets.masked_fill(torch.arange(targets.size(1)) >= n_listed, 0)
    scores = 3 * torch.randn(n_rows, n_items + 1, generator=generator, dtype=dtype)
    return Case(scores, targets, history[:, :5], history)


def slow_tail(row: list[float], excluded: list[int]) -> float:
    """exp of the tail."""
    return math.fsum(math.exp(score) for item, score in enumerate(row) if item != 0 and item not in excluded)


def slow_list(row: list[float], items: list[int], tail: float) -> float:
    items = [item for item in items if item != 0]
    loss = 0.0
    for k, item in enumerate(items):
        loss += math.log(tail + math.fsum(math.exp(row[other]) for other in items[k:])) - row[item]
    return loss


def slow_overall(row: list[float], targets: list[int], observed: list[int], history: list[int]) -> float:
    tail = slow_tail(row, history + targets)
    learnt = [item for item in observed + targets if item != 0]
    return sum(math.log(math.exp(row[item]) + tail) - row[item] for item in learnt)


def slow_fine(
    row: list[float],
    targets: list[int],
    observed: list[int],
    history: list[int],
    depths: tuple[float, ...] = (0.5, 0.1),
    weights: tuple[float, ...] = (0.5, 0.5),
) -> float:
    lists = [targets[: max(1, int(len(targets) * depth))] for depth in depths]
    loss = slow_list(row, observed, slow_tail(row, history + lists[0]))
    for first, weight in zip(lists, weights):
        loss += weight * slow_list(row, first, slow_tail(row, history + first))
    return loss


def rows_of(case: Case) -> Any:
    return zip(*(part.tolist() for part in case))


def test_overall_loss_of_the_worked_example() -> None:
    case = worked_example()
    tail = log_mass(case.scores, torch.cat([case.history, case.targets], 1))
    assert tail.item() == pytest.approx(2.475563764, abs=5e-10)
    assert overall_ranking_loss(*case).item() == pytest.approx(60.528395, abs=5e-7)
    assert unordered_loss(case.scores.gather(1, case.observed), tail).item() == pytest.approx(7.342503, abs=5e-7)


def test_fine_loss_of_the_worked_example() -> None:
    case = worked_example()
    parts = {}
    for size in (10, 2):
        first = case.targets[:, :size]
        tail = log_mass(case.scores, torch.cat([case.history, first], 1))
        parts[size] = plackett_luce_loss(case.scores.gather(1, first), tail).item()
        if size == 10:
            parts[0] = plackett_luce_loss(case.scores.gather(1, case.observed), tail).item()
    assert parts == pytest.approx({10: 35.731642, 2: 6.154054, 0: 9.032553}, abs=5e-7)
    assert fine_ranking_loss(*case).item() == pytest.approx(29.975401, abs=5e-7)
    assert fine_ranking_loss(*case, **SUBMISSION).item() == pytest.approx(73.036927, abs=5e-7)


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), n_rows=st.integers(1, 5), n_targets=st.integers(0, 30))
def test_losses_equal_loops_over_the_catalogue(seed: int, n_rows: int, n_targets: int) -> None:
    case = random_case(seed, n_rows, n_targets)
    overall = [slow_overall(*row) for row in rows_of(case)]
    fine = [slow_fine(*row) for row in rows_of(case)]
    depths, weights = (0.8, 0.4, 0.4), (0.3, 1.0, 2.0)
    other = [slow_fine(a, b, c, d, depths, weights) for a, b, c, d in rows_of(case)]
    close: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(overall_ranking_loss(*case), torch.tensor(overall, dtype=torch.float64), **close)
    torch.testing.assert_close(fine_ranking_loss(*case), torch.tensor(fine, dtype=torch.float64), **close)
    found = fine_ranking_loss(*case, depths=depths, weights=weights)
    torch.testing.assert_close(found, torch.tensor(other, dtype=torch.float64), **close)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6))
@pytest.mark.parametrize("loss", LOSSES)
def test_rows_do_not_mix_and_items_have_no_names(loss, seed: int) -> None:  # type: ignore[no-untyped-def]
    case = random_case(seed, 6, 20)
    whole = loss(*case)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(6, generator=generator)
    torch.testing.assert_close(loss(*(part[order] for part in case)), whole[order], rtol=1e-12, atol=0)
    halves = [loss(*(part[half] for part in case)) for half in (slice(0, 2), slice(2, None))]
    torch.testing.assert_close(torch.cat(halves), whole, rtol=1e-12, atol=0)
    names = torch.cat([torch.zeros(1, dtype=torch.long), torch.randperm(40, generator=generator) + 1])
    renamed = Case(torch.empty_like(case.scores), *(names[part] for part in case[1:]))
    renamed.scores[:, names] = case.scores
    torch.testing.assert_close(loss(*renamed), whole, rtol=1e-12, atol=0)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_equals_finite_differences(loss) -> None:  # type: ignore[no-untyped-def]
    scores, *lists = random_case(11, 3, 10, n_items=20)
    assert torch.autograd.gradcheck(lambda s: loss(s, *lists), scores.requires_grad_())


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6))
@pytest.mark.parametrize("loss", LOSSES)
def test_padding_and_unused_history_have_no_gradient(loss, seed: int) -> None:  # type: ignore[no-untyped-def]
    scores, targets, observed, history = random_case(seed, 5, 20)
    observed = observed[:, :2]
    scores.requires_grad_()
    gradient = torch.autograd.grad(loss(scores, targets, observed, history).sum(), scores)[0]
    learns = (targets[:, 0] > 0) | (observed[:, 0] > 0)
    for row, learnt in enumerate(learns.tolist()):
        unused = {0, *history[row].tolist()} - ({*observed[row].tolist()} - {0})
        used = [item for item in range(41) if item not in unused]
        assert (gradient[row, list(unused)] == 0).all()
        assert (gradient[row, used] != 0).all() if learnt else not gradient[row].any()
    # An item's loss falls with its score: what is learnt is pushed up, the tail down, and both balance.
    torch.testing.assert_close(gradient.sum(1), torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("value", [1e4, -math.inf, math.nan])
def test_column_zero_is_ignored_whatever_it_holds(loss, value: float) -> None:  # type: ignore[no-untyped-def]
    scores, *lists = random_case(2, 5, 20)
    changed = scores.clone()
    changed[:, 0] = value
    changed.requires_grad_()
    found = loss(changed, *lists)
    assert torch.equal(found, loss(scores, *lists))
    assert torch.autograd.grad(found.sum(), changed)[0].isfinite().all()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_are_finite_at_the_edge(loss, dtype: torch.dtype) -> None:  # type: ignore[no-untyped-def]
    scores, *lists = random_case(6, 8, 20, dtype=dtype)
    scores = (200 * scores.sign()).requires_grad_()
    value = loss(scores, *lists)
    assert value.isfinite().all()
    assert torch.autograd.grad(value.sum(), scores)[0].isfinite().all()


@pytest.mark.parametrize("loss", LOSSES)
def test_a_catalogue_that_is_all_targets_leaves_no_tail(loss) -> None:  # type: ignore[no-untyped-def]
    scores = torch.randn(2, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    history, targets = torch.tensor([[1, 2]] * 2), torch.tensor([[3, 4, 5, 6]] * 2)
    extra = SUBMISSION if loss is fine_ranking_loss else {}
    value = loss(scores, targets, history, history, **extra)
    gradient = torch.autograd.grad(value.sum(), scores)[0]
    assert gradient.isfinite().all()
    if loss is overall_ranking_loss:
        assert value.tolist() == [0.0, 0.0]
        assert not gradient.any()
    else:
        no_tail = torch.full((2,), -math.inf, dtype=torch.float64)
        list_mle = [plackett_luce_loss(scores.gather(1, items), no_tail) for items in (history, targets)]
        torch.testing.assert_close(value, list_mle[0] + list_mle[1])


@pytest.mark.parametrize("loss", LOSSES)
def test_a_padding_user_costs_nothing(loss) -> None:  # type: ignore[no-untyped-def]
    scores, targets, observed, history = random_case(3, 4, 20)
    nothing = [torch.zeros_like(part) for part in (targets, observed, history)]
    assert loss(scores, *nothing).tolist() == [0.0] * 4
    assert loss(scores, *(part[:, :0] for part in nothing)).tolist() == [0.0] * 4


@pytest.mark.parametrize("loss", LOSSES)
def test_single_precision_and_short_ids_agree_with_double(loss) -> None:  # type: ignore[no-untyped-def]
    scores, *lists = random_case(8, 6, 20)
    single = loss(scores.float(), *(part.int() for part in lists))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), loss(scores, *lists), rtol=1e-5, atol=1e-5)


def test_more_padding_of_observed_and_history_changes_nothing() -> None:
    scores, targets, observed, history = random_case(4, 6, 20)
    wider = [torch.cat([part, torch.zeros_like(part)], 1) for part in (observed, history)]
    for loss in LOSSES:
        torch.testing.assert_close(
            loss(scores, targets, *wider), loss(scores, targets, observed, history), rtol=1e-12, atol=0
        )


def test_observed_and_unobserved_items_never_compete() -> None:
    scores, targets, observed, history = random_case(7, 6, 20)
    raised = scores.scatter_add(1, observed, torch.full_like(scores, 5.0))
    nobody = torch.zeros_like(observed)
    for loss in LOSSES:
        torch.testing.assert_close(
            loss(raised, targets, nobody, history), loss(scores, targets, nobody, history), rtol=1e-12, atol=0
        )


def test_later_targets_are_negatives_of_the_fine_loss_alone() -> None:
    scores, targets, observed, history = random_case(10, 1, 20)
    targets = torch.arange(9, 29)[None]
    history, observed = torch.arange(1, 9)[None], torch.arange(1, 6)[None]
    scores.requires_grad_()
    fine = torch.autograd.grad(fine_ranking_loss(scores, targets, observed, history).sum(), scores)[0]
    overall = torch.autograd.grad(overall_ranking_loss(scores, targets, observed, history).sum(), scores)[0]
    assert (fine[0, targets[0, 10:]] > 0).all()
    assert (overall[0, targets[0]] < 0).all()


def test_log_mass_of_nothing_is_minus_infinity_with_a_gradient_of_zero() -> None:
    scores = torch.randn(2, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    mass = log_mass(scores, torch.tensor([[1, 2, 3], [1, 1, 0]]))
    assert mass[0].item() == -math.inf
    assert mass[1].item() == pytest.approx(scores[1, 2:].logsumexp(0).item())
    gradient = torch.autograd.grad(mass.exp().sum(), scores)[0]
    assert gradient[0].tolist() == [0.0] * 4
    assert gradient[1, :2].tolist() == [0.0, 0.0]
    torch.testing.assert_close(gradient[1, 2:], scores[1, 2:].exp().detach())


def test_log_mass_leaves_the_scores_alone() -> None:
    case = random_case(1, 3, 10)
    before = case.scores.clone()
    log_mass(case.scores, case.history)
    assert torch.equal(case.scores, before)


def test_depths_are_fractions_of_the_target_list() -> None:
    assert list_sizes(100, (0.5, 0.1)) == [50, 10]
    assert list_sizes(20, (0.5, 0.1)) == [10, 2]
    assert list_sizes(5, (0.5, 0.1)) == [2, 1]
    assert list_sizes(1, (1.0,)) == [1]


@pytest.mark.parametrize("depths", [(), (0.1, 0.5), (0.0,), (1.5,)])
def test_depths_that_make_no_sense_are_refused(depths: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="largest first"):
        fine_ranking_loss(*random_case(0, 2, 10), depths=depths, weights=(1.0,) * len(depths))


def test_depths_and_weights_of_different_number_are_refused() -> None:
    with pytest.raises(ValueError, match="as many weights"):
        fine_ranking_loss(*random_case(0, 2, 10), weights=(1.0,))
