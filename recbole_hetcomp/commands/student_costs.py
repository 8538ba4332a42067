"""What students of some shape cost, and what they may cost at most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from recbole_hetcomp.commands.student_models import UntrainedStudents
from recbole_hetcomp.commands.student_space import Shape, Space
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.evaluation.efficiency import n_parameters, ranking_milliseconds

ENUMERATED = 300  # shapes of a space that is looked through; of a larger one as many are scored
CALIBRATION = 32  # random shapes by which the two distances are scaled


@dataclass(frozen=True)
class Budget:
    """What a student may cost.

    Attributes:
        parameters: at most; None = any number
        milliseconds: to rank all items for 1,000 users on this machine, at most; None = any time
    """

    parameters: int | None = None
    milliseconds: float | None = None

    def __post_init__(self) -> None:
        for flag, value in (("max_parameters", self.parameters), ("max_milliseconds", self.milliseconds)):
            if value is not None and not value > 0:  # NaN is not either
                raise UserError(f"{flag}: {value} must be above 0")

    def __str__(self) -> str:
        parts = [] if self.parameters is None else [f"at most {self.parameters:,} parameters"]
        parts += [] if self.milliseconds is None else [f"at most {self.milliseconds:g} ms for 1,000 users"]
        return ", ".join(parts)


class Cost(NamedTuple):
    """Of a shape that is within the budget; `milliseconds` where the budget is of these."""

    parameters: int
    milliseconds: float | None


class Costs:
    """Costs of shapes, each measured once.

    Args:
        students: makes them
        budget: what they may cost
    """

    def __init__(self, students: UntrainedStudents, budget: Budget) -> None:
        self.students, self.budget = students, budget
        self._known: dict[Shape, Cost | None] = {}

    def of(self, shape: Shape) -> Cost | None:
        """None for a shape beyond the budget.

        Raises:
            UserError: the shape makes no model.
        """
        if shape not in self._known:
            self._known[shape] = self._measured(shape)
        return self._known[shape]

    def _measured(self, shape: Shape) -> Cost | None:
        config, budget = self.students.config, self.budget
        model = self.students.plain(shape, int(config["seed"]))  # what is in its tables costs nothing
        parameters, milliseconds = n_parameters(model), None
        if budget.parameters is not None and parameters > budget.parameters:
            return None
        if budget.milliseconds is not None:
            history = self.students.split.history
            milliseconds = ranking_milliseconds(model, history, max_block_mb=config["max_block_mb"])
            if milliseconds > budget.milliseconds:
                return None
        return Cost(parameters, milliseconds)

    def calibration(self, shapes: Sequence[Shape], generator: torch.Generator) -> list[Shape]:
        """CALIBRATION of the shapes that are within the budget, in random order, or all where there are fewer.

        Raises:
            UserError: there is none.
        """
        found: list[Shape] = []
        for index in torch.randperm(len(shapes), generator=generator).tolist():
            found += [shapes[index]] if self.of(shapes[index]) is not None else []
            if len(found) == CALIBRATION:
                break
        if not found:
            raise UserError(
                f"search-student: no shape of the space has {self.budget}; raise the budget, or add smaller shapes (--space)"
            )
        return found

    def check(self, space: Space) -> None:
        """Make students of `space`, so that what is wrong with it is said before any long work.

        They are all of a space that is looked through, and of a larger one as many as name each value once.

        Raises:
            UserError: one cannot be made or has no vectors of users and items, or none is within the budget.
        """
        self.students.check_vectors(space)
        for shape in space.shapes() if space.size <= ENUMERATED else space.one_a_value():
            self.of(shape)
        self.calibration(space.shapes(), torch.Generator().manual_seed(int(self.students.config["seed"])))
