"""The discrepancy: printed values, a loop written from the definition, and its invariances."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recbole_hetcomp.knowledge import RELEVANCES, discrepancy, position_weights
from recbole_hetcomp.knowledge.discrepancy import places_within

module = importlib.import_module("recbole_hetcomp.knowledge.discrepancy")  # the name is the function's


def slow_discrepancy(student: list[int], teacher: list[int], k: int, temperature: float, relevance: str) -> float:
    depth = min(k, len(student), len(teacher))
    student, teacher = student[:depth], [item for item in teacher[:depth] if item != 0]
    if not teacher:
        return 1.0
    reached = 0.0
    for position, item in enumerate(student):
        if item in teacher:
            rank = position if relevance == "position" else teacher.index(item)
            reached += (2 ** math.exp(-rank / temperature) - 1) / math.log2(position + 2)
    ideal = sum((2 ** math.exp(-rank / temperature) - 1) / math.log2(rank + 2) for rank in range(len(teacher)))
    return 1.0 - reached / ideal


def random_rankings(seed: int, n_users: int, width: int, n_items: int) -> Tensor:
    """[U, width]: different items in random order; every other list ends early, in zeros."""
    generator = torch.Generator().manual_seed(seed)
    items = torch.rand(n_users, n_items, generator=generator).argsort(1) + 1
    items = torch.nn.functional.pad(items, (0, width))[:, :width]
    length = torch.randint(0, width + 1, (n_users, 1), generator=generator)
    length[::2] = width
    return items.masked_fill(torch.arange(width) >= length, 0)


shapes = {
    "seed": st.integers(0, 10**6),
    "n_users": st.integers(1, 8),
    "width": st.integers(1, 12),
    "n_items": st.integers(1, 25),
    "relevance": st.sampled_from(RELEVANCES),
}


@pytest.mark.parametrize("shape", [(3, 0), (0, 4)])
def test_lists_without_a_place_and_no_lists_at_all(shape: tuple[int, int]) -> None:
    nothing = torch.zeros(shape, dtype=torch.int32)
    assert discrepancy(nothing, nothing).tolist() == [1.0] * shape[0]


def test_position_weights_are_the_published_constants() -> None:
    first = [1.0, 0.55038115, 0.38192676, 0.28903709, 0.2287948]
    assert position_weights(5).tolist() == pytest.approx(first, abs=5e-9)
    for k, total in {10: 3.12429706, 50: 3.79646263, 100: 3.80471558}.items():
        assert position_weights(k).sum().item() == pytest.approx(total, abs=5e-9)


@pytest.mark.parametrize(("relevance", "expected"), [("position", 0.43598044), ("graded", 0.41384294)])
def test_discrepancy_of_hits_at_the_first_and_third_position(relevance: str, expected: float) -> None:
    student, teacher = torch.tensor([[11, 90, 12, 91, 92]]), torch.tensor([[11, 12, 13, 14, 15]])
    found = discrepancy(student, teacher, k=5, relevance=relevance)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected, abs=5e-8)
    longer = torch.cat([teacher, student], 1)  # what stands below position k is not read
    assert discrepancy(student, longer, k=5, relevance=relevance).item() == pytest.approx(expected, abs=5e-8)


@settings(deadline=None)
@given(**shapes, other_width=st.integers(1, 12), k=st.integers(1, 15), temperature=st.floats(1.0, 30.0))
def test_discrepancy_equals_a_loop_over_the_definition(
    seed: int,
    n_users: int,
    width: int,
    n_items: int,
    relevance: str,
    other_width: int,
    k: int,
    temperature: float,
) -> None:
    student = random_rankings(seed, n_users, width, n_items)
    teacher = random_rankings(seed + 7, n_users, other_width, n_items)
    expected = [
        slow_discrepancy(mine, theirs, k, temperature, relevance) for mine, theirs in zip(student.tolist(), teacher.tolist())
    ]
    found = discrepancy(student.int(), teacher, k=k, temperature=temperature, relevance=relevance)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-6, atol=1e-6)
    assert ((found >= 0) & (found <= 1)).all()


@settings(deadline=None)
@given(**shapes)
def test_equal_lists_have_distance_zero_and_disjoint_ones_one(
    seed: int, n_users: int, width: int, n_items: int, relevance: str
) -> None:
    lists = random_rankings(seed, n_users, width, n_items)
    distance = discrepancy(lists, lists.clone(), relevance=relevance)
    assert distance.tolist() == [float(not row.any()) for row in lists]
    others = (lists + n_items).masked_fill(lists == 0, 0)
    assert (discrepancy(lists, others, relevance=relevance) == 1).all()


def test_only_the_graded_form_sees_the_teachers_order() -> None:
    teacher = torch.arange(1, 51)[None]
    student = teacher.flip(1)
    assert discrepancy(student, teacher).item() == 0.0
    assert discrepancy(student, teacher, relevance="graded").item() > 0.3


def test_item_zero_is_never_a_hit() -> None:
    student, teacher = torch.tensor([[0, 0, 5], [1, 2, 0]]), torch.tensor([[5, 0, 0], [3, 0, 0]])
    weights = position_weights(3)
    found = discrepancy(student, teacher, k=3)
    assert found.tolist() == pytest.approx([1 - (weights[2] / weights[0]).item(), 1.0], abs=1e-7)


@settings(deadline=None)
@given(**shapes)
def test_new_names_and_another_order_of_users_change_nothing(
    seed: int, n_users: int, width: int, n_items: int, relevance: str
) -> None:
    student = random_rankings(seed, n_users, width, n_items)
    teacher = random_rankings(seed + 7, n_users, width, n_items)
    distance = discrepancy(student, teacher, relevance=relevance)
    generator = torch.Generator().manual_seed(seed)
    names = torch.cat([torch.zeros(1, dtype=torch.long), torch.randperm(n_items, generator=generator) * 3 + 1])
    assert torch.equal(discrepancy(names[student], names[teacher], relevance=relevance), distance)
    order = torch.randperm(n_users, generator=generator)
    assert torch.equal(discrepancy(student[order], teacher[order], relevance=relevance), distance[order])
    halves = [discrepancy(student[half], teacher[half], relevance=relevance) for half in (slice(0, 3), slice(3, None))]
    assert torch.equal(torch.cat(halves), distance)


@pytest.fixture(params=["at once", "in blocks"])
def blocks(request, monkeypatch) -> None:
    """Whether lists are compared at once, or a few at a time in a table of two users."""
    if request.param == "in blocks":
        monkeypatch.setattr(module, "IDS", 3 * 3 * 10)
        monkeypatch.setattr(module, "TABLE", 2 * 21)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("relevance", RELEVANCES)
def test_several_teachers_at_once_equal_one_after_the_other_and_a_loop(relevance: str) -> None:
    student = random_rankings(1, 11, 12, 20)
    teachers = torch.stack([random_rankings(seed, 11, 12, 20) for seed in (2, 3, 4)])
    found = discrepancy(student, teachers, k=10, relevance=relevance)
    assert found.shape == (3, 11)
    for one, row in zip(teachers, found):
        assert torch.equal(row, discrepancy(student, one, k=10, relevance=relevance))
        expected = [slow_discrepancy(*pair, 10, 10.0, relevance) for pair in zip(student.tolist(), one.tolist())]
        torch.testing.assert_close(row, torch.tensor(expected), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("relevance", RELEVANCES)
def test_either_side_is_broadcast(relevance: str) -> None:
    lists = random_rankings(5, 4, 6, 9)
    for student, teacher in (
        (lists[:1], lists),
        (lists, lists[:1]),
        (lists[:1], lists[None]),
        (lists[None], lists[:, None]),
    ):
        shape = torch.broadcast_shapes(student.shape, teacher.shape)
        expected = discrepancy(
            student.expand(shape).reshape(-1, 6), teacher.expand(shape).reshape(-1, 6), relevance=relevance
        )
        found = discrepancy(student, teacher, relevance=relevance)
        assert found.shape == shape[:-1]
        assert torch.equal(found.flatten(), expected)


@pytest.mark.parametrize("length", [127, 128, 2**15 - 1, 2**15])
def test_lists_longer_than_a_small_integer_type_counts(length: int) -> None:
    lists = torch.arange(1, length + 1)[None]
    places = places_within(lists, lists.flip(1))
    assert places.tolist() == [list(range(length, 0, -1))]
    assert places.element_size() == next(size for size in (1, 2, 4) if length < 2 ** (8 * size - 1))
    assert discrepancy(lists, lists.flip(1), k=length).tolist() == [0.0]


def test_decimals_round_the_ndcg() -> None:
    student, teacher = torch.tensor([[11, 90, 12, 91, 92]]), torch.tensor([[11, 12, 13, 14, 15]])
    rounded = discrepancy(student, teacher, k=5, decimals=4).item()
    assert rounded == pytest.approx(0.4360, abs=1e-7)
    assert rounded != pytest.approx(discrepancy(student, teacher, k=5).item(), abs=1e-6)


def test_a_relevance_that_does_not_exist_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="position, graded"):
        discrepancy(torch.ones(1, 2), torch.ones(1, 2), relevance="binary")
