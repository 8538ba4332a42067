"""DAGFM: a factorisation machine that passes states along a directed acyclic graph of the fields.

Source: Tian, Bai, Zhang, Zhao, Wen, "Directed Acyclic Graph Factorization Machines for CTR Prediction via Knowledge
Distillation", WSDM 2023, https://arxiv.org/abs/2211.11159. No released code has the kernel form; here each edge has a full
matrix there.
"""

from __future__ import annotations

import torch
from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import ContextRecommender
from recbole.model.layers import MLPLayers
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

SIZES = {"inner": {"p": "d"}, "outer": {"p": "d", "q": "d"}, "kernel": {"w": "dd"}}  # of what is learnt for an edge


class DAGFM(ContextRecommender):
    """States h^l [B, F, D] of the fields: h^0 = C H, and h^l_s = h^0_s * sum over f <= s of the message from h^(l-1)_f.

    The message is p_fs * h_f (inner), q_fs <p_fs, h_f> (outer) or W_fs h_f (kernel). The fields are ordered, so each product
    of l + 1 of them is reached by one path. The states, summed over D, give the logit by a linear layer. With
    `mlp_hidden_size` a network on the sum of the states adds to it (DAGFM+).
    """

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        del self.first_order_linear  # h^0 is the first order
        n_fields, size, self.depth = self.num_feature_field, int(config["embedding_size"]), int(config["depth"])
        self.form = str(config["interaction"])
        self.mixing = nn.Parameter(torch.eye(n_fields))  # C
        shapes = {name: [size] * len(axes) for name, axes in SIZES[self.form].items()}
        deviation = (2 / (n_fields * size)) ** 0.5
        self.edges = nn.ParameterDict(
            {
                name: nn.Parameter(deviation * torch.randn(self.depth, n_fields, n_fields, *shape))
                for name, shape in shapes.items()
            }
        )
        self.register_buffer("acyclic", torch.ones(n_fields, n_fields).triu(), persistent=False)  # [f, s]: whether f <= s
        self.readout = nn.Linear(n_fields * (self.depth + 1), 1)
        self.mlp: nn.Module | None = None
        hidden = list(config["mlp_hidden_size"] or [])
        if hidden:
            layers = MLPLayers([n_fields * size, *hidden], float(config["dropout_prob"]))
            self.mlp = nn.Sequential(layers, nn.Linear(hidden[-1], 1))
        self._initialise_tables()

    def _initialise_tables(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.xavier_normal_(module.weight)

    def states(self, fields: Tensor) -> list[Tensor]:
        """[h^0, ..., h^depth], each [B, F, D], of the embedded `fields` [B, F, D]."""
        first = torch.einsum("sf,bfd->bsd", self.mixing, fields)
        found = [first]
        for layer in range(self.depth):
            found.append(first * self._received(found[-1], layer))
        return found

    def _received(self, states: Tensor, layer: int) -> Tensor:
        """[B, F, D] what each field receives in a layer from itself and the fields before it."""
        edges = {name: part[layer] for name, part in self.edges.items()}
        if self.form == "kernel":
            return torch.einsum("bfe,fsde->bsd", states, edges["w"] * self.acyclic[:, :, None, None])
        masked = edges["p"] * self.acyclic[:, :, None]
        if self.form == "inner":
            return torch.einsum("bfd,fsd->bsd", states, masked)
        return torch.einsum("bfs,fsd->bsd", torch.einsum("bfd,fsd->bfs", states, masked), edges["q"])

    def forward(self, interaction: Interaction) -> Tensor:
        """[B]: the logits."""
        states = self.states(self.concat_embed_input_fields(interaction))
        logits = self.readout(torch.cat([state.sum(-1) for state in states], -1))
        if self.mlp is not None:
            logits = logits + self.mlp(torch.stack(states).sum(0).flatten(1))
        return logits.squeeze(-1)

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """[]: the cross-entropy of the clicks of a batch."""
        return binary_cross_entropy_with_logits(self(interaction), interaction[self.LABEL].float())

    def predict(self, interaction: Interaction) -> Tensor:
        """[B]: the probability of a click for each row."""
        return torch.sigmoid(self(interaction))
