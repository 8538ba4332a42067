"""DE: its loss against a loop, one expert against FitNet's projector, the gate's annealing, and what training does."""

from __future__ import annotations

import pytest
import torch

from recbole_hetcomp.model import projectors
from recbole_hetcomp.model.projectors import Experts, annealed, gumbel_softmax, projector


def test_a_mixture_of_experts_equals_a_loop(monkeypatch) -> None:
    monkeypatch.setattr(projectors, "ROWS_IN_CACHE", 3)  # 7 rows in three parts
    torch.manual_seed(1)
    experts = Experts(4, 6, 3).double()
    rows, weights = torch.randn(7, 4).double(), torch.rand(7, 3).double()
    mixed = torch.zeros(7, 6, dtype=torch.float64)
    for n, row in enumerate(rows):
        for e in range(3):
            hidden = (row @ experts.first[e] + experts.first_bias[e]).relu()
            mixed[n] += weights[n, e] * (hidden @ experts.second[e] + experts.second_bias[e])
    assert torch.allclose(experts(rows, weights), mixed)
    assert experts(rows[:0], weights[:0]).shape == (0, 6)


def test_the_loss_is_the_mean_distance_of_the_gated_mixture(learnt, batch) -> None:
    model = learnt("DEStudent", n_experts=3)
    model.generator.manual_seed(5)
    loss = model.distillation_loss(batch).item()
    model.generator.manual_seed(5)
    total = 0.0
    for side in model.sides(batch):
        experts = model.auxiliary[side.name]
        chances = (side.teacher @ experts.gate.weight.T).softmax(1)
        weights = gumbel_softmax(chances.log(), 1.0, model.generator)
        for row, weight, target in zip(side.student, weights, side.teacher):
            total += float(((experts(row[None], weight[None])[0] - target) ** 2).sum()) / len(side.ids)
    assert loss == pytest.approx(total, rel=1e-4)


def test_one_expert_is_fitnets_projector(learnt, batch) -> None:
    model, fitnet = learnt("DEStudent", n_experts=1), learnt("FitNetStudent")
    for name, experts in model.auxiliary.items():
        own = projector(4, 8, 6 / 4)
        weights = (experts.first[0].T, experts.first_bias[0], experts.second[0].T, experts.second_bias[0])
        own.load_state_dict(dict(zip(own.state_dict(), weights)))
        fitnet.auxiliary[name] = own
    assert model.distillation_loss(batch).item() == pytest.approx(fitnet.distillation_loss(batch).item(), rel=1e-5)


def test_the_gate_is_annealed_from_a_mixture_to_a_choice(learnt, batch) -> None:
    model = learnt("DEStudent", n_experts=4, annealing_epochs=10)
    assert annealed(1.0, 0.01, 5, 10) == pytest.approx(0.1)
    assert model.temperature == 1.0
    model.on_epoch_start(12)
    assert model.temperature == pytest.approx(1e-10)
    logits = torch.randn(50, 4, requires_grad=True)
    chosen = gumbel_softmax(logits, model.temperature, model.generator)
    assert torch.equal(chosen.max(1).values, torch.ones(50))
    model.distillation_loss(batch).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_both_the_student_and_the_gate_learn_and_the_teacher_does_not(learnt, batch) -> None:
    model = learnt("DEStudent", n_experts=3)
    model.distillation_loss(batch).backward()
    assert model.backbone.user_embedding.weight.grad.any()
    assert model.auxiliary["item"].gate.weight.grad.any()
    assert not any(rows.requires_grad for rows in model.teacher.values())


def test_training_puts_the_teachers_vectors_into_the_students(after_training, missed) -> None:
    plain, distilled = (missed(after_training("DEStudent", weight, n_experts=3)) for weight in (0.0, 10.0))
    assert distilled < 0.7 * plain


@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.03, 1e-10])
def test_no_weight_is_too_small_to_be_a_normal_number(temperature) -> None:
    logits = torch.randn(50, 30, generator=torch.Generator().manual_seed(3)).mul(5).log_softmax(1).requires_grad_()
    weights = gumbel_softmax(logits, temperature, torch.Generator().manual_seed(4))
    noise = projectors.gumbel((50, 30), torch.Generator().manual_seed(4))
    exact = ((logits + noise).double() / temperature).softmax(1)
    assert weights.min() >= 1e-20  # products with it are normal numbers, too
    torch.testing.assert_close(weights.double(), exact, rtol=1e-4, atol=1e-16)
    factors = torch.randn(30, generator=torch.Generator().manual_seed(5))
    gradients = [torch.autograd.grad((w * factors).sum(), logits)[0] for w in (weights, exact)]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5 / temperature)
