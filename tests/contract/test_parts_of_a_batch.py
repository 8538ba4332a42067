"""What several processes may share: either a method's loss over a batch is its users' parts, or it is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import get_model, properties_dir
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.trainer.processes import Processes
from recbole_hetcomp.trainer.shared_batches import part_of_loss

METHODS = [
    path.stem
    for path in sorted(properties_dir().glob("model/*.yaml"))
    if issubclass(get_model(path.stem), DistilledRecommender)  # type: ignore[arg-type]
]
USERS_ALONE: dict[str, Any] = {"base_loss_weight": 0.0, "user_batches": True}  # what several processes ask for
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "CLDRDStudent": [{"ordered": [5, 10]}],
    "HetCompStudent": [
        {"transfer": "overall"},
        {"transfer": "fine"},
        {"loss_reduction": "sum"},
        {"student": "DL", "tail_samples": 20},
    ],
    "IRRRDStudent": [{"list_depth": 20, "item_list_depth": 20, "n_interesting": 3, "n_uninteresting_users": 10}],
    "KDCEStudent": [{"guide": "student"}, {"guide": "teacher"}, {"guide": "catalogue"}],
    "CDStudent": [{"guide": "student"}, {"guide": "teacher"}],
    "MTDStudent": [{"list_weights": "uniform"}, {"list_weights": "global"}, {"list_weights": "user"}],
    "RDStudent": [{"discrepancy_start": 5}, {"discrepancy_start": 0}],
    "RRDStudent": [{"sampled": True}, {"sampled": False}],
    "CompositeStudent": [{"methods": {"RRD": 0.5, "KDCE": 2.0}}, {"methods": {"RRD": 0.5, "DE": 2.0}}],
}
CASES = [(method, changes) for method in METHODS for changes in VARIANTS.get(method, [{}])]
TWO = Processes(2, 2, 0, "localhost", 5678)


def refused(config: Any) -> bool:
    """Whether the methods of `config` are refused to several processes."""
    try:
        TWO.check(config)
    except UserError as error:
        return str(error).startswith("nproc: the loss of ")
    return False


def in_double_precision(model: Any) -> Any:
    """The model, and every table of numbers that it has taken from its teachers."""
    for part in (model, *getattr(model, "parts", {}).values()):
        part.double()
        for name, value in vars(part).items():
            if isinstance(value, Tensor) and value.dtype == torch.float32:
                setattr(part, name, value.double())
            if isinstance(value, dict):
                value.update({k: v.double() for k, v in value.items() if isinstance(v, Tensor) and v.is_floating_point()})
    return model


@pytest.fixture
def learner(make_model, trained_pool):
    """`learner(method, **changes)`: a student in double precision with vectors that are not tiny, in its sixth epoch."""

    def make(method: str, **changes: Any) -> Any:
        model = make_model(method, **USERS_ALONE, **changes)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(10)
        model.learn_from(trained_pool("BPR", "LightGCN"))
        for epoch in range(6):
            model.on_epoch_start(epoch)
        return in_double_precision(model)

    return make


def part(model: Any, batch: Interaction, rank: int, world_size: int) -> Tensor:
    """A rank's part of loss and gradient, whose draws begin where those of the other ranks begin."""
    model.generator.manual_seed(5)
    return part_of_loss(model, batch, rank, world_size)


@pytest.mark.parametrize(("method", "changes"), CASES, ids=lambda value: str(value))
def test_the_parts_of_a_batch_add_up_to_the_whole_or_the_method_is_refused(learner, method, changes) -> None:
    model = learner(method, **changes)
    batch = Interaction({model.USER_ID: model.history.active_users[2:23]})
    whole, parts = part(model, batch, 0, 1), [part(model, batch, rank, 2) for rank in range(2)]
    assert whole.dtype == torch.float64
    assert whole[0] > 1e-4
    adds_up = torch.allclose(sum(parts), whole, rtol=1e-6, atol=1e-9)
    assert adds_up != refused(model.config)


def test_the_sentence_names_each_of_a_composites_methods_that_cannot_be_shared(make_config) -> None:
    config = make_config("CompositeStudent", methods={"FTD": 1.0, "RRD": 1.0, "DCD": 0.5}, **USERS_ALONE)
    with pytest.raises(UserError, match=r"^nproc: the loss of FTDStudent and DCDStudent over a batch .*; use --nproc=1$"):
        TWO.check(config)
