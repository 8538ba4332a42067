"""Synthetic data of a given shape, behind as much of RecBole's interfaces as the models and `History` read."""

from __future__ import annotations

import math
from itertools import islice
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_hetcomp.config import Config
from recbole_hetcomp.data.history import History
from recbole_hetcomp.model.distilled_recommender.hetcompstudent import HetCompStudent
from recbole_hetcomp.model.general_recommender.mf import MF
from recbole_hetcomp.trainer.entity_batches import EntityBatches

CPU = torch.device("cpu")
N_TEACHERS, N_STAGES, N_USERS, N_ITEMS, DEPTH, SIZE = 6, 4, 5_220, 25_182, 200, 8  # CiteULike's shape
BATCH = 64  # users
SPREAD = 1.235  # of the log of a user's number of items: CiteULike's training sets have median 7, mean 15


class SyntheticDataset:
    """Users 1, 2, ... with `mean` training items or so, log-normal, at least 3; popularity after Zipf's law."""

    uid_field, iid_field = "user_id", "item_id"

    def __init__(self, n_users: int, n_items: int, generator: torch.Generator, mean: float = 15.0) -> None:
        self.user_num, self.item_num = n_users, n_items
        counts = (torch.randn(n_users - 1, generator=generator) * SPREAD - SPREAD**2 / 2).exp_() * mean
        users = torch.arange(1, n_users).repeat_interleave(counts.round_().clamp_(3, 1000).long())
        self.inter_feat = {"user_id": users, "item_id": zipf_items((len(users),), n_items, generator)}

    def num(self, field: str) -> int:
        """How many ids a field has, padding included."""
        return self.user_num if field == self.uid_field else self.item_num


def zipf_items(shape: tuple[int, ...], n_items: int, generator: torch.Generator) -> Tensor:
    """int64 of `shape`: item ids of which the r-th most popular comes with a probability in proportion to 1 / r."""
    ranks = (torch.rand(shape, generator=generator) * math.log(n_items)).exp_().long().clamp_(max=n_items - 1)
    return (torch.randperm(n_items - 1, generator=generator) + 1)[ranks - 1]


def ranked_lists(generator: torch.Generator) -> Tensor:
    """[X, E, U, L] int32 lists that overlap as teachers' do: noisy copies of one order a user."""
    base = torch.stack([torch.randperm(N_ITEMS - 1, generator=generator)[: 3 * DEPTH] + 1 for _ in range(N_USERS)])
    lists = torch.empty(N_TEACHERS, N_STAGES, N_USERS, DEPTH, dtype=torch.int32)
    for x in range(N_TEACHERS):
        for e in range(N_STAGES):
            noise = torch.arange(3 * DEPTH) + torch.randn(N_USERS, 3 * DEPTH, generator=generator) * 60
            lists[x, e] = base.gather(1, noise.argsort(1)[:, :DEPTH]).int()
    return lists


def settings(device: torch.device = CPU, **changes: Any) -> Config:
    """The package's settings of the student, but the fine-grained loss from the start."""
    own = {"seed": 2020, "embedding_size": SIZE, "train_batch_size": BATCH, "transfer": "fine"}
    own |= {"use_gpu": device.type != "cpu", "gpu_id": "0"}
    return Config("HetCompStudent", "ml-100k", config_dict={**own, **changes}, arguments=())


def factors(dataset: SyntheticDataset, size: int) -> MF:
    """An untrained model of inner products."""
    return MF(settings(embedding_size=size, init_std=1.0), dataset)  # type: ignore[arg-type]


class Training:
    """The product's training of a student that has its lists: batches of users, streamed fine-grained loss, Adam.

    Args:
        targets: [U, K] integer
        device: of the student
    """

    def __init__(self, dataset: SyntheticDataset, targets: Tensor, device: torch.device = CPU) -> None:
        config = settings(device=device)
        self.student = HetCompStudent(config, dataset).to(device)  # type: ignore[arg-type]
        self.student.lists = SimpleNamespace(targets=targets.to(device))  # type: ignore[assignment]
        self.student.observed = observed_lists(self.student.history).to(device)
        self.optimiser = torch.optim.Adam(self.student.parameters(), lr=config["learning_rate"])
        self.batches = EntityBatches("user_id", self.student.history.active_users, config["train_batch_size"], 0)

    def step(self, batch: Interaction, half: bool = False) -> None:
        """One batch, as RecBole's trainer does it; `half`: with bfloat16 where autocast has it."""
        self.optimiser.zero_grad()
        with torch.autocast(self.student.device.type, torch.bfloat16, enabled=half):
            loss = self.student.calculate_loss(batch)
        loss.backward()  # type: ignore[union-attr]
        self.optimiser.step()

    def steps(self, count: int | None = None) -> list[float]:
        """Seconds of each of the first `count` batches; None = a whole epoch, all users once."""
        seconds = []
        for batch in islice(self.batches, count):
            started = perf_counter()
            self.step(batch)
            seconds.append(perf_counter() - started)
        return seconds

    def known_bytes(self) -> int:
        """Of embeddings, their gradients, Adam's two moments, the lists and the history."""
        history = [value for value in vars(self.student.history).values() if isinstance(value, Tensor)]
        tensors = [*list(self.student.parameters()) * 4, *history, self.student.current_lists.targets, self.student.observed]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def observed_lists(history: History, k: int = 10) -> Tensor:
    """[U, k] int32: the first k training items of each user, 0-padded."""
    lists = torch.zeros(history.n_users, k, dtype=torch.int32)
    for users in torch.arange(history.n_users).split(1_000):
        items = history.padded(users)[:, :k]
        lists[users, : items.size(1)] = items.int()
    return lists
