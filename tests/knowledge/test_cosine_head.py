"""The map that keeps cosines: its loss against loops, what it leaves alone, what fitting adds to principal directions."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import ortho_group
from torch import Tensor
from torch.nn.functional import normalize

from recbole_hetcomp.knowledge.cosine_head import TEMPERATURES, augmented, fit_head, head_loss, log_joint
from recbole_hetcomp.knowledge.principal import principal_directions

FIT = {"n_points": 120, "learning_rate": 0.01, "cross_weight": 1.0}


def cloud(n: int, size: int, rank: int, seed: int = 0) -> Tensor:
    """[n, size] float64 points of a subspace of `rank` dimensions, in each of which they spread differently."""
    generator = torch.Generator().manual_seed(seed)
    factors = torch.randn(n, rank, generator=generator, dtype=torch.float64) * torch.linspace(1, 0.5, rank)
    return factors @ torch.randn(rank, size, generator=generator, dtype=torch.float64)


def with_norms(seed: int) -> tuple[Tensor, Tensor]:
    """Users [60, 12] and items [300, 12] whose lengths are log-normal."""
    users, items = cloud(60, 12, 12, seed), normalize(cloud(300, 12, 12, seed + 1), dim=1)
    lengths = (0.7 * torch.randn(300, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).exp()
    return users, items * lengths


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_the_joint_distribution_equals_a_loop() -> None:
    cosines = torch.rand(7, 7, generator=generator(), dtype=torch.float64)
    for temperature in (0.03, 0.1):
        joint = log_joint(cosines, torch.tensor([0.05, temperature], dtype=torch.float64))[1].exp()
        rows = [[math.exp(float(cosines[a, b]) / temperature) if a != b else 0.0 for b in range(7)] for a in range(7)]
        shares = [[value / math.fsum(row) for value in row] for row in rows]
        expected = [[(shares[a][b] + shares[b][a]) / 14 for b in range(7)] for a in range(7)]
        assert torch.allclose(joint, torch.tensor(expected, dtype=torch.float64), atol=1e-12)
        assert joint.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_equals_a_loop(weighted) -> None:
    """Weights are factors of the probabilities of both sides, which sum to 1 again."""
    points, mapped = cloud(6, 5, 5), cloud(6, 3, 3, seed=1)
    weights = torch.rand(6, 6, generator=generator(), dtype=torch.float64) if weighted else torch.ones(6, 6)
    total = 0.0
    for temperature in TEMPERATURES:
        alone = torch.tensor([temperature], dtype=torch.float64)
        p, q = (log_joint(normalize(rows) @ normalize(rows).T, alone)[0].exp() * weights for rows in (points, mapped))
        p, q = p / p.sum(), q / q.sum()
        pairs = [(a, b) for a in range(6) for b in range(6) if a != b]
        total += math.fsum(float(p[a, b]) * math.log(float(p[a, b] / q[a, b])) for a, b in pairs) / 10
    assert len(TEMPERATURES) == 10
    assert head_loss(points, mapped, weights if weighted else None).item() == pytest.approx(total, rel=1e-9)
    assert head_loss(points, mapped, 7 * weights).item() == pytest.approx(total, rel=1e-9)


def crossed(n_users: int, n: int, weight: float, own: float = 1.0) -> Tensor:
    """[n, n]: `weight` for pairs of a user and an item, `own` for pairs of a kind."""
    kind = torch.arange(n) < n_users
    return torch.where(kind[:, None] != kind, weight, own).double()


WEIGHTS = [0.0, 0.1, 0.5, 1.0, 2.0, 20.0]


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("seed", range(5))
def test_whatever_pairs_weigh_the_loss_is_a_divergence(weight, seed) -> None:
    """At least 0 for any map, and 0 where nothing has changed."""
    points, weights = cloud(30, 6, 6, seed), crossed(12, 30, weight)
    for other in range(20):
        assert head_loss(points, cloud(30, 3, 3, seed=100 + other), weights).item() > 1e-3
        own = cloud(30, 6, 6, seed) + 0.05 * cloud(30, 6, 6, seed=200 + other)
        assert head_loss(points, own, weights).item() > -1e-12
    assert abs(head_loss(points, points, weights).item()) < 1e-12


@pytest.mark.parametrize("weight", WEIGHTS)
def test_whatever_pairs_weigh_a_fit_leaves_cosines_that_are_kept_already(weight) -> None:
    users, items = cloud(70, 14, 5).split((30, 40))
    points = normalize(torch.cat([users, items]), dim=1)
    head = fit_head(users, items, 5, generator(), steps=100, **{**FIT, "learning_rate": 0.005, "cross_weight": weight})
    mapped = normalize(points @ head, dim=1)
    assert torch.allclose(mapped @ mapped.T, points @ points.T, atol=1e-4)


def test_principal_directions_are_those_of_the_singular_vectors() -> None:
    points = cloud(40, 9, 9)
    directions = principal_directions(points, 4)
    assert torch.allclose(directions.T @ directions, torch.eye(4, dtype=torch.float64), atol=1e-10)
    left = (points - points @ directions @ directions.T).square().sum()
    assert left.item() == pytest.approx(torch.linalg.svdvals(points)[4:].square().sum().item())
    assert principal_directions(points, 20).shape == (9, 9)


@pytest.mark.parametrize("mips", [False, True])
def test_where_the_points_have_no_more_dimensions_every_cosine_is_kept(mips) -> None:
    """The dimension that `augmented` adds counts as one: rank r needs r + 1 numbers a vector then."""
    users, items = cloud(70, 14, 5).split((30, 40))
    size = 6 if mips else 5
    if mips:
        users, items = augmented(users, items)
    points = normalize(torch.cat([users, items]), dim=1)
    for steps, rounding in ((0, 1e-8), (40, 1e-6)):  # Adam makes steps of rounding errors too
        head = fit_head(users, items, size, generator(), steps=steps, **{**FIT, "learning_rate": 1e-3})
        assert head_loss(points, points @ head).item() < rounding
        span = principal_directions(points, size)
        gram = span.T @ head @ head.T @ span
        assert torch.allclose(gram / gram[0, 0], torch.eye(size, dtype=torch.float64), atol=10 * rounding**0.5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_with_fewer_dimensions_the_fitted_map_is_better_than_principal_directions(seed) -> None:
    users, items = cloud(120, 12, 8, seed).split((50, 70))
    points = torch.cat([users, items])
    first, fitted = (fit_head(users, items, 4, generator(), steps=steps, **FIT) for steps in (0, 150))
    assert head_loss(points, points @ fitted) < 0.97 * head_loss(points, points @ first)


def test_the_loss_knows_no_rotation_and_no_length() -> None:
    points, mapped = cloud(30, 8, 8), cloud(30, 4, 4, seed=1)
    rotation = torch.from_numpy(ortho_group.rvs(8, random_state=1))
    lengths = torch.rand(30, 1, generator=generator(), dtype=torch.float64) + 0.1
    expected = head_loss(points, mapped).item()
    assert head_loss(points @ rotation, mapped).item() == pytest.approx(expected, rel=1e-9)
    assert head_loss(points * lengths, mapped).item() == pytest.approx(expected, rel=1e-9)
    assert head_loss(points, mapped * lengths).item() == pytest.approx(expected, rel=1e-9)


def test_cosines_with_augmented_items_rank_as_inner_products_do() -> None:
    users, items = with_norms(0)
    products = users @ items.T
    longer_users, longer_items = augmented(users, items)
    cosines = normalize(longer_users, dim=1) @ normalize(longer_items, dim=1).T
    assert torch.equal(cosines.argsort(dim=1), products.argsort(dim=1))
    plain = users @ normalize(items, dim=1).T
    assert not torch.equal(plain.argsort(dim=1), products.argsort(dim=1))


@pytest.mark.parametrize("seed", [0, 10, 20])
def test_after_the_map_augmented_items_keep_more_of_the_best_fifty(seed) -> None:
    users, items = with_norms(seed)
    best = (users @ items.T).topk(50).indices

    def overlap(users: Tensor, items: Tensor) -> float:
        head = fit_head(users, items, 8, generator(), steps=60, **FIT)
        mapped = normalize(users @ head, dim=1) @ normalize(items @ head, dim=1).T
        found = mapped.topk(50).indices
        return float((found[:, :, None] == best[:, None]).any(2).double().mean())

    assert overlap(*augmented(users, items)) > overlap(users, items) + 0.05


def test_pairs_of_both_kinds_may_weigh_more() -> None:
    """Heavier in the fit, their own divergence is smaller; that of the pairs of a kind is not."""
    users, items = cloud(90, 12, 8).split((40, 50))
    points = torch.cat([users, items])
    fitted = [fit_head(users, items, 3, generator(), steps=150, **{**FIT, "cross_weight": w}) for w in (1.0, 20.0)]
    of_crossed, of_a_kind = (
        [head_loss(points, points @ head, crossed(40, 90, *weights)).item() for head in fitted]
        for weights in ((1.0, 0.0), (0.0, 1.0))
    )
    assert of_crossed[1] < 0.97 * of_crossed[0]
    assert of_a_kind[1] > of_a_kind[0]
