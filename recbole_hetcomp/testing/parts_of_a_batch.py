"""Whether several processes may share a method's batches: its loss over a batch is its users' parts, or it is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from torch import Tensor

from recbole_hetcomp.config import Config
from recbole_hetcomp.data.split import Split
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.teacher_training.scheduling import build_pool
from recbole_hetcomp.testing.fixtures import ToyFixtures
from recbole_hetcomp.trainer.shared_batches import part_of_loss

USERS_ALONE: dict[str, Any] = {"base_loss_weight": 0.0, "user_batches": True}  # what several processes ask for


class PartsOfABatch(ToyFixtures):
    """Holds `method` to what its `user_by_user` says.

    Attributes:
        method: the name of its class
        variants: settings under which its loss takes other ways; each is tried
    """

    method: ClassVar[str]
    variants: ClassVar[Sequence[Mapping[str, Any]]] = ({},)

    def test_what_it_trains_apart_is_said_by_its_class(
        self, make_model: Callable[..., AbstractRecommender], make_config: Callable[..., Config], split: Split
    ) -> None:
        """Several processes are refused by it before any teacher is trained."""
        model = make_model(self.method)
        model.learn_from(build_pool(make_config("HetCompStudent", teachers=["BPR"]), split))
        assert bool(list(model.apart.parameters())) == bool(model.trained_apart(model.config))

    def test_the_parts_of_a_batch_add_up_to_the_whole_where_its_class_says_so(
        self, make_config: Callable[..., Config], make_model: Callable[..., AbstractRecommender], split: Split
    ) -> None:
        """In loss and gradient, with draws that begin alike; `user_by_user` is True if and only if they do."""
        pool = build_pool(make_config("HetCompStudent", teachers=["BPR", "LightGCN"]), split)
        for variant in self.variants:
            model = make_model(self.method, **USERS_ALONE, **variant)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(10)  # vectors that are not tiny
            model.learn_from(pool)
            for epoch in range(6):
                model.on_epoch_start(epoch)
            whole, parts = _whole_and_parts(_in_double_precision(model))
            assert whole[0] > 1e-4, f"{variant}: no loss to share"
            adds_up = torch.allclose(parts, whole, rtol=1e-6, atol=1e-9)
            said = not model.not_user_by_user(model.config)
            assert adds_up == said, f"{variant}: the parts add up: {adds_up}; by user_by_user: {said}"


def _whole_and_parts(model: DistilledRecommender) -> tuple[Tensor, Tensor]:
    """Loss and gradient of a batch, and the sum of two processes' parts of them."""

    def part(rank: int, world_size: int) -> Tensor:
        model.generator.manual_seed(5)
        return part_of_loss(model, Interaction({model.USER_ID: model.history.active_users[2:23]}), rank, world_size)

    return part(0, 1), part(0, 2) + part(1, 2)


def _in_double_precision(model: DistilledRecommender) -> DistilledRecommender:
    """The model, and every table of numbers that it has taken from its teachers."""
    for part in (model, *getattr(model, "parts", {}).values()):
        part.double()
        for name, value in vars(part).items():
            if isinstance(value, Tensor) and value.dtype == torch.float32:
                setattr(part, name, value.double())
            if isinstance(value, dict):
                value.update({k: v.double() for k, v in value.items() if isinstance(v, Tensor) and v.is_floating_point()})
    return model
