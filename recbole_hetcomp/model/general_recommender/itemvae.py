"""ItemVAE: a variational auto-encoder over items; an item is described by the users who met it.

Source: Liang, Krishnan, Hoffman, Jebara, "Variational Autoencoders for Collaborative Filtering", WWW 2018,
https://doi.org/10.1145/3178876.3186150, applied to the columns of the interaction matrix instead of its rows.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_hetcomp.config.config import Config

LOGITS_AT_ONCE = 2**24  # numbers held at once while all items are encoded for scoring (64 MiB)
UNSEEN_COUNT = 0.5  # observations credited to an item without any, so that its log-prior is finite and the lowest


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """[B, z], [B, z] -> [B]: KL divergence of N(mean, exp(log_variance)) from the standard normal, in nats."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


def perceptron(sizes: list[int]) -> nn.Sequential:
    """Linear layers, a tanh after each. sizes: [n + 1], of the input and of every layer."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip(sizes[:-1], sizes[1:]):
        layers += [nn.Linear(fan_in, fan_out), nn.Tanh()]
    return nn.Sequential(*layers)


class ItemVAE(GeneralRecommender):
    """p(u|i) = softmax over users of the decoded latent vector z of item i; multinomial likelihood, annealed KL.

    The likelihood leaves a constant per item free, so that raw logits of different items cannot be compared. Bayes
    gives the order of items for one user: log p(i|u) = log p(u|i) + log p(i) + const, with p(i) from the item's count.
    Recall@50 on MovieLens-100K: 0.54 with it, 0.36 with log p(u|i) alone, 0.33 with the logits.

    The first layer sums the embeddings of an item's users, which is a linear layer on the item's column at the cost of
    its non-zero entries; `mlp_hidden_size` names at least this one. Columns are kept as one list of users and an
    offset per item (CSR).
    """

    input_type = InputType.PAIRWISE
    column_starts: Tensor
    column_users: Tensor
    log_count: Tensor
    n_updates: Tensor
    restored_items: Tensor | None

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.dropout_prob = config["dropout_prob"]
        self.anneal_cap = config["anneal_cap"]
        self.total_anneal_steps = config["total_anneal_steps"]
        self._keep_columns(dataset)
        hidden, latent = list(config["mlp_hidden_size"]), config["latent_dimension"]
        self.user_embedding = nn.EmbeddingBag(self.n_users, hidden[0], mode="sum")
        self.user_bias = nn.Parameter(torch.zeros(hidden[0]))
        self.encoder = perceptron(hidden)
        self.gaussian = nn.Linear(hidden[-1], 2 * latent)
        self.decoder = perceptron([latent, *hidden[::-1]])
        self.output = nn.Linear(hidden[0], self.n_users)
        self._initialise()
        self.register_buffer("n_updates", torch.zeros((), dtype=torch.int64))  # the annealing's place, in checkpoints
        self.register_buffer("restored_items", None, persistent=False)

    def _keep_columns(self, dataset: Dataset) -> None:
        """CSR of the training matrix' columns: `column_users` [nnz], `column_starts` [n_items + 1]."""
        columns = dataset.inter_matrix(form="csr").T.tocsr()
        columns.sum_duplicates()
        starts = torch.from_numpy(columns.indptr).long()
        self.register_buffer("column_starts", starts, persistent=False)
        self.register_buffer("column_users", torch.from_numpy(columns.indices).long(), persistent=False)
        self.register_buffer("log_count", starts.diff().clamp(min=UNSEEN_COUNT).log(), persistent=False)

    @property
    def training_entities(self) -> tuple[str, Tensor]:
        """(item field, [N] the items with interactions): what an epoch visits, each once."""
        return self.ITEM_ID, self.column_starts.diff().nonzero()[:, 0].cpu()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_normal_(self.user_embedding.weight)

    def column_of(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """The users of a batch of items.

        Args:
            items: [B]

        Returns:
            users [N], item by item; counts [B] users of each item, N in sum
        """
        starts = self.column_starts[items]
        counts = self.column_starts[items + 1] - starts
        shift = (starts - counts.cumsum(0) + counts).repeat_interleave(counts)
        return self.column_users[torch.arange(len(shift), device=items.device) + shift], counts

    def encode(self, users: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """[N] users, [B] counts -> [B, z] means, [B, z] log variances; columns of length 1, dropout while training."""
        weights = counts.to(self.user_bias.dtype).rsqrt().repeat_interleave(counts)
        weights = F.dropout(weights, self.dropout_prob, training=self.training)
        bag = self.user_embedding(users, counts.cumsum(0) - counts, per_sample_weights=weights)
        mean, log_variance = self.gaussian(self.encoder(torch.tanh(bag + self.user_bias))).chunk(2, dim=1)
        return mean, log_variance

    def forward(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """[B] -> [B, hidden] decoded mean, [B] log of the softmax' denominator over the real users."""
        decoded = self.decoder(self.encode(*self.column_of(items))[0])
        return decoded, self.output(decoded)[:, 1:].logsumexp(1)

    def calculate_loss(self, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """The negative ELBO of a batch of items [B], mean over items: reconstruction, weighted KL."""
        self.restored_items = None
        items = interaction[self.ITEM_ID]
        users, counts = self.column_of(items)
        mean, log_variance = self.encode(users, counts)
        latent = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        logits = self.output(self.decoder(latent))[:, 1:]  # [B, n_users - 1]: the padding user has no share
        log_p = logits.log_softmax(1)
        rows = torch.arange(len(items), device=items.device).repeat_interleave(counts)
        reconstruction = -log_p[rows, users - 1].sum() / len(items)
        return reconstruction, self._kl_weight() * gaussian_kl(mean, log_variance).mean()

    def _kl_weight(self) -> Tensor:
        """Grows linearly to `anneal_cap` over `total_anneal_steps` updates."""
        self.n_updates += 1
        return self.anneal_cap * (self.n_updates / self.total_anneal_steps).clamp(max=1)

    def user_vectors(self, users: Tensor) -> Tensor:
        """[B] -> [B, hidden + 2]: output weights, bias, 1."""
        bias = self.output.bias[users, None]
        return torch.cat([self.output.weight[users], bias, torch.ones_like(bias)], 1)

    @torch.no_grad()
    def item_vectors(self) -> Tensor:
        """[n_items, hidden + 2]: decoded item, 1, log p(i) - log denominator; times a user's vector gives the score.

        Kept from one evaluation batch to the next, until the parameters change.
        """
        if self.restored_items is not None and not self.training:
            return self.restored_items
        items = torch.arange(1, self.n_items, device=self.log_count.device)
        blocks = [self.forward(block) for block in items.split(max(1, LOGITS_AT_ONCE // self.n_users))]
        decoded, log_denominator = (torch.cat(part) for part in zip(*blocks))
        offset = (self.log_count[1:] - log_denominator)[:, None]
        vectors = torch.cat([decoded, torch.ones_like(offset), offset], 1)
        vectors = F.pad(vectors, (0, 0, 1, 0))  # the padding item is never encoded: a row of zeros
        if not self.training:
            self.restored_items = vectors
        return vectors

    def predict(self, interaction: Interaction) -> Tensor:
        """[B]: log p(i|u) of a batch of pairs, but for a constant of each user."""
        return (self.user_vectors(interaction[self.USER_ID]) * self.item_vectors()[interaction[self.ITEM_ID]]).sum(1)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """[B * n_items]: log p(i|u) of all items, but for a constant of each user, user by user."""
        return (self.user_vectors(interaction[self.USER_ID]) @ self.item_vectors().T).view(-1)

    def load_state_dict(self, state_dict: Mapping[str, Tensor], *args: bool, **kwargs: bool) -> object:
        """As torch's; the item vectors kept from an evaluation of other parameters are dropped."""
        self.restored_items = None
        return super().load_state_dict(state_dict, *args, **kwargs)
