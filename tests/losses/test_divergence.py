"""The divergences against loops in float64, and their limits: equal distributions, candidates that are not there."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_hetcomp.losses.divergence import (
    DIVERGENCES,
    divergence,
    kullback_leibler,
    layer_divergences,
    log_probabilities,
)


def kl(p: list[float], q: list[float]) -> float:
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q))


def by_hand(p: list[float], q: list[float], kind: str) -> float:
    mean = [(a + b) / 2 for a, b in zip(p, q)]
    return {"forward": kl(p, q), "reverse": kl(q, p), "js": (kl(p, mean) + kl(q, mean)) / 2}[kind]


def softmax(scores: list[float]) -> list[float]:
    masses = [math.exp(score) for score in scores]
    return [mass / math.fsum(masses) for mass in masses]


@given(seed=st.integers(0, 10**6), n=st.integers(1, 9), kind=st.sampled_from(DIVERGENCES))
def test_each_equals_a_loop_over_what_is_present(seed, n, kind) -> None:
    generator = torch.Generator().manual_seed(seed)
    p, q = (3 * torch.randn(4, n, generator=generator, dtype=torch.float64) for _ in range(2))
    present = torch.rand(4, n, generator=generator) < 0.7
    found = divergence(log_probabilities(p, present), log_probabilities(q, present), present, kind)
    for row in range(4):
        kept = present[row]
        expected = by_hand(softmax(p[row][kept].tolist()), softmax(q[row][kept].tolist()), kind) if kept.any() else 0.0
        assert found[row].item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_equal_distributions_are_at_no_distance_and_others_are(kind) -> None:
    scores, present = torch.randn(5, 7, dtype=torch.float64), torch.ones(5, 7, dtype=torch.bool)
    log_p = log_probabilities(scores, present)
    shifted = log_probabilities(scores + 3, present)  # the same distribution
    assert divergence(log_p, shifted, present, kind).abs().max() < 1e-12
    other = log_probabilities(scores.flip(1), present)
    assert (divergence(log_p, other, present, kind) > 1e-3).all()


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_what_is_not_present_gets_no_gradient_and_no_row_is_nan(kind) -> None:
    present = torch.tensor([[True, True, False], [False, False, False], [True, False, False]])
    scores = torch.tensor([[50.0, -50.0, 1e30]] * 3, requires_grad=True)
    other = log_probabilities(torch.tensor([[-50.0, 50.0, 0.0]] * 3), present)
    divergence(other, log_probabilities(scores, present), present, kind).sum().backward()
    assert scores.grad.isfinite().all()
    assert not scores.grad[~present].any()


def test_the_js_divergence_is_symmetric_and_at_most_log_2() -> None:
    present = torch.ones(6, 5, dtype=torch.bool)
    p, q = (log_probabilities(20 * torch.randn(6, 5, dtype=torch.float64), present) for _ in range(2))
    forth, back = divergence(p, q, present, "js"), divergence(q, p, present, "js")
    torch.testing.assert_close(forth, back)
    assert (forth <= math.log(2) + 1e-12).all()
    assert (kullback_leibler(p, q, present) >= 0).all()


@pytest.mark.parametrize("kind", ["forward", "reverse"])
def test_divergences_of_layers_equal_a_loop_over_valid_positions(kind) -> None:
    student, teacher = torch.randn(3, 4, 5, 6, dtype=torch.float64), torch.randn(2, 4, 5, 6, dtype=torch.float64)
    valid = torch.arange(5) < torch.tensor([1, 5, 3, 2])[:, None]
    found = layer_divergences([*student], [*teacher], valid, kind)
    assert found.shape == (3, 2)
    for i, one in enumerate(student):
        for j, other in enumerate(teacher):
            parts = []
            for place in valid.nonzero().tolist():
                q, p = (layer[tuple(place)].softmax(0).tolist() for layer in (one, other))
                p, q = (p, q) if kind == "forward" else (q, p)
                parts.append(math.fsum(a * math.log(a / b) for a, b in zip(p, q)))
            assert found[i, j].item() == pytest.approx(math.fsum(parts) / len(parts), rel=1e-4)
    same = layer_divergences([*student], [*student], valid, kind)
    torch.testing.assert_close(same.diagonal(), torch.zeros(3), atol=1e-6, rtol=0)
