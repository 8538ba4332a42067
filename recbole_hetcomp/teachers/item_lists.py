"""Lists that take a teacher's scores, as no trajectory holds them: each item's best users, and users' best items by group.

No user is in the list of an item of its training set, nor the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from recbole_hetcomp.data.history import History
from recbole_hetcomp.teachers.ranking import blocks
from recbole_hetcomp.teachers.single import SingleTeacher


def by_item(history: History) -> History:
    """The same pairs the other way round: items in the place of users, each with its training users."""
    return History(history.items, history.pairs // history.n_items, history.n_items, history.n_users)


@torch.no_grad()
def top_users(teacher: SingleTeacher, history: History, k: int) -> Tensor:
    """[n_items, k] int32 on the CPU: each item's best users, best first, 0 = none left; equal scores in any order.

    Users who have the item in training are no candidates, nor are those without training items, of whom the teacher knows
    nothing. Scores are taken a block of users at a time and merged into the best so far: memory for n_items x (k + the
    users of a block), never for users x items.

    Args:
        teacher: scores users' rows; `max_block_mb` of them at once
        history: the training items
        k: length of the lists
    """
    best = torch.zeros(history.n_items, 0)  # [n_items, k'] float, in any order
    users = torch.zeros(history.n_items, 0, dtype=torch.int32)  # whose scores these are
    for block, scores in _unobserved_scores(teacher, history):
        best, users = best.to(scores.device), users.to(scores.device)
        together = torch.cat([best, scores.T], 1)
        best, places = together.topk(min(k, together.size(1)), dim=1, sorted=False)
        users = torch.cat([users, block.int().to(scores.device).expand(len(users), -1)], 1).gather(1, places)
    order = best.argsort(dim=1, descending=True)
    lists = users.masked_fill(best == -torch.inf, 0).gather(1, order).cpu()
    lists[0] = 0
    return pad(lists, (0, k - lists.size(1)))


@torch.no_grad()
def top_items_of_groups(teacher: SingleTeacher, history: History, groups: list[Tensor], k: int) -> list[Tensor]:
    """Of each group [n_users, k'] int32 on the CPU, k' = min(k, its size): each user's best items in it; 0 = none left.

    Args:
        teacher: scores users' rows; `max_block_mb` of them at once
        history: the training items; users without any have rows of 0
        groups: int64 item ids of each group, none of them 0
        k: length of the lists
    """
    lists = [torch.zeros(history.n_users, min(k, len(group)), dtype=torch.int32) for group in groups]
    for block, scores in _unobserved_scores(teacher, history):
        for group, listed in zip(groups, lists):
            columns = group.to(scores.device)
            best, places = scores[:, columns].topk(listed.size(1), dim=1)
            listed[block] = columns[places].masked_fill(best == -torch.inf, 0).int().cpu()
    return lists


def _unobserved_scores(teacher: SingleTeacher, history: History) -> Iterator[tuple[Tensor, Tensor]]:
    """(users [B], their scores [B, n_items], -inf for training items) for all users with training items.

    All scores of a user of whom the teacher knows nothing are -inf: equal ones would be above all that are below the mean.
    """
    for users in blocks(history.active_users, history.n_items, teacher.max_block_mb):
        scores = teacher.scores(users)
        scores = scores.scatter(1, history.padded(users).to(scores.device), -torch.inf)
        yield users, scores.masked_fill_(teacher.without_list[users].to(scores.device)[:, None], -torch.inf)
