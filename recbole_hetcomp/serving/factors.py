"""The vectors of a loaded model whose inner products are its scores: all that many students need to be served."""

from __future__ import annotations

import torch
from recbole.data.dataset import Dataset
from recbole.model.abstract_recommender import AbstractRecommender
from torch import Tensor

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.asked import asked_by
from recbole_hetcomp.losses.streaming import Vectors
from recbole_hetcomp.model.backbone import HasVectors, embeddings_of
from recbole_hetcomp.serving.recommending import seen_by
from recbole_hetcomp.teachers.ranking import full_scores

USERS_AT_ONCE = 1024
TRIED = 16  # users whose scores are compared with the products
TOLERANCE = 1e-5  # times the largest score


@torch.no_grad()
def factors_of(model: AbstractRecommender, dataset: Dataset, why: str) -> Vectors:
    """All users [n_users, d] and items [n_items, d] as vectors, on the CPU; row 0 is the padding.

    A user of a sequential model is what it makes of the whole sequence in the dataset.

    Args:
        model: in evaluation mode
        dataset: with all known interactions
        why: what the vectors are for, the beginning of a sentence

    Raises:
        UserError: the model's scores are no inner products.
    """
    backbone = getattr(model, "backbone", model)
    history = seen_by(model, dataset)
    asked = asked_by(backbone, history)
    users = torch.arange(dataset.user_num, device=model.device)
    refused = UserError(
        f"{why}: the scores of {type(backbone).__name__} are no inner products of vectors; train a student that is MF, ML, "
        "HistoryEncoder or LightGCN"
    )
    if isinstance(asked, HasVectors):
        blocks = [asked.vectors(block) for block in users.split(USERS_AT_ONCE)]
        if any(block is None for block in blocks):
            raise refused
        found = Vectors(torch.cat([block.users for block in blocks]), blocks[0].items)
    else:
        try:
            found = Vectors(*embeddings_of(backbone))
        except UserError as error:
            raise refused from error
    tried = history.active_users[:TRIED].to(model.device)
    if found.users.size(1) != found.items.size(1) or not _same(
        full_scores(asked, tried), found.users[tried] @ found.items.T
    ):
        raise refused
    return Vectors(found.users.detach().float().cpu(), found.items.detach().float().cpu())


def _same(scores: Tensor, products: Tensor) -> bool:
    """Whether two blocks of scores are equal but for rounding, the padding item aside."""
    if scores.shape != products.shape:
        return False
    scores, products = scores[:, 1:].float(), products[:, 1:].float()
    return bool((scores - products).abs().max() <= TOLERANCE * scores.abs().max().clamp(min=1.0))
