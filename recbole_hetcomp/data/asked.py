"""A sequential model that is asked by row: what ranks, scores and serves knows ids alone, the model wants sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from torch import Tensor

from recbole_hetcomp.data.history import History
from recbole_hetcomp.data.sequences import Sequences
from recbole_hetcomp.losses.streaming import Vectors


class Factors(NamedTuple):
    """Whose inner products a model's scores are: `of_rows(model, interaction)` [B, d], `of_items(model)` [n_items, d]."""

    of_rows: Callable[[Any, Interaction], Tensor]
    of_items: Callable[[Any], Tensor]


def _items(model: Any) -> Tensor:
    return model.item_embedding.weight[: model.n_items]  # BERT4Rec has a row more, for its mask


def _by_sequence(model: Any, asked: Interaction) -> Tensor:
    return model.forward(asked[model.ITEM_SEQ], asked[model.ITEM_SEQ_LEN])


def _of_caser(model: Any, asked: Interaction) -> Tensor:
    return model.forward(asked[model.USER_ID], asked[model.ITEM_SEQ])


def _of_nextitnet(model: Any, asked: Interaction) -> Tensor:
    return model.forward(asked[model.ITEM_SEQ])


def _of_fpmc(model: Any, asked: Interaction) -> Tensor:
    """[B, 2d]: the user's vector, and that of the last item."""
    last = asked[model.ITEM_SEQ].gather(1, (asked[model.ITEM_SEQ_LEN] - 1)[:, None]).squeeze(1)
    return torch.cat([model.UI_emb(asked[model.USER_ID]), model.LI_emb(last)], 1)


def _items_of_fpmc(model: Any) -> Tensor:
    return torch.cat([model.IU_emb.weight, model.IL_emb.weight], 1)


def _of_bert4rec(model: Any, asked: Interaction) -> Tensor:
    """[B, d + 1]: the output at the masked place behind the sequence, and 1 for the items' bias."""
    lengths = asked[model.ITEM_SEQ_LEN]
    output = model.gather_indexes(model.forward(model.reconstruct_test_data(asked[model.ITEM_SEQ], lengths)), lengths - 1)
    return torch.cat([output, torch.ones_like(output[:, :1])], 1)


def _items_of_bert4rec(model: Any) -> Tensor:
    return torch.cat([_items(model), model.output_bias[:, None]], 1)


# RecBole's models, and ours, whose scores are inner products
FACTORS: dict[str, Factors] = {
    **dict.fromkeys(("GRU4Rec", "SASRec", "NARM", "LightSANs", "AdaRecNet"), Factors(_by_sequence, _items)),
    "NextItNet": Factors(_of_nextitnet, _items),
    "Caser": Factors(_of_caser, _items),
    "FPMC": Factors(_of_fpmc, _items_of_fpmc),
    "BERT4Rec": Factors(_of_bert4rec, _items_of_bert4rec),
}


class AskedByRow:
    """A sequential model with rows in the place of users, for all that asks general models.

    Args:
        model: RecBole's, or a student of this package with such a backbone
        rows: what the rows are
    """

    def __init__(self, model: AbstractRecommender, rows: Sequences) -> None:
        self.model, self.rows = model, rows
        self.n_users, self.n_items = rows.n_users, model.n_items
        self.USER_ID, self.ITEM_ID = model.USER_ID, model.ITEM_ID

    @property
    def device(self) -> Any:
        """Where the model is."""
        return self.model.device

    @property
    def training(self) -> bool:
        """Whether the model trains."""
        return self.model.training

    def train(self, mode: bool = True) -> AskedByRow:
        """As of the model."""
        self.model.train(mode)
        return self

    def eval(self) -> AskedByRow:
        """As of the model."""
        return self.train(False)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """[B, n_items]: the scores of all items for the rows that stand as users."""
        return self.model.full_sort_predict(self._asked(interaction))

    def predict(self, interaction: Interaction) -> Tensor:
        """[B]: the scores of pairs of a row and an item."""
        asked = self._asked(interaction)
        asked.update(Interaction({self.ITEM_ID: interaction[self.ITEM_ID]}))
        return self.model.predict(asked)

    def vectors(self, rows: Tensor) -> Vectors | None:
        """`rows` [B] and all items as vectors whose inner products are the scores; None for models that have no such."""
        kind = type(self.model)
        factors = FACTORS.get(kind.__name__) if kind.__module__.startswith(("recbole.", "recbole_hetcomp.")) else None
        if factors is None:
            return None
        return Vectors(factors.of_rows(self.model, self.rows.asked(rows)), factors.of_items(self.model))

    def _asked(self, interaction: Interaction) -> Interaction:
        return self.rows.asked(interaction[self.USER_ID])


def asked_by(model: Any, history: History | None) -> Any:
    """The model as it is asked for a user of `history`: by row where that holds sequences, else the model itself."""
    return AskedByRow(model, history) if isinstance(history, Sequences) else model
