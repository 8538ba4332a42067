"""AdaRecNet: convolutions and pools over a sequence, chosen for each edge of a small graph by a search or by hand.

Source: the searched networks of Chen, Yuan, Yang, Yang, Li, "Scene-adaptive Knowledge Distillation for Sequential
Recommendation via Differentiable Architecture Search", 2021, https://arxiv.org/abs/2107.07173.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.model.loss import BPRLoss
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gumbel_softmax

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError, shown
from recbole_hetcomp.model.operations import Operation, searched

N_NODES = 3  # of a cell, beside its input
EDGES = [(source, target) for target in range(1, N_NODES + 1) for source in range(target)]  # in the order of `architecture`


class Edge(nn.Module):
    """ReLU, and then one of its operations, or their weighted sum."""

    def __init__(self, names: Sequence[str], size: int, *, causal: bool) -> None:
        super().__init__()
        self.operations = nn.ModuleDict({name: Operation(name, size, causal=causal) for name in names})

    def forward(self, values: Tensor, valid: Tensor, choice: str | Tensor) -> Tensor:
        """[B, d, T] of `values` [B, d, T]; `choice` is an operation's name, or [n] the weights of all of them."""
        values = values.relu()
        if isinstance(choice, str):
            made: Tensor = self.operations[choice](values, valid)
            return made
        return torch.stack([weight * each(values, valid) for weight, each in zip(choice, self.operations.values())]).sum(0)


class Cell(nn.Module):
    """A graph of N_NODES nodes, each the sum of the edges from all before it: its input, and what its nodes add to it.

    Args:
        names: for each edge, the operations that it has
        size: d
        causal: whether no operation looks ahead
    """

    def __init__(self, names: Sequence[Sequence[str]], size: int, *, causal: bool) -> None:
        super().__init__()
        self.edges = nn.ModuleList([Edge(of_edge, size, causal=causal) for of_edge in names])
        self.node_logits = nn.Parameter(torch.zeros(N_NODES))
        self.norm = nn.LayerNorm(size)

    def forward(self, states: Tensor, valid: Tensor, choices: Sequence[str | Tensor]) -> Tensor:
        """[B, T, d] of `states` [B, T, d] and `valid` [B, 1, T]; one choice an edge."""
        nodes, edges = [states.transpose(1, 2)], iter(zip(self.edges, choices))
        for _ in range(N_NODES):
            arriving = [edge(node, valid, choice) for node, (edge, choice) in zip(nodes, edges)]
            nodes.append(torch.stack(arriving).sum(0))
        said = torch.einsum("n,nbdt->btd", self.node_logits.softmax(0), torch.stack(nodes[1:]))
        return states + self.norm(said).relu() * valid.transpose(1, 2)


class AdaRecNet(SequentialRecommender):
    """Cells of one architecture over item and position embeddings; the last position's state, against the items', scores.

    Where `architecture` is not given, every edge has all operations: the mixed network. In training it draws one for each
    edge, a pass at a time, by a hard Gumbel softmax of `alpha`; otherwise it takes the most probable ones, and is then the
    network that a search derives. A discrete network has a part of its parameters, under the same names.

    Attributes:
        alpha: [edges, operations] logits, of the mixed network alone
        temperature: of the Gumbel softmax
        computes_all: whether a step of training computes all operations, as the gradient of `alpha` needs them, or the drawn
            ones alone, whose gradients are the same
        drawn: the choices that all passes compute now, inside `one_draw`
    """

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        size, architecture, causal = config["embedding_size"], config["architecture"], config["adarec_ops"] == "causal"
        self.names = searched(config["adarec_ops"])
        self.architecture: list[str] | None = None if architecture is None else list(architecture)
        if self.architecture is not None and len(self.architecture) != len(EDGES):
            raise UserError(
                f"architecture: {shown(self.architecture)} has {len(self.architecture)} operations; give {len(EDGES)}, "
                f"one for each edge: {', '.join(f'{source}-{target}' for source, target in EDGES)}"
            )
        self.item_embedding = nn.Embedding(self.n_items, size, padding_idx=0)
        self.position_embedding = nn.Embedding(self.max_seq_length, size)
        of_edges = [self.names] * len(EDGES) if self.architecture is None else [[name] for name in self.architecture]
        self.cells = nn.ModuleList([Cell(of_edges, size, causal=causal) for _ in range(config["n_cells"])])
        self.dropout = nn.Dropout(config["dropout_prob"])
        self.loss_type, self.bpr, self.temperature = config["loss_type"], BPRLoss(), 1.0
        self.computes_all = True
        self.drawn: list[str | Tensor] | None = None
        for table in (self.item_embedding, self.position_embedding):
            nn.init.normal_(table.weight, std=0.02)
        with torch.no_grad():
            self.item_embedding.weight[0] = 0.0
        if self.architecture is None:
            self.alpha = nn.Parameter(0.01 * torch.randn(len(EDGES), len(self.names)))

    def derived(self) -> list[str]:
        """The most probable operation of each edge; of a discrete network its own."""
        if self.architecture is not None:
            return self.architecture
        return [self.names[place] for place in self.alpha.argmax(1).tolist()]

    def choices(self) -> list[str | Tensor]:
        """What the edges compute now, one choice each."""
        if self.drawn is not None:
            return self.drawn
        if self.architecture is None and self.training:
            drawn = gumbel_softmax(self.alpha, tau=self.temperature, hard=True)
            return [*drawn] if self.computes_all else [self.names[place] for place in drawn.argmax(1).tolist()]
        return [*self.derived()]

    @contextmanager
    def one_draw(self) -> Iterator[None]:
        """Inside, all passes compute the same choices: the losses of a step are of one network."""
        self.drawn = self.choices()
        try:
            yield
        finally:
            self.drawn = None

    def states(self, item_seq: Tensor, item_seq_len: Tensor) -> list[Tensor]:
        """[B, T, d] what each cell gives for sequences [B, T] of lengths [B], 0 behind their ends."""
        place = torch.arange(item_seq.size(1), device=item_seq.device)
        valid = (place < item_seq_len[:, None]).to(self.position_embedding.weight.dtype)[:, None]  # [B, 1, T]
        state = (self.item_embedding(item_seq) + self.position_embedding(place)) * valid.transpose(1, 2)
        choices, found = self.choices(), []
        for cell in self.cells:
            state = cell(state, valid, choices)
            found.append(state)
        return found

    def output(self, states: Sequence[Tensor], item_seq_len: Tensor) -> Tensor:
        """[B, d]: the vectors of sequences whose `states` these are; their products with the items' are the scores."""
        vectors: Tensor = self.dropout(self.gather_indexes(states[-1], item_seq_len - 1))
        return vectors

    def forward(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """[B, d]: the vectors of sequences [B, T] of lengths [B]."""
        return self.output(self.states(item_seq, item_seq_len), item_seq_len)

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Cross-entropy over all items, or BPR against one that was drawn."""
        vectors = self.forward(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        items, target = self.item_embedding.weight, interaction[self.POS_ITEM_ID]
        if self.loss_type == "CE":
            return cross_entropy(vectors @ items.T, target)
        scores = [(vectors * items[each]).sum(1) for each in (target, interaction[self.NEG_ITEM_ID])]
        loss: Tensor = self.bpr(*scores)
        return loss

    def predict(self, interaction: Interaction) -> Tensor:
        """[B]: the scores of pairs of a sequence and an item."""
        vectors = self.forward(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        return (vectors * self.item_embedding(interaction[self.ITEM_ID])).sum(1)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """[B, n_items]: the scores of all items."""
        return self.forward(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]) @ self.item_embedding.weight.T
