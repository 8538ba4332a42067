"""A model that scores pairs and, when it learns alone, is trained by BPR.

Source: Rendle, Freudenthaler, Gantner, Schmidt-Thieme, "BPR: Bayesian Personalized Ranking from Implicit Feedback",
UAI 2009, https://arxiv.org/abs/1205.2618.
"""

from __future__ import annotations

from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import Tensor
from torch.nn.functional import logsigmoid


class PairwiseRecommender(GeneralRecommender):
    """What `forward(users, items)`, the scores, is enough for."""

    input_type = InputType.PAIRWISE

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """The mean of -log sigmoid(score of the item - score of the negative)."""
        user, item, negative = (interaction[field] for field in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        return -logsigmoid(self.forward(user, item) - self.forward(user, negative)).mean()

    def predict(self, interaction: Interaction) -> Tensor:
        """[B]: the scores of a batch of pairs."""
        return self.forward(interaction[self.USER_ID], interaction[self.ITEM_ID])
