"""The streamed log-mass and losses equal the plain ones, gradients too, whatever the block."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recbole_hetcomp.losses import Dense, Vectors, fine_ranking_loss, overall_ranking_loss
from recbole_hetcomp.losses import log_mass as plain_log_mass
from recbole_hetcomp.losses.streaming import _Places, log_mass, squared_distance_vectors

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def problem(dtype: torch.dtype, n_items: int = 67, n_users: int = 9, size: int = 5, seed: int = 0) -> tuple[Tensor, ...]:
    """Vectors, and lists as a run has them: targets outside the history, padded, one user without anything."""
    generator = torch.Generator().manual_seed(seed)
    users = torch.randn(n_users, size, generator=generator, dtype=dtype)
    items = torch.randn(n_items, size, generator=generator, dtype=dtype)
    order = torch.stack([torch.randperm(n_items - 1, generator=generator) + 1 for _ in range(n_users)])
    history, targets = order[:, :7].clone(), order[:, 7:27].clone()
    history[::2, 4:], targets[1, 12:], targets[2] = 0, 0, 0
    return users.requires_grad_(), items.requires_grad_(), targets, history[:, :3].clone(), history


def gradients(loss: Tensor, *tensors: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss.sum(), tensors, retain_graph=True))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("stored_bytes", [0, 2**21])
@pytest.mark.parametrize("block_bytes", [1, 8 * 9 * 10, 2**21])
def test_log_mass_equals_the_plain_one(dtype: torch.dtype, block_bytes: int, stored_bytes: int) -> None:
    users, items, targets, _, history = problem(dtype)
    excluded = torch.cat([history, targets], 1)
    streamed = log_mass(users, items, excluded, block_bytes=block_bytes, stored_bytes=stored_bytes)
    plain = plain_log_mass(users @ items.T, excluded)
    torch.testing.assert_close(streamed, plain, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    weight = torch.linspace(-1, 2, len(users), dtype=dtype)
    for ours, theirs in zip(gradients(streamed * weight, users, items), gradients(plain * weight, users, items)):
        torch.testing.assert_close(ours, theirs, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("stored_bytes", [0, 2**21])
def test_gradients_agree_with_finite_differences(stored_bytes: int) -> None:
    users, items, _, _, history = problem(torch.float64, n_items=40, n_users=3)
    sizes = {"block_bytes": 8 * 3 * 7, "stored_bytes": stored_bytes}
    assert torch.autograd.gradcheck(lambda u, v: log_mass(u, v, history, **sizes), (users, items))


def stored_bytes_of(mass: Tensor) -> int:
    return sum(block.nbytes for block in mass.grad_fn.saved_tensors[4:])  # type: ignore[union-attr]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_blocks_are_kept_within_the_budget_alone_and_change_no_bit(dtype: torch.dtype) -> None:
    users, items, _, _, history = problem(dtype)
    whole = users.element_size() * users.size(0) * items.size(0)
    masses = [log_mass(users, items, history, block_bytes=whole // 7, stored_bytes=kept) for kept in (whole - 1, whole)]
    assert [stored_bytes_of(mass) for mass in masses] == [0, whole]
    assert torch.equal(*masses)
    assert all(torch.equal(*pair) for pair in zip(*(gradients(mass, users, items) for mass in masses)))


def test_a_single_block_beyond_the_budget_is_not_kept() -> None:
    users, items, _, _, history = problem(torch.float32)
    assert stored_bytes_of(log_mass(users, items, history, stored_bytes=0)) == 0


def test_memory_is_taken_over_from_a_batch_that_is_gone_and_from_no_other() -> None:
    users, items, _, _, history = problem(torch.float32)
    expected = gradients(plain_log_mass(users @ items.T, history), users, items)
    others = (users * 3).detach().requires_grad_()
    first = log_mass(users, items, history)
    second = log_mass(others, items, history)  # lives at the same time
    assert not {block.data_ptr() for block in first.grad_fn.saved_tensors[4:]} & {
        block.data_ptr() for block in second.grad_fn.saved_tensors[4:]
    }
    for _ in range(2):  # again after a backward pass that leaves the graph
        for ours, theirs in zip(gradients(first, users, items), expected):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    place = second.grad_fn.saved_tensors[4].data_ptr()
    del first, second
    third = log_mass(users, items, history)
    assert third.grad_fn.saved_tensors[4].data_ptr() == place
    for ours, theirs in zip(gradients(third, users, items), expected):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("distance", [False, True])
@pytest.mark.parametrize(
    ("depths", "weights"), [((0.5, 0.1), (0.5, 0.5)), ((1.0,), (1.0,)), ((1.0, 0.5, 0.1), (0.2, 0.3, 0.5))]
)
def test_losses_equal_the_plain_ones(dtype: torch.dtype, distance: bool, depths: tuple, weights: tuple) -> None:
    users, items, *lists = problem(dtype)
    if distance:
        vectors, scores = squared_distance_vectors(users, items, 3.0), -3.0 * torch.cdist(users, items).square()
    else:
        vectors, scores = Vectors(users, items), users @ items.T
    pairs = [
        (overall_ranking_loss(vectors, *lists), overall_ranking_loss(Dense(scores), *lists)),
        (
            fine_ranking_loss(vectors, *lists, depths=depths, weights=weights),
            fine_ranking_loss(Dense(scores), *lists, depths=depths, weights=weights),
        ),
    ]
    for streamed, plain in pairs:
        tolerance = TOLERANCE[dtype] * (20 if distance else 1)  # cdist's own rounding
        torch.testing.assert_close(streamed, plain, rtol=tolerance, atol=tolerance)
        ours, theirs = gradients(streamed, users, items), gradients(plain, users, items)
        for mine, reference in zip(ours, theirs):
            torch.testing.assert_close(mine, reference, rtol=20 * tolerance, atol=20 * tolerance)


def test_nothing_left_is_minus_infinity_without_a_gradient() -> None:
    users, items = (torch.randn(n, 5, dtype=torch.float64, requires_grad=True) for n in (2, 4))
    everything = torch.tensor([[1, 2, 3], [1, 2, 0]])
    mass = log_mass(users, items, everything, block_bytes=16, stored_bytes=0)
    assert mass[0] == -torch.inf
    torch.testing.assert_close(mass[1], users[1] @ items[3])
    (of_users,) = torch.autograd.grad(mass[1] + 0.0 * mass[0].clamp(min=-1), users)
    assert of_users.isfinite().all()


def test_padding_and_excluded_items_get_no_gradient() -> None:
    users, items, targets, _, history = problem(torch.float64)
    users_with_history = users[1:2]
    (of_items,) = gradients(log_mass(users_with_history, items, history[1:2]), items)
    assert not of_items[0].any()
    assert not of_items[history[1]].any()
    assert of_items[targets[1, :5]].any(1).all()


@pytest.mark.parametrize("stored_bytes", [0, 2**21])
def test_extreme_scores_stay_finite(stored_bytes: int) -> None:
    users, items, _, _, history = problem(torch.float32)
    large = (users * 80).detach().requires_grad_()
    mass = log_mass(large, items, history, block_bytes=200, stored_bytes=stored_bytes)
    torch.testing.assert_close(mass, plain_log_mass(large @ items.T, history), rtol=1e-5, atol=1e-3)
    assert all(gradient.isfinite().all() for gradient in gradients(mass, large, items))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("block_bytes", "stored_bytes"), [(400, 0), (400, 2**21), (2**21, 0)])
@pytest.mark.parametrize("outlier", [-900.0, 900.0])
@pytest.mark.parametrize("left_out", [False, True])
def test_one_score_far_from_all_others_costs_no_precision__in_the_catalogue_or_left_out(
    dtype: torch.dtype, block_bytes: int, stored_bytes: int, outlier: float, left_out: bool
) -> None:
    users, items, targets, _, history = problem(dtype, n_items=700)
    for item in (1, 350, 699):  # among the items that the row's largest score is guessed from, and not
        scores = torch.cat([items.detach(), torch.zeros(700, 1, dtype=dtype)], 1)
        scores[item, -1] = outlier
        rows = torch.cat([users.detach(), torch.ones(9, 1, dtype=dtype)], 1).requires_grad_()
        columns = scores.requires_grad_()
        excluded = torch.cat([history, targets, torch.full((9, 1), item if left_out else 0)], 1)
        excluded = excluded.where((excluded != item) | left_out, 0)
        streamed, plain = (
            log_mass(rows, columns, excluded, block_bytes=block_bytes, stored_bytes=stored_bytes),
            plain_log_mass(rows @ columns.T, excluded),
        )
        torch.testing.assert_close(streamed, plain, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
        for ours, theirs in zip(gradients(streamed, rows, columns), gradients(plain, rows, columns)):
            torch.testing.assert_close(
                ours, theirs, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * max(1, abs(outlier) / 90)
            )


def test_half_precision_vectors_accumulate_in_float32() -> None:
    users, items, _, _, history = problem(torch.float32)
    low = log_mass(users.bfloat16(), items.bfloat16(), history)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, log_mass(users.bfloat16().float(), items.bfloat16().float(), history))


@pytest.mark.parametrize("sizes", [{"block_bytes": 400}, {"block_bytes": 400, "stored_bytes": 0}, {}])
def test_autocast_changes_nothing(sizes: dict[str, int]) -> None:
    users, items, _, _, history = problem(torch.float32)
    plain = log_mass(users, items, history, **sizes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = log_mass(users, items, history, **sizes)
        found = gradients(cast, users, items)
    assert torch.equal(cast, plain)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, gradients(plain, users, items)))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_score_that_is_no_number_is_not_hidden(value: float) -> None:
    users, items, targets, observed, history = problem(torch.float32)
    spoilt = items.detach().clone()
    spoilt[60] = value
    lists = [part * (part != 60) for part in (targets, observed, history)]
    for scores in (Vectors(users, spoilt), Dense(users @ spoilt.T)):
        assert not overall_ranking_loss(scores, *lists).isfinite().all()


def test_gradients_do_not_depend_on_the_threads() -> None:
    """The same bits every time, with several threads at work: an interrupted training must end as an uninterrupted one."""
    users, items, targets, observed, history = problem(torch.float32, n_items=2000, n_users=200, size=8)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        runs = [
            gradients(fine_ranking_loss(Vectors(users, items), targets, observed, history), users, items) for _ in range(9)
        ]
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(ours, first) for run in runs for ours, first in zip(run, runs[0]))


@pytest.mark.parametrize("value", [0.0, -torch.inf])
@pytest.mark.parametrize("width", [1, 7, 67])
def test_a_device_that_nobody_waits_for_leaves_out_the_same_pairs(value: float, width: int) -> None:
    excluded = torch.cat(problem(torch.float32)[2:], 1)
    edges = [*range(0, 67, width), 67]
    ways = [_Places(excluded, edges, gather=gather) for gather in (True, False)]
    for blocks in zip(*(places.blocks for places in ways)):
        values = [torch.linspace(1, 2, 9 * (blocks[0][1] - blocks[0][0])).view(-1, 9) for _ in ways]
        for places, filled, block in zip(ways, values, blocks):
            filled.copy_(places.filled(filled.clone(), block, value))
        assert torch.equal(*values)
