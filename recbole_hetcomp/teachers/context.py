"""Context-aware teachers: frozen models that are asked for the rows at hand, and their mean logit.

Source of the mean: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, https://arxiv.org/abs/1503.02531,
section 3, with the arithmetic mean of the logits in place of that of the probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from torch import Tensor

CLIP = 1e-6  # a probability nearer to 0 or 1 has no logit that a float32 can tell


class LogitsOf:
    """The logits of a model's predictions.

    RecBole's models return either logits or probabilities from `forward`. `predict` always gives probabilities, so the first
    batch tells which it is.

    Args:
        model: a context-aware model
    """

    def __init__(self, model: AbstractRecommender) -> None:
        self.model = model
        self._by_forward: bool | None = None

    def __call__(self, interaction: Interaction) -> Tensor:
        """[B] the logits of the rows, with gradients where they are wanted."""
        if self._by_forward is None:
            self._by_forward = self._gives_logits(interaction)
        if self._by_forward:
            return self.model(interaction).reshape(-1)
        chances = self.model.predict(interaction).reshape(-1)
        return torch.logit(chances.double().clamp(CLIP, 1 - CLIP)).to(chances.dtype)

    @torch.no_grad()
    def _gives_logits(self, interaction: Interaction) -> bool:
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        given, chances = (ask(interaction).reshape(-1) for ask in (self.model, self.model.predict))
        for module, training in modes:
            module.training = training
        alike = given.shape == chances.shape and not torch.equal(given, chances)
        return alike and torch.allclose(torch.sigmoid(given), chances, rtol=0, atol=1e-5)


@dataclass(frozen=True)
class ContextTeacher:
    """A trained context-aware model.

    Attributes:
        name: of the model
        model: in evaluation mode, on the device of the run
        folder: the name of the folder that it is kept in: what shaped it
    """

    name: str
    model: AbstractRecommender
    folder: str


class ContextTeachers:
    """Teachers of clicks, asked as one.

    Args:
        teachers: at least one
    """

    def __init__(self, teachers: Sequence[ContextTeacher]) -> None:
        self.teachers = list(teachers)
        self._logits_of = [LogitsOf(teacher.model) for teacher in self.teachers]

    def __deepcopy__(self, memo: object) -> ContextTeachers:
        """Itself, since nothing changes it: RecBole copies a model to count its operations."""
        return self

    @torch.no_grad()
    def logits(self, interaction: Interaction) -> Tensor:
        """[B] the mean of the teachers' logits for the rows, on their device, without gradients."""
        return torch.stack([ask(interaction) for ask in self._logits_of]).mean(0)
