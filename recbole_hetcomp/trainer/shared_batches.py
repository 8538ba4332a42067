"""One batch, several processes: each takes its share of the users, and the gradients add up to that of the whole batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.trainer.parallel import rank, total, world_size


def loss_of_all(model: DistilledRecommender) -> Callable[[Interaction], Tensor | tuple[Tensor, Tensor]]:
    """The model's loss over whole batches, as RecBole's Trainer asks for it; each process works on its part of them.

    Args:
        model: trains on batches of users, so it has no base loss
    """
    if world_size() == 1:
        return model.calculate_loss
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def loss(batch: Interaction) -> Tensor:
        summed = total(part_of_loss(model, batch, rank(), world_size()))
        value, *gradients = summed.split([1, *(parameter.numel() for parameter in parameters)])
        shaped = [gradient.view_as(parameter) for gradient, parameter in zip(gradients, parameters)]
        return _KnownGradient.apply(value.squeeze(0), shaped, *parameters)

    return loss


def part_of_loss(model: DistilledRecommender, batch: Interaction, rank: int, world_size: int) -> Tensor:
    """[1 + P]: one process's part of the loss over a batch of users and of its gradient by all P trained numbers.

    The sum over the ranks is the loss of the whole batch, and its gradient. A rank without a user gives zeros.

    Args:
        model: its loss is a mean over users, or, where `sums_over_users`, a sum
        batch: [B] users
        rank: the part is every `world_size`-th user from this one on
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    part = batch[rank::world_size]
    if not len(part):
        return torch.zeros(1 + sum(parameter.numel() for parameter in parameters), device=parameters[0].device)
    weight = model.distillation_weight * (1.0 if model.sums_over_users else len(part) / len(batch))
    loss = weight * model.loss_of(part)
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    rows = [torch.zeros_like(own) if gradient is None else gradient for gradient, own in zip(gradients, parameters)]
    return torch.cat([loss.detach().reshape(1), *(row.reshape(-1) for row in rows)])


class _KnownGradient(torch.autograd.Function):
    """A number whose gradient by `parameters` has been found already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *(weight * gradient for gradient in ctx.gradients))
