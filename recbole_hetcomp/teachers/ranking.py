"""What a model would recommend: the best items of every user, for any RecBole model, a block of users at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import set_color
from torch import Tensor
from tqdm import tqdm

from recbole_hetcomp.data.history import History, users_per_block

GROUP = 16  # columns whose maximum stands for them
PAIRS_AT_ONCE = 2**18  # (user, item) pairs scored at once for models that cannot score a user's whole row


def full_scores(model: AbstractRecommender, users: Tensor) -> Tensor:
    """[B, n_items] scores of all items for `users` [B], gradients included where they are enabled.

    Models without `full_sort_predict` (DMF, for one) are asked for every pair.
    """
    users = users.to(model.device)
    try:
        scores = model.full_sort_predict(Interaction({model.USER_ID: users}))
    except NotImplementedError:
        scores = _pairwise_scores(model, users)
    return scores.view(len(users), -1).to(users.device)  # RecBole's EASE gives them on the CPU, wherever it is


def scores_of(model: AbstractRecommender, users: Tensor, items: Tensor) -> Tensor:
    """[B, n] scores of `items` [B, n] for `users` [B]; of models that score pair by pair no other pair is computed."""
    users, items = users.to(model.device), items.to(model.device).long()
    try:
        if getattr(model.full_sort_predict, "pair_by_pair", False):
            raise NotImplementedError
        rows = model.full_sort_predict(Interaction({model.USER_ID: users})).view(len(users), -1)
        return rows.to(items.device).gather(1, items)
    except NotImplementedError:
        pairs = Interaction({model.USER_ID: users.repeat_interleave(items.size(1)), model.ITEM_ID: items.reshape(-1)})
        return _in_parts(model, pairs).view(items.shape)


def _pairwise_scores(model: AbstractRecommender, users: Tensor) -> Tensor:
    items = torch.arange(model.n_items, device=users.device)
    pairs = Interaction({model.USER_ID: users.repeat_interleave(len(items)), model.ITEM_ID: items.repeat(len(users))})
    return _in_parts(model, pairs)


def _in_parts(model: AbstractRecommender, pairs: Interaction) -> Tensor:
    parts = [model.predict(pairs[start : start + PAIRS_AT_ONCE]) for start in range(0, len(pairs), PAIRS_AT_ONCE)]
    return torch.cat([part.reshape(-1) for part in parts])


def blocks(users: Tensor, n_items: int, max_block_mb: float) -> Iterator[Tensor]:
    """`users` in pieces whose score rows fit into `max_block_mb`; none where there are no users."""
    if len(users):
        yield from users.split(users_per_block(n_items, max_block_mb))


@torch.no_grad()
def top_unobserved(
    model: AbstractRecommender,
    history: History,
    k: int,
    *,
    users: Tensor | None = None,
    max_block_mb: float = 64.0,
    progress: str | None = None,
    opinions_alone: bool = False,
) -> Tensor:
    """[n_users, k] int32 on the CPU: each user's best items outside the training items, best first, 0 = none.

    `progress` names a progress bar, as RecBole's trainers show them; None shows none.

    Rows of the padding user and of users without training items are all 0, and where `users` [B] are given, each with
    training items, those of all others; with `opinions_alone` lists end before a run of items
    that share the lowest score of all (`opinions`). The global random state is left as it was.

    Raises:
        FloatingPointError: the model scores an item NaN, outside the training items.
    """
    top = torch.zeros(history.n_users, min(k, history.n_items - 1), dtype=torch.int32)
    was_training = model.training
    model.eval()
    with torch.random.fork_rng():
        parts = list(blocks(history.active_users if users is None else users, history.n_items, max_block_mb))
        for block in tqdm(parts, ncols=100, desc=set_color(f"{progress or '':<12}", "pink"), disable=progress is None):
            scores = full_scores(model, block).float()
            observed = history.padded(block).to(scores.device)
            best = best_opinions if opinions_alone else top_of_block
            top[block] = best(scores, observed, top.size(1)).int().cpu()
    model.train(was_training)
    return torch.nn.functional.pad(top, (0, k - top.size(1)))


def opinions(scores: Tensor, excluded: Tensor, items: Tensor) -> Tensor:
    """`items` [B, k] (0 = none), best first, without the run at the end that shares the lowest score of all.

    The order of such a run is that of the columns, and no opinion: EASE's whole list of a user whose items nobody else has,
    for one. A single item of the lowest score stays.

    Args:
        scores: [B, I]
        excluded: [B, H] columns that do not count; nor does column 0
        items: [B, k] int64 columns, the best of the others
    """
    listed, present = scores.gather(1, items), items > 0
    worst = listed.gather(1, (present.sum(1, keepdim=True) - 1).clamp(min=0))
    run = (listed == worst) & present
    rows = (run.sum(1) > 1).nonzero().squeeze(1)
    if not len(rows):
        return items
    others = scores[rows].scatter_(1, excluded[rows], torch.inf)
    others[:, 0] = torch.inf
    lowest = others.amin(1, keepdim=True) == worst[rows]
    return items.index_copy(0, rows, items[rows].masked_fill(run[rows] & lowest, 0))


def top_of_block(scores: Tensor, excluded: Tensor, k: int) -> Tensor:
    """[B, k] the columns of the largest `scores` [B, I], never column 0 nor those in `excluded` [B, H]; 0 = none left.

    Raises:
        FloatingPointError: a score that is not excluded is NaN.
    """
    return best_of_block(scores, excluded, k)[0]


def best_opinions(scores: Tensor, excluded: Tensor, k: int) -> Tensor:
    """`top_of_block` without a run at the end that shares the lowest score of all (`opinions`).

    Raises:
        FloatingPointError: as `top_of_block`
    """
    return opinions(scores, excluded, top_of_block(scores, excluded, k))


def best_of_block(scores: Tensor, excluded: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`top_of_block` and the scores [B, k] of its columns, -inf where none is left.

    Raises:
        FloatingPointError: as `top_of_block`
    """
    scores = scores.scatter(1, excluded, -torch.inf)
    scores[:, 0] = -torch.inf
    best, items = largest(scores, k)
    if best[:, :1].isnan().any():  # NaN comes first
        raise FloatingPointError("it scores some items NaN")
    return items.masked_fill(best == -torch.inf, 0), best


def largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`scores.topk(k)` of rows [B, I], by way of the maxima of groups of columns: the best k are in the best k groups.

    Which of equal scores comes first, or in at the end of the list, may differ.
    """
    n_groups = scores.size(1) // GROUP
    if n_groups <= k:
        return scores.topk(k, dim=1)
    whole = n_groups * GROUP
    maxima = scores[:, :whole].view(len(scores), GROUP, n_groups).amax(1)  # of the columns c, c + n_groups, ...
    groups = maxima.topk(k, dim=1).indices
    columns = (groups[:, None] + torch.arange(0, whole, n_groups, device=scores.device)[:, None]).flatten(1)
    rest = torch.arange(whole, scores.size(1), device=scores.device).expand(len(scores), -1)
    columns = torch.cat([columns, rest], 1)
    best, places = scores.gather(1, columns).topk(k, dim=1)
    return best, columns.gather(1, places)


@torch.no_grad()
def ranked_history(model: AbstractRecommender, history: History, depth: int, *, max_block_mb: float = 64.0) -> Tensor:
    """[n_users, P] int32: each user's training items in the model's order, best first, 0-padded; P <= depth."""
    width = min(depth, int(history.counts.max()))
    ranked = torch.zeros(history.n_users, width, dtype=torch.int32)
    model.eval()
    with torch.random.fork_rng():
        for users in blocks(history.active_users, history.n_items, max_block_mb):
            items = history.padded(users)
            scores = full_scores(model, users).float().cpu().gather(1, items).masked_fill(items == 0, -torch.inf)
            order = scores.argsort(dim=1, descending=True, stable=True)
            block = items.gather(1, order)[:, :width]
            ranked[users, : block.size(1)] = block.int()
    return ranked
