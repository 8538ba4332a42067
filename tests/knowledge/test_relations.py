"""DisWOT's grams: against loops and autograd, what they do not depend on, and what makes them differ."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from recbole_hetcomp.knowledge.relations import class_gradients, gram_distance, relation_gram, semantic_gram

B, N = 12, 7


def case(seed: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Users' vectors, items' vectors and each user's observed item; two users have none."""
    generator = torch.Generator().manual_seed(seed)
    users, items = (torch.randn(n, width, generator=generator, dtype=torch.float64) for n in (B, N))
    positives = torch.randint(N, (B,), generator=generator)
    positives[3] = positives[8] = -1
    return users, items, positives


def test_the_relations_equal_a_loop() -> None:
    users = case(0, 4)[0]
    rows = (users - users.mean(0)).tolist()
    for x, found in zip(rows, relation_gram(users).tolist()):
        products = [math.fsum(a * b for a, b in zip(x, y)) for y in rows]
        length = math.sqrt(math.fsum(product**2 for product in products))
        assert found == pytest.approx([product / length for product in products], rel=1e-9)


@given(st.integers(0, 10_000))
def test_the_class_gradients_are_those_of_the_cross_entropy_by_the_items_vectors(seed) -> None:
    users, items, positives = case(seed, 5)
    items.requires_grad_()
    known = positives >= 0
    loss = cross_entropy((users @ items.T)[known], positives[known])
    (expected,) = torch.autograd.grad(loss, items)
    torch.testing.assert_close(class_gradients(users @ items.T.detach(), users, positives), expected)


@given(st.integers(0, 10_000), st.sampled_from([0.3, 1.0, 20.0]))
def test_those_of_distances_are_the_gradients_by_the_items_points(seed, scale) -> None:
    """But for the factor of a squared distance, which no gram sees."""
    users, items, positives = case(seed, 5)
    items.requires_grad_()
    known, scores = positives >= 0, -scale * (users[:, None] - items).square().sum(2)
    (expected,) = torch.autograd.grad(cross_entropy(scores[known], positives[known]), items)
    found = class_gradients(scores.detach(), users, positives, items.detach())
    torch.testing.assert_close(2 * scale * found, expected, rtol=1e-10, atol=1e-13)


@given(st.integers(0, 10_000))
def test_the_gradient_of_the_semantic_distance_is_that_of_its_definition(seed) -> None:
    """Where the class gradients come from autograd, which is differentiated once more."""
    (users, items, positives), (other, others, _) = case(seed, 5), case(seed + 1, 3)
    known = positives >= 0
    taught = semantic_gram(other @ others.T, other, positives)
    for tensor in (users, items):
        tensor.requires_grad_()
    loss = cross_entropy((users @ items.T)[known], positives[known])
    (gradients,) = torch.autograd.grad(loss, items, create_graph=True)
    products = gradients @ gradients.T
    defined = (products / products.norm(dim=1, keepdim=True) - taught).square().sum() / N**2
    ours = gram_distance(semantic_gram(users @ items.T, users, positives), taught)
    torch.testing.assert_close(ours, defined)
    found, expected = (torch.autograd.grad(value, (users, items), retain_graph=True) for value in (ours, defined))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)


@given(st.integers(0, 10_000))
def test_equal_grams_have_distance_0_and_others_more(seed) -> None:
    """Rotated and scaled vectors have the same relations; others, of another width, do not."""
    users, items, positives = case(seed, 5)
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))).Q
    turned = 3 * users @ rotation + 2
    assert gram_distance(relation_gram(turned), relation_gram(users)).item() < 1e-20
    semantic = semantic_gram(users @ items.T, users, positives)
    assert gram_distance(semantic, semantic).item() == 0
    turned_gram = semantic_gram(users @ items.T, users @ rotation, positives)
    assert gram_distance(turned_gram, semantic).item() < 1e-20
    narrow = case(seed + 7, 2)[0]
    assert gram_distance(relation_gram(narrow), relation_gram(users)).item() > 1e-6
    assert gram_distance(semantic_gram(narrow @ items[:, :2].T, narrow, positives), semantic).item() > 1e-6


@given(st.integers(0, 10_000))
def test_the_order_of_the_batch_changes_nothing(seed) -> None:
    (users, items, positives), (other, others, _) = case(seed, 5), case(seed + 1, 3)
    order = torch.randperm(B, generator=torch.Generator().manual_seed(seed))

    def distances(order: torch.Tensor) -> list[torch.Tensor]:
        mine, theirs, wanted = users[order], other[order], positives[order]
        semantic = semantic_gram(mine @ items.T, mine, wanted), semantic_gram(theirs @ others.T, theirs, wanted)
        return [gram_distance(relation_gram(mine), relation_gram(theirs)), gram_distance(*semantic)]

    torch.testing.assert_close(distances(order), distances(torch.arange(B)), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("positives", [torch.full((B,), -1), torch.zeros(B, dtype=torch.int64)])
def test_users_without_an_observed_item_and_equal_users_break_nothing(positives) -> None:
    users = torch.ones(B, 3, requires_grad=True)
    items = torch.ones(N, 3)
    loss = (
        gram_distance(semantic_gram(users @ items.T, users, positives), torch.eye(N)) + relation_gram(users).square().sum()
    )
    loss.backward()
    assert loss.isfinite()
    assert users.grad.isfinite().all()
