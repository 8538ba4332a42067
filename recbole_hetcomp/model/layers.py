"""The layers of RecBole's sequential models, as they compute for some sequences."""

from __future__ import annotations

from typing import NamedTuple

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from torch import Tensor, nn
from torch.nn.functional import pad

from recbole_hetcomp.model.stages import Taps

# The module that is the layer, or that has them.
LAYERS = {
    **dict.fromkeys(("SASRec", "LightSANs", "BERT4Rec"), "trm_encoder.layer"),
    "NextItNet": "residual_blocks",
    "GRU4Rec": "gru_layers",
}
# Is asked with a mask behind the latest item and without the oldest one, so that each state is a place before its item's.
WITHOUT_OLDEST = "BERT4Rec"


class Computed(NamedTuple):
    """What a model makes of sequences.

    Attributes:
        scores: [B, n_items]
        items: [B, T, D] the vectors of the sequence's items
        layers: [B, T, D] each, first to last
        known: [B, T] bool, the items of which there are states in the layers
    """

    scores: Tensor
    items: Tensor
    layers: list[Tensor]
    known: Tensor


def layer_paths(model: nn.Module) -> list[str]:
    """The names of the model's layers, first to last; the model is one of LAYERS."""
    name = LAYERS[type(model).__name__]
    found = model.get_submodule(name)
    return (
        [f"{name}.{place}" for place in range(len(found))] if isinstance(found, (nn.ModuleList, nn.Sequential)) else [name]
    )


@torch.no_grad()
def computed(model: SequentialRecommender, asked: Interaction) -> Computed:
    """What a model of LAYERS, in evaluation mode, makes of the sequences in `asked`, without gradients."""
    with Taps(model, layer_paths(model)) as taps:
        scores = model.full_sort_predict(asked)
    sequences = asked[model.ITEM_SEQ]
    place = torch.arange(sequences.size(1), device=sequences.device)
    known = place < asked[model.ITEM_SEQ_LEN][:, None]
    layers = taps.left
    if type(model).__name__ == WITHOUT_OLDEST:
        layers, known = [pad(layer[:, :-1], (0, 0, 1, 0)) for layer in layers], known & (place > 0)
    return Computed(scores, model.item_embedding(sequences), layers, known)
