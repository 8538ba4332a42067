"""Whether an exported student recommends what the student does: for every user, by what was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import ModelType
from torch import Tensor

from recbole_hetcomp.config import Config
from recbole_hetcomp.data.asked import asked_by
from recbole_hetcomp.data.history import History
from recbole_hetcomp.data.split import Split
from recbole_hetcomp.serving.exported import Exported
from recbole_hetcomp.serving.formats import Seen, Top
from recbole_hetcomp.serving.recommending import seen_by
from recbole_hetcomp.teachers.ranking import best_of_block, blocks, full_scores

DEPTH, NDCG_AT = 50, 10
TOLERANCE = 1e-5  # of scores, times the user's largest where that is above 1


@dataclass
class Agreement:
    """How near the exported lists are to the student's, over the users with interactions.

    Attributes:
        users: how many were compared
        differing: whose best 50 are others, or in another order, ties aside
        deviation: the largest difference of two scores of one pair, in parts of the user's largest score where above 1
        overlaps: of each user, the share of the student's best 50 that the export has among its own
        ndcg: [student, export] NDCG@10 on the test part; empty where the model is not tested by these vectors
    """

    users: int = 0
    differing: int = 0
    deviation: float = 0.0
    overlaps: list[float] = field(default_factory=list)
    ndcg: list[float] = field(default_factory=list)

    @property
    def overlap(self) -> float:
        """The mean share."""
        return float(np.mean(self.overlaps))

    @property
    def record(self) -> dict[str, Any]:
        """As JSON."""
        found: dict[str, Any] = {"users": self.users, "users_whose_top_50_differs": self.differing}
        found |= {"largest_deviation_of_scores": self.deviation, "overlap@50": self.overlap}
        return found | ({"ndcg@10": dict(zip(("student", "export"), self.ndcg))} if self.ndcg else {})


@torch.no_grad()
def compared(model: AbstractRecommender, config: Config, split: Split, exported: Exported, top: Top) -> Agreement:
    """Compare for every user what the student and its export recommend.

    Of a student that is asked for users the NDCG on the test part is compared, too, training and validation items masked.
    """
    history = seen_by(model, split.whole)
    asked, found, depth = asked_by(model, history), Agreement(), min(DEPTH, len(exported.item_tokens))
    tested = _tested(split) if model.type != ModelType.SEQUENTIAL else None
    gains: list[list[np.ndarray]] = [[], []]
    for users in blocks(history.active_users, split.whole.item_num, config["max_block_mb"]):
        scores, rows = full_scores(asked, users).float().cpu(), (users - 1).numpy()
        ids, best = best_of_block(scores, history.padded(users), depth)
        items, of_items = map(torch.from_numpy, top(rows, exported.seen_by(rows), depth))
        _add(found, scores, ids, best, items, of_items)
        if tested is not None:
            masked, wanted = tested
            lists = best_of_block(scores, masked.padded(users), depth)[0] - 1
            served = torch.from_numpy(top(rows, _seen(masked, users), depth)[0])
            for side, of_side in zip(gains, (lists, served)):
                side.append(_ndcg(of_side, wanted, users))
    found.ndcg = [float(np.concatenate(side).mean()) for side in gains if side]
    return found


def _add(found: Agreement, scores: Tensor, ids: Tensor, best: Tensor, items: Tensor, of_items: Tensor) -> None:
    """Count a block: the student's `scores` [B, I + 1], its list `ids` with scores `best`, and the export's."""
    there = best > -torch.inf
    unit = best.masked_fill(~there, 0).abs().amax(1, keepdim=True).clamp(min=1.0)
    own = scores.gather(1, (items + 1).clamp(max=scores.size(1) - 1))  # what the student says of the export's items
    apart = [(one - of_items).abs().masked_fill(~there, 0) / unit for one in (own, best)]
    other = (of_items > -torch.inf) != there
    found.users += len(ids)
    found.differing += int(((torch.maximum(*apart) > TOLERANCE) | other).any(1).sum())
    found.deviation = max(found.deviation, float(apart[0].max()))
    same = (ids[:, :, None] == items[:, None] + 1).any(2) & there
    found.overlaps += (same.sum(1) / there.sum(1).clamp(min=1)).tolist()


def _tested(split: Split) -> tuple[History, History]:
    """What is masked in a test, and what is wanted."""
    field_users, field_items = split.whole.uid_field, split.whole.iid_field
    known = [part.inter_feat for part in split.parts[:2]]
    users, items = (torch.cat([part[name] for part in known]) for name in (field_users, field_items))
    return History(users, items, split.whole.user_num, split.whole.item_num), History.of(split.parts[2])


def _seen(history: History, users: Tensor) -> Seen:
    """The items of `users` [B] in `history`, as a format is told of them."""
    padded = history.padded(users)
    places, columns = (padded > 0).nonzero(as_tuple=True)
    return places.numpy(), (padded[places, columns] - 1).numpy()


def _ndcg(items: Tensor, wanted: History, users: Tensor) -> np.ndarray:
    """NDCG@10 of the lists `items` [B, k] of item rows, of the users who have a test item."""
    counts = wanted.counts[users]
    hits = wanted.contains(users[:, None], items[:, :NDCG_AT] + 1).double()
    gains = 1 / torch.arange(2, 2 + NDCG_AT, dtype=torch.float64).log2()
    ideal = gains.cumsum(0)[counts.clamp(min=1, max=NDCG_AT) - 1]
    found = (hits * gains[: hits.size(1)]).sum(1) / ideal
    return np.asarray(found[counts > 0])


def users_in_blocks(users: Tensor, n_items: int, max_block_mb: float) -> Iterator[np.ndarray]:
    """Rows of `users` [B] in blocks whose scores fit into the memory that was granted."""
    for block in blocks(users, n_items, max_block_mb):
        yield (block - 1).numpy()
