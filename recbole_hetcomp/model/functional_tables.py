"""Tables that are functions while a student is trained, and ordinary tables in all that is saved and served."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.model.student import DistilledRecommender


class FunctionalTables(DistilledRecommender):
    """Trains a function in the place of a table of the backbone, by torch's parametrisations.

    Whatever reads the table's `weight` gets the function's value, so the base loss and all scores work as they are.
    """

    def make_functional(self, name: str, function: nn.Module) -> None:
        """Train `function` in the place of the backbone's table `name`.

        Raises:
            UserError: the table is a function already, of another method of a composite.
        """
        self.require_plain(name)
        parametrize.register_parametrization(self.backbone.get_submodule(name), "weight", function)

    def require_plain(self, name: str) -> None:
        """Raise a UserError where the backbone's table `name` is a function already."""
        if name in self.functional:
            raise UserError(f"methods: two of them train the student's {name} as functions of their own; leave one out")

    @property
    def functional(self) -> dict[str, nn.Embedding]:
        """The backbone's tables that are functions now, by name."""
        tables = ((name, module) for name, module in self.backbone.named_modules() if isinstance(module, nn.Embedding))
        return {name: table for name, table in tables if parametrize.is_parametrized(table, "weight")}

    def finish_training(self) -> None:
        """All tables become ordinary ones."""
        super().finish_training()
        for table in self.functional.values():
            parametrize.remove_parametrizations(table, "weight", leave_parametrized=True)

    def unfolded(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """`state` with the tables in place of what their functions consist of."""
        functional = self.functional
        if not functional:
            return state
        plain = {name: tensor for name, tensor in state.items() if ".parametrizations." not in name}
        tables = {f"backbone.{name}.weight": table.weight.detach().clone() for name, table in functional.items()}
        return {**plain, **tables}

    def load_served_state(self, state: Mapping[str, Tensor]) -> None:
        """Reads plain tables, so the functions are made such first."""
        self.finish_training()
        super().load_served_state(state)


class Folded(nn.Module):
    """A parametrisation of a student's item table [I, d] as T W^T, of which W [d, D] is what is trained.

    Args:
        table: [I, D], the teacher's items T; never changed
    """

    table: Tensor

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table, persistent=False)

    def forward(self, projection: Tensor) -> Tensor:
        """[d, D] -> [I, d]: T W^T."""
        return self.table @ projection.T

    def right_inverse(self, weight: Tensor) -> Tensor:
        """[d, D]: the W whose T W^T is nearest to the table that the student starts with."""
        table = self.table.double()
        return (torch.linalg.pinv(table.T @ table, hermitian=True) @ table.T @ weight.double()).T.to(weight).contiguous()


class Encoded(nn.Module):
    """A parametrisation of a table [n, d] as encoder(rows); of the table itself nothing is left to train.

    Args:
        encoder: [n, D] -> [n, d]
        rows: [n, D]; never changed
    """

    rows: Tensor

    def __init__(self, encoder: nn.Module, rows: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("rows", rows, persistent=False)

    def forward(self) -> Tensor:
        """[n, d]."""
        return self.encoder(self.rows)

    def right_inverse(self, weight: Tensor) -> tuple[()]:
        """What torch keeps of the table [n, d]: nothing."""
        return ()
