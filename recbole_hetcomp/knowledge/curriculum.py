"""Dynamic knowledge construction: which checkpoint of which teacher a user learns from, and when to move on.

Every (teacher, user) pair starts at the teacher's earliest checkpoint and moves on, one at a time, as the student comes
nearer to the *next* one. Source: Kang et al., HetComp, WWW 2023, and the constants of the authors' code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor

from recbole_hetcomp.knowledge.discrepancy import IDS, check_relevance, discrepancy

Pairs = tuple[Tensor, Tensor]  # teachers [N], users [N]


class Rule(NamedTuple):
    """When a pair moves on, and how the authors' variant rounds the NDCG that this is judged by."""

    moves_on: Callable[[Tensor, float, Tensor], Tensor]  # (gamma [N], threshold, overdue [N]) -> [N] bool
    decimals: Optional[int]


def _progress_or_drift(gamma: Tensor, threshold: float, overdue: Tensor) -> Tensor:
    return (gamma > threshold) | (gamma < 1.0)


def _progress(gamma: Tensor, threshold: float, overdue: Tensor) -> Tensor:
    return gamma > threshold


def _progress_or_overdue(gamma: Tensor, threshold: float, overdue: Tensor) -> Tensor:
    return (gamma > threshold) | overdue


RULES = {
    "official": Rule(_progress_or_drift, decimals=4),  # the released code; a student that drifts away moves on as well
    "submission": Rule(_progress, decimals=4),  # the code under review; nothing forces the end
    "patient": Rule(_progress_or_overdue, decimals=None),  # ours: progress, but no pair is held back for ever
}


