"""The layers of RecBole's sequential models, as they compute for some sequences."""

from __future__ import annotations

from typing import NamedTuple

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from torch import Tensor, nn

from recbole_hetcomp.model.stages import Taps

# The module that is the layer, or that has them.
LAYERS = {
    **dict.fromkeys(("SASRec", "LightSANs", "BERT4Rec"), "trm_encoder.layer"),
    "NextItNet": "residual_blocks",
    "GRU4Rec": "gru_layers",
}


class Computed(NamedTuple):
    """What a model makes of sequences.

    Attributes:
        scores: [B, n_items]
        items: [B, T, D] the vectors of the sequence's items
        layers: [B, T, D] each, first to last
    """

    scores: Tensor
    items: Tensor
    layers: list[Tensor]


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
    layers = [layer[:, : sequences.size(1)] for layer in taps.left]  # BERT4Rec has a place more, for its mask
    return Computed(scores, model.item_embedding(sequences), layers)
