"""Training does not wait for the device: every method on torch's meta device, which has no data to give to the host.

There whatever asks the device for a number raises: `item`, `tolist`, `nonzero`, `unique`, a copy to the CPU. On a GPU all of
these wait for it. What the meta device lets pass and a GPU does not, `Watch` notes: copies to it that wait, operations on
tensors of both devices, and functions that look at numbers inside.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from recbole.model.general_recommender import LightGCN
from torch.optim import Adam
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from recbole_hetcomp.knowledge.selection import DelayedReward
from recbole_hetcomp.losses.streaming import log_mass
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.model.target_lists import TargetLists
from recbole_hetcomp.trainer.distillation import DistillationTrainer

META = torch.device("meta")
LOOK_INSIDE = {"linalg_matrix_exp", "linalg_solve", "_linalg_check_errors", "bincount", "_unique2", "masked_select"}
# What methods keep on the CPU, to draw from it.
ON_CPU = {
    *("on_cpu", "drawn", "item_lists", "drawn_users", "rank_differences", "neighbours", "pair_weights", "score"),
    "without_list",
}


def asking_for_data() -> Any:
    """What a block that asks the meta device for a number raises."""
    return pytest.raises((NotImplementedError, RuntimeError), match=r"(?i)meta tensor|meta' backend|no data|register_meta")


class Watch(TorchDispatchMode):
    """Notes every operation that would wait for a GPU, or fail there; `noted` holds their names."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        devices = {tensor.device.type for tensor in tensors if tensor.dim()}
        if name in ("_to_copy", "copy_"):
            source, target = (tensors[0], kwargs.get("device")) if name == "_to_copy" else (tensors[1], tensors[0].device)
            waits = kwargs.get("non_blocking", len(args) > 2 and args[2])
            if source.device.type == "cpu" and target is not None and target.type == "meta" and not waits:
                self.noted.append(name)
        elif len(devices) > 1 or ("meta" in devices and name in LOOK_INSIDE):
            self.noted.append(name)
        return func(*args, **kwargs)


@pytest.fixture(autouse=True)
def without_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch knows no autocast for the meta device."""
    monkeypatch.setattr(torch, "autocast", lambda *settings, **options: contextlib.nullcontext())


def moved(value: Any) -> Any:
    """`value` with the tensors that a loss reads on the meta device; what belongs to the host stays there."""
    if isinstance(value, torch.Tensor):  # a sparse one as a dense one: the meta device multiplies no other
        return value.to_dense().to(META) if value.is_sparse else value.to(META)
    if isinstance(value, dict):
        return {key: moved(part) for key, part in value.items()}
    if isinstance(value, (DistilledRecommender, TargetLists, LightGCN, DelayedReward)):
        for name, part in vars(value).items():
            if not name.startswith("_") and name not in ON_CPU:
                setattr(value, name, META if isinstance(part, torch.device) else moved(part))
    return value


def trainer_on_meta(model: DistilledRecommender) -> DistillationTrainer:
    """A trainer of a model that has learnt from its teachers, with all that it trains on, on the meta device."""
    trainer = DistillationTrainer(model.config, model)
    moved(model.to(META))
    moved(model.backbone)
    model.backbone.device = trainer.device = META
    trainer.optimizer = Adam(model.parameters())
    if trainer.optimizer_apart is not None:
        trainer.optimizer_apart = Adam(model.apart.parameters())
    return trainer


@pytest.mark.parametrize("needs_data", [lambda x: x.sum().item(), torch.nonzero, torch.unique, torch.Tensor.cpu])
def test_on_the_meta_device_nothing_gets_a_number(needs_data) -> None:
    with asking_for_data():
        needs_data(torch.arange(3, device=META))


def test_what_the_meta_device_lets_pass_is_noted() -> None:
    here, there = torch.arange(4.0), torch.zeros(4, device=META)
    with Watch() as watch:
        torch.stack([here.to(META, non_blocking=True), there]).sum()
    assert not watch.noted
    works = [
        lambda: here.to(META),
        lambda: there.copy_(here),
        lambda: there[torch.tensor([1])],
        lambda: torch.linalg.matrix_exp(there.view(2, 2)),
    ]
    for work in works:
        with Watch() as watch:
            work()
        assert watch.noted


@pytest.mark.parametrize("sizes", [{}, {"block_bytes": 4 * 6 * 10}, {"block_bytes": 4 * 6 * 10, "stored_bytes": 0}])
def test_the_log_mass_waits_for_nothing(sizes) -> None:
    users, items = (torch.randn(n, 4, device=META, requires_grad=True) for n in (6, 50))
    mass = log_mass(users, items, torch.zeros(6, 9, dtype=torch.int64, device=META), **sizes)
    mass.sum().backward()
    assert users.grad is not None


@pytest.mark.parametrize("student", ["MF", "ML", "DL", "HistoryEncoder", "NeuMF"])
@pytest.mark.parametrize("transfer", ["overall", "fine", "adaptive"])
@pytest.mark.parametrize("tail_samples", [0, 30])
def test_hetcomp_asks_for_its_loss_at_the_end_of_an_epoch_alone(
    make_model, list_pool, student, transfer, tail_samples
) -> None:
    settings = {"student": student, "transfer": transfer, "tail_samples": tail_samples}
    model = make_model("HetCompStudent", **settings, n_targets=20, n_observed=3)
    model.learn_from(list_pool(2))
    trainer = trainer_on_meta(model)
    first = next(iter(trainer.user_batches))
    trainer._step(model.calculate_loss, first, _NoScaler())  # what is sent there once is there now
    with Watch() as watch:
        losses = [trainer._step(model.calculate_loss, batch, _NoScaler()) for batch in trainer.user_batches]
    assert not watch.noted
    assert len(losses) == len(trainer.user_batches)
    with asking_for_data():
        trainer._sums(losses)


@pytest.mark.parametrize("size", [4, 8])  # below the teacher's, and as large
def test_every_method_trains_without_waiting(make_model, trained_pool, split, any_method, size) -> None:
    method, own = any_method
    model = make_model(method, embedding_size=size, teacher_rank=8, **own)
    model.learn_from(trained_pool(*own.get("teachers", ["BPR"])))
    model.on_epoch_start(0)
    first, second, *_ = split.loaders(model.config).train
    trainer = trainer_on_meta(model)
    trainer._step(model.calculate_loss, first, _NoScaler())
    with Watch() as watch:
        trainer._step(model.calculate_loss, second, _NoScaler())
    assert not watch.noted


class _NoScaler:
    """torch's scaler as it is when it is switched off."""

    def scale(self, loss: torch.Tensor) -> torch.Tensor:
        return loss

    def step(self, optimizer: Any) -> None:
        optimizer.step()

    def update(self) -> None:
        pass