class Curriculum:
    """The stage of every teacher for every user.

    Let d be the discrepancy between the student and the checkpoint after the current one. A pair moves on by its
    `gamma = d at the last move (or the first check) / d now`, which exceeds 1 by as much as the student has come
    nearer while it was being taught the current checkpoint. A d of 0 always moves on. Progress is cumulative: the
    reference changes with a move, not with a check.

    Rules: "official" moves on if gamma > threshold or gamma < 1, which ends every curriculum, as the threshold falls
    below 1; "submission" if gamma > threshold; "patient" if gamma > threshold or the pair was held back `max_dwell`
    times in a row.

    Args:
        n_teachers: X
        n_users: U, padding row included
        n_stages: E, checkpoints a teacher; with 1 the curriculum is finished from the start
        alpha: threshold at epoch 0; the paper's alpha
        decay: of the threshold, once a period
        period: epochs between two checks; the paper's p
        rule: "official", "submission" or "patient"
        max_dwell: checks without a move after which the rule "patient" moves on
        k, temperature, relevance: of the `discrepancy`

    Attributes:
        stage: [X, U] uint8, current checkpoint
        reference: [X, U] float32, the discrepancy that progress is measured from; 1 before the first check
    """

    def __init__(
        self,
        n_teachers: int,
        n_users: int,
        n_stages: int = 4,
        *,
        alpha: float = 1.05,
        decay: float = 0.995,
        period: int = 10,
        rule: str = "official",
        max_dwell: int = 5,
        k: int = 50,
        temperature: float = 10.0,
        relevance: str = "position",
    ) -> None:
        if rule not in RULES:
            raise ValueError(f"rule {rule!r} is none of {', '.join(RULES)}")
        check_relevance(relevance)
        counts = {"n_teachers": n_teachers, "n_users": n_users, "n_stages": n_stages, "period": period}
        too_small = [f"{name}={count}" for name, count in counts.items() if count < 1]
        if too_small:
            raise ValueError(f"{', '.join(too_small)} must be at least 1")
        self.n_stages = n_stages
        self.alpha, self.decay, self.period = alpha, decay, period
        self.rule, self.max_dwell = RULES[rule], max_dwell
        self.k, self.temperature, self.relevance = k, temperature, relevance
        self.started = False
        self.stage = torch.zeros(n_teachers, n_users, dtype=torch.uint8)
        self.reference = torch.ones(n_teachers, n_users)
        self.waited = torch.zeros(n_teachers, n_users, dtype=torch.int32)  # checks since the last move
        self.listed = torch.ones(n_teachers, n_users, dtype=torch.bool)  # known from the first check on

    @property
    def finished(self) -> bool:
        """Whether every teacher's mean stage, rounded to 2 decimals, is the last: 1 user in 200 may lag behind."""
        mean = self.stage.double().mean(1).round(decimals=2)  # [X]
        return bool((mean == self.n_stages - 1).all())

    @property
    def mean_stage(self) -> float:
        """Mean over the pairs that have a list; the last stage where none has."""
        listed = self.stage[self.listed]
        return float(listed.double().mean()) if len(listed) else float(self.n_stages - 1)

    @property
    def mean_stages(self) -> list[float] | None:
        """[X]: `mean_stage` of each teacher; None where there is one checkpoint alone."""
        means = self.stage.double().masked_fill(~self.listed, torch.nan).nanmean(1)
        last = float(self.n_stages - 1)
        return means.nan_to_num(last).tolist() if last else None

    def threshold(self, epoch: int) -> float:
        """alpha * decay ** (number of whole periods): falls below 1 at epoch 100 with the default numbers."""
        return self.alpha * self.decay ** (epoch // self.period)

    def due(self, epoch: int) -> bool:
        """Whether a check belongs after this epoch; epochs count from 0, and `advance` itself does not ask."""
        return epoch >= self.period and epoch % self.period == 0

    @torch.no_grad()
    def advance(self, student_topk: Tensor, teacher_topk: Tensor, epoch: int) -> Tensor:
        """One check of all pairs; the first one only notes where the student stands.

        A pair whose teacher has no list for the user at any checkpoint (the padding user, a user without training
        items) is at the last stage from the first check on, lest it hold up `finished`. It is not reported as moved,
        as no target changes with it.

        Args:
            student_topk: [U, K] integer item ids outside the user's training items, best first, 0 = no item; lists are
                compared on its device
            teacher_topk: [X, E, U, K'] likewise, on the CPU, as the state is
            epoch: counted from 0

        Returns:
            [X, U] bool, the pairs that moved on
        """
        self._check_shapes(student_topk, teacher_topk)
        if not self.started:
            return self._start(student_topk, teacher_topk)
        pending = self._pairs(self.stage < self.n_stages - 1)
        now = self._distance_to_next(student_topk, teacher_topk, pending)
        gamma = torch.where(now == 0, torch.inf, self.reference[pending] / now)
        moved = torch.zeros_like(self.listed)
        moved[pending] = self.rule.moves_on(gamma, self.threshold(epoch), self.waited[pending] >= self.max_dwell)
        self.stage = self.stage + moved.to(torch.uint8)
        self.waited = (self.waited + 1).masked_fill(moved, 0)
        pairs = self._pairs(moved)
        self.reference[pairs] = self._distance_to_next(student_topk, teacher_topk, pairs)
        return moved

    def state_dict(self) -> dict[str, Any]:
        """A copy of all that changes: tensors and plain numbers, for `torch.load(..., weights_only=True)`."""
        tensors: dict[str, Any] = {name: getattr(self, name).clone() for name in _TENSORS}
        return {**tensors, "started": self.started, "n_stages": self.n_stages}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where `state_dict` was taken; the settings are the constructor's.

        Raises:
            ValueError: the state is of another curriculum, or none at all.
        """
        shape, given = tuple(self.stage.shape), tuple(state["stage"].shape)
        if given != shape or state["n_stages"] != self.n_stages:
            raise ValueError(
                f"the state is of {given} (teachers, users) with {state['n_stages']} stages, "
                f"this curriculum of {shape} with {self.n_stages}"
            )
        for name in _TENSORS:
            own, other = getattr(self, name), state[name]
            if other.shape != own.shape or other.dtype != own.dtype or bool((other < 0).any() | other.isnan().any()):
                raise ValueError(f"the state has a {name} that no curriculum comes to")
        if int(state["stage"].max()) >= self.n_stages:
            raise ValueError(f"the state has a stage beyond the last of {self.n_stages}")
        for name in _TENSORS:
            setattr(self, name, state[name].to("cpu", copy=True))
        self.started = bool(state["started"])

    def _start(self, student_topk: Tensor, teacher_topk: Tensor) -> Tensor:
        self.listed = (teacher_topk > 0).any(-1).any(1)
        self.stage = self.stage.masked_fill(~self.listed, self.n_stages - 1)
        everyone = self._pairs(torch.ones_like(self.listed))
        self.reference[everyone] = self._distance_to_next(student_topk, teacher_topk, everyone)
        self.started = True
        return torch.zeros_like(self.listed)

    @staticmethod
    def _pairs(chosen: Tensor) -> Pairs:
        """(teachers [N], users [N]) of the pairs `chosen` [X, U] bool."""
        teachers, users = chosen.nonzero(as_tuple=True)
        return teachers, users

    def _distance_to_next(self, student_topk: Tensor, teacher_topk: Tensor, pairs: Pairs) -> Tensor:
        """[N]: the student's discrepancy from the checkpoint after each pair's current one, at most the last.

        Where most pairs of some users are wanted, all of theirs are compared, as the student's list is then read once.
        """
        teacher_topk = teacher_topk[..., : self.k].flatten(0, 2)  # [X * E * U, K'], a copy at most once
        teachers, users = pairs
        some, which = users.unique(return_inverse=True)
        n_teachers, lists = len(self.stage), max(1, IDS // self.k)
        if 2 * len(users) < n_teachers * len(some):
            parts = zip(teachers.split(lists), users.split(lists))
            return torch.cat([self._distances(student_topk, teacher_topk, *part) for part in parts])
        all_teachers, blocks = torch.arange(n_teachers)[:, None], some.split(max(1, lists // n_teachers))
        of_all = torch.cat([self._distances(student_topk, teacher_topk, all_teachers, part) for part in blocks], 1)
        return of_all[teachers, which]

    def _distances(self, student_topk: Tensor, teacher_topk: Tensor, teachers: Tensor, users: Tensor) -> Tensor:
        """The discrepancies of pairs: `teachers` [N] or [X, 1] and `users` [N], of the shape that these broadcast to.

        `teacher_topk` is [X * E * U, K'] here: the rows of all lists.
        """
        following = (self.stage[teachers, users].long() + 1).clamp(max=self.n_stages - 1)
        places = ((teachers * self.n_stages + following) * self.stage.size(1) + users).transpose(0, -1)  # users first
        chosen = teacher_topk.index_select(0, places.reshape(-1)).unflatten(0, places.shape)
        lists = chosen.transpose(0, places.dim() - 1)  # [..., N, K']
        distances = discrepancy(
            student_topk[users.to(student_topk.device)],
            lists.to(student_topk.device),
            k=self.k,
            temperature=self.temperature,
            relevance=self.relevance,
            decimals=self.rule.decimals,
        )
        return distances.cpu()

    def _check_shapes(self, student_topk: Tensor, teacher_topk: Tensor) -> None:
        n_teachers, n_users = self.stage.shape
        if student_topk.dim() != 2 or student_topk.size(0) != n_users:
            raise ValueError(f"student_topk is {tuple(student_topk.shape)}, not [{n_users}, K]")
        expected = (n_teachers, self.n_stages, n_users)
        if teacher_topk.dim() != 4 or teacher_topk.shape[:3] != expected:
            raise ValueError(f"teacher_topk is {tuple(teacher_topk.shape)}, not {[*expected, 'K']}")


_TENSORS = ("stage", "reference", "waited", "listed")
