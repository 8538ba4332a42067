"""UnKDStudent: unbiased distillation; the teacher's order within groups of like popularity, none between them.

Source: Chen, Chen, Feng, Zhou, He, "Unbiased Knowledge Distillation for Recommendation", WSDM 2023,
https://arxiv.org/abs/2211.14729.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.teachers.item_lists import top_items_of_groups
from recbole_hetcomp.teachers.pool import Needs, TeacherPool
from recbole_hetcomp.teachers.single import SingleTeacher

ROUNDS = 16  # draws for a pair at most
SMALLEST_SHARE = 0.1  # of the normalised weights of the groups


def equal_mass_groups(popularity: Tensor, n_groups: int) -> list[Tensor]:
    """Items by descending popularity, cut into groups of about total / n_groups interactions each.

    A group ends before the item that would bring it above its mass, and has one item at least; a last group of less than
    half that mass is merged into the one before. There may thus be one group more or fewer than asked for.

    Args:
        popularity: [n_items] int64, training interactions of each item; the padding item's counts for nothing

    Returns:
        int64 item ids of each group; together every item from 1 on, once
    """
    items = popularity[1:].argsort(descending=True, stable=True) + 1
    mass = popularity[items].cumsum(0)
    share = mass[-1].item() / n_groups
    groups, start, before = [], 0, 0
    while start < len(items):
        end = max(start + 1, int(torch.searchsorted(mass, math.floor(before + share), right=True)))
        groups.append(items[start:end])
        start, before = end, int(mass[end - 1])
    if len(groups) > 1 and popularity[groups[-1]].sum() < share / 2:
        groups[-2:] = [torch.cat(groups[-2:])]
    return groups


def pairs_of_groups(popularity: Tensor, groups: list[Tensor], n_pairs: int, exponent: float) -> list[int]:
    """How many of about `n_pairs` pairs each group gets: round(n_pairs * rho), at least 1.

    rho is in proportion to w^exponent with w = max + min - p normalised to a sum of 1, but at least 0.1, where p is the mean
    popularity of a group's items; exponent 0 gives equal shares, a positive one more to the less popular.

    Args:
        popularity: [n_items] training interactions of each item
        groups: item ids of each group
    """
    means = torch.stack([popularity[group].double().mean() for group in groups])
    inverse = means.max() + means.min() - means
    weights = (inverse / inverse.sum()).clamp(min=SMALLEST_SHARE) ** exponent
    return (n_pairs * weights / weights.sum()).round().long().clamp(min=1).tolist()


def draw_ranks(lengths: Tensor, n: int, temperature: float, generator: torch.Generator) -> Tensor:
    """[B, n] int64: places 0 to length - 1 of each list, with replacement, in proportion to exp(-place / temperature).

    By the inverse of the distribution function (1 - q^(r + 1)) / (1 - q^length), q = exp(-1 / temperature).

    Args:
        lengths: [B] int64; a list of length 0 gives 0
        generator: of the device of `lengths`
    """
    uniform = torch.rand(len(lengths), n, generator=generator, dtype=torch.float64, device=lengths.device)
    covered = -torch.expm1(-lengths.double() / temperature)[:, None]  # 1 - q^length
    places = (-temperature * torch.log1p(-uniform * covered)).long()
    return places.minimum((lengths[:, None] - 1).clamp(min=0))


def draw_pairs(lists: Tensor, n: int, temperature: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(better [B, n], worse [B, n]) int64: pairs of different items, both drawn by exp(-rank / temperature).

    Pairs with equal members, and no others, are drawn again. A list of fewer than two items gives pairs of 0.

    Args:
        lists: [B, k] integer item ids, best first, 0 = none, at the end
        n: pairs a list, drawn with replacement
        temperature: ranks over which an item's chance falls by a factor e
        generator: of the device of `lists`
    """
    lengths = (lists > 0).sum(1)
    first, second = (draw_ranks(lengths, n, temperature, generator) for _ in range(2))
    for _ in range(ROUNDS):
        equal = (first == second) & (lengths > 1)[:, None]
        if not equal.any():
            break
        first, second = (
            torch.where(equal, draw_ranks(lengths, n, temperature, generator), places) for places in (first, second)
        )
    pairs = [lists.gather(1, places).long() for places in (first.minimum(second), first.maximum(second))]
    return pairs[0].masked_fill(first == second, 0), pairs[1].masked_fill(first == second, 0)


def pairwise_loss(scores: Tensor, present: Tensor) -> Tensor:
    """[B]: the mean over a user's pairs of -log sigmoid(s_better - s_worse); 0 for a user without pairs.

    Args:
        scores: [B, 2n] of the better items, then of the worse
        present: [B, n] bool, which pairs there are
    """
    better, worse = scores.chunk(2, 1)
    terms = -logsigmoid(better - worse).masked_fill(~present, 0.0)
    return terms.sum(1) / present.sum(1).clamp(min=1)


class UnKDStudent(DistilledRecommender):
    """L = L_base + weight * mean over users, and over a user's pairs, of -log sigmoid(s_better - s_worse).

    Items are in groups of equal interaction mass. Every epoch each user gets pairs from each group, both members drawn by
    exp(-rank / temperature) from the teacher's order of the user's unobserved items in that group. The order is that of
    the final teachers; the curriculum's lists are no deeper than a trajectory, and hold next to nothing of the last groups.
    """

    needs = Needs(scores=True)

    def learn_from(self, teachers: TeacherPool) -> None:
        """Cuts the items into groups by popularity, and takes the teacher's `group_depth` best items a user in each."""
        config = self.config
        teacher = SingleTeacher.from_config(teachers, self.history, config)
        popularity = self.history.popularity
        self.groups = equal_mass_groups(popularity, config["n_groups"])
        self.group_lists = top_items_of_groups(teacher, self.history, self.groups, config["group_depth"])
        self.n_pairs = pairs_of_groups(popularity, self.groups, config["n_pairs"], config["share_exponent"])
        self.better = self.worse = torch.zeros(0)  # [U, pairs of all groups] int64, 0 = no pair

    def on_epoch_start(self, epoch: int) -> None:
        """Draws each user's pairs anew."""
        temperature = self.config["pair_temperature"]
        drawn = [draw_pairs(lists, n, temperature, self.generator) for lists, n in zip(self.group_lists, self.n_pairs)]
        self.better, self.worse = (torch.cat(members, 1).to(self.device) for members in zip(*drawn))

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: the mean over the batch's users of the mean over their pairs of -log sigmoid(s_better - s_worse)."""
        better, worse = self.better[batch.users], self.worse[batch.users]
        scores = self.pair_scores(batch.users, torch.cat([better, worse], 1))
        return pairwise_loss(scores, better > 0).mean()
