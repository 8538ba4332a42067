"""The student: a small RecBole recommender, any, that learns from teachers what its own loss does not teach it.

A distillation method is a subclass with two or three methods; see docs/adding_a_method.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from logging import getLogger
from typing import Any, ClassVar

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AutoEncoderMixin, GeneralRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_hetcomp.config.errors import UserError, check_choices
from recbole_hetcomp.config.registry import backbone_class
from recbole_hetcomp.data.history import History
from recbole_hetcomp.data.transfer import sent
from recbole_hetcomp.losses.catalogue import Catalogue, Dense
from recbole_hetcomp.losses.sampling import Sampled, draw, popularity_proposal
from recbole_hetcomp.losses.streaming import Vectors
from recbole_hetcomp.model.backbone import HasHistories, HasVectors
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.buffers import unchanged_buffers
from recbole_hetcomp.model.target_lists import TargetLists, check_target_lists
from recbole_hetcomp.teachers.pool import Needs, TeacherPool
from recbole_hetcomp.teachers.ranking import full_scores, top_unobserved

# Where RecBole's graph models keep the embeddings of their last evaluation; stale as soon as a parameter changes.
EVALUATION_CACHES = ("restore_user_e", "restore_item_e")


class DistilledRecommender(GeneralRecommender):
    """A backbone recommender with a distillation loss. Its saved state is the backbone's, so it needs no teacher to serve.

    Without a base loss it trains on batches of users, each once an epoch; with one (or with `user_batches: False`) on
    RecBole's batches of interactions, and the distillation loss is taken over their unique users and items.
    """

    input_type = InputType.PAIRWISE  # the Config puts the backbone's own in its place
    needs = Needs()
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {}  # settings that are one of several words
    # Whether a user's part of the loss is the same in every batch: users are not paired, nothing is drawn for the batch.
    user_by_user: ClassVar[bool] = True

    def __init__(self, config, dataset: Dataset) -> None:  # type: ignore[no-untyped-def]
        super().__init__(config, dataset)
        for kind in type(self).__mro__:
            check_choices(config, vars(kind).get("choices", {}))
        self.config = config
        self.backbone = backbone_class(str(config["student"]))(config, dataset)
        self.base_loss_weight = float(config["base_loss_weight"])
        self.user_batches = bool(config["user_batches"]) and not self.base_loss_weight  # a base loss needs interactions
        self.history = History.of(dataset)
        self.distillation_weight = float(config["distillation_weight"])
        self.lists: TargetLists | None = None  # of methods that learn lists
        self.auxiliary = nn.ModuleDict()  # what a method trains beside the student and the saved student does without
        check_target_lists(config, follow=self.follows_curriculum)
        self.generator = torch.Generator().manual_seed(int(config["seed"]))  # of the method's own draws

    # ---- what a method adds -------------------------------------------------------------------------------------------

    def learn_from(self, teachers: TeacherPool) -> None:
        """Take from the teachers what the loss needs; once, before training."""
        raise NotImplementedError

    def distillation_loss(self, batch: Batch) -> Tensor:
        """The loss [] over a batch, a mean over its users."""
        raise NotImplementedError

    def on_epoch_start(self, epoch: int) -> None:
        """Before each epoch, counted from 0: for what is drawn or ranked anew."""

    def on_validation(self, student_topk: Tensor, epoch: int) -> str:
        """After each validation; returns what the log should say of the method's state.

        Args:
            student_topk: [U, RANKED] the student's best items outside the training items
            epoch: epochs trained
        """
        if self.lists is None:
            return ""
        self.lists.advance(student_topk, epoch)
        return self.lists.state_line(student_topk, self.history.active_users)

    def finish_training(self) -> None:
        """Leave what is served, and nothing else: at the end of training."""
        self.auxiliary = nn.ModuleDict()

    @property
    def undecayed(self) -> list[nn.Parameter]:
        """Those of `auxiliary` that `weight_decay` would pull away from where the loss wants them."""
        return []

    @property
    def sums_over_users(self) -> bool:
        """Whether `distillation_loss` is a sum over the users of a batch instead; several processes add up their parts."""
        return False

    @classmethod
    def not_user_by_user(cls, config: Any) -> list[str]:
        """The methods of a run of `config` whose loss over a batch is more than its users' parts: these cannot be split."""
        return [] if cls.user_by_user else [cls.__name__]

    @property
    def settled(self) -> bool:
        """Whether early stopping may count; False while what is to be learnt still changes."""
        return self.lists is None or self.lists.settled

    def distillation_state(self) -> dict[str, Any]:
        """All that changes during training and is no parameter: tensors and plain values, for an exact resume."""
        return {} if self.lists is None else {"lists": self.lists.state_dict()}

    def load_distillation_state(self, state: Mapping[str, Any]) -> None:
        """Continue where `distillation_state` was taken."""
        if self.lists is not None:
            self.lists.load_state_dict(state["lists"])

    # ---- what every method has ----------------------------------------------------------------------------------------

    @property
    def follows_curriculum(self) -> bool:
        """Whether the lists come from the curriculum's checkpoints rather than from the final ones."""
        return bool(self.config["curriculum"]) and self.config["curriculum_rule"] != "none"

    def target_lists(self, teachers: TeacherPool, k: int) -> TargetLists:
        """Lists of `k` items for a method to learn, following the curriculum where the settings ask for one."""
        return TargetLists(teachers, self.config, k, self.n_items, follow=self.follows_curriculum)

    @property
    def current_lists(self) -> TargetLists:
        """The lists of a method that has learnt from its teachers."""
        assert self.lists is not None, "learn_from comes first"
        return self.lists

    def ranking(self, k: int) -> Tensor:
        """[U, k] int32 on the CPU: what the student would recommend now, outside the training items."""
        return top_unobserved(self, self.history, k, max_block_mb=self.config["max_block_mb"])

    def scores(self, users: Tensor) -> Tensor:
        """[B, n_items] the student's scores of all items for `users` [B], with gradients."""
        self._forget_evaluation()
        scores = full_scores(self.backbone, users)
        self._forget_evaluation()  # what was kept hangs on this graph
        return scores

    def catalogue(self, users: Tensor) -> Catalogue:
        """The scores of all items for `users` [B], as the losses ask for them: in blocks where they are inner products,
        else from `tail_samples` items drawn for the batch, else (0) all at once.
        """
        vectors = self.vectors(users)
        if vectors is not None:
            return vectors
        if not self.config["tail_samples"]:
            return Dense(self.scores(users))
        items, log_q = draw(self._proposal, self.config["tail_samples"], self.generator)
        return Sampled(lambda listed: self.pair_scores(users, listed), sent(items, self.device), sent(log_q, self.device))

    def pair_scores(self, users: Tensor, items: Tensor) -> Tensor:
        """[B, n] the student's scores of `items` [B, n] for `users` [B], with gradients."""
        vectors = self.vectors(users)
        if vectors is not None:
            return vectors.listed(items).scores
        if isinstance(self.backbone, AutoEncoderMixin):  # it scores all items at once, or all of them for each pair
            return self.scores(users).gather(1, items.long())
        pairs = {self.USER_ID: users.repeat_interleave(items.size(1)), self.ITEM_ID: items.reshape(-1)}
        self._forget_evaluation()
        return self.backbone.predict(Interaction(pairs)).view(items.shape)

    def embeddings(self, users: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(`users` [B], or all, as [B, d]; all items [I, d]) with gradients; of a graph model those its scores come from.

        Raises:
            UserError: the student has no vectors of both.
        """
        self._forget_evaluation()
        backbone = self.backbone
        if isinstance(backbone, HasHistories):
            made = backbone.vectors(torch.arange(self.n_users, device=self.device) if users is None else users)
            return made.users, made.items
        if set(EVALUATION_CACHES) <= set(vars(backbone)):  # RecBole's graph models
            tables = list(backbone.forward()[:2])
        else:
            found = [getattr(backbone, name, None) for name in ("user_embedding", "item_embedding")]
            tables = [table.weight for table in found if isinstance(table, nn.Embedding)]
        if len(tables) < 2:
            name = type(backbone).__name__
            raise UserError(f"student: {name} has no vectors of users and items; choose MF, ML, HistoryEncoder or LightGCN")
        return tables[0] if users is None else tables[0][users], tables[1]

    @cached_property
    def _proposal(self) -> Tensor:
        """[n_items] float64: with what probability each item is drawn for the tail."""
        return popularity_proposal(torch.bincount(self.history.items, minlength=self.n_items))

    def vectors(self, users: Tensor) -> Vectors | None:
        """Users [B] and all items as vectors whose inner products are the scores; None where the backbone has no such."""
        if not isinstance(self.backbone, HasVectors):
            return None
        return self.backbone.vectors(users)._replace(kept_bytes=int(self.config["max_block_mb"] * 2**20))

    def check_trainable(self) -> None:
        """Raise a UserError where the scores do not depend on every parameter: no loss over them can train the model."""
        if not self.base_loss_weight and not self.distillation_weight:
            raise UserError("distillation_weight: 0 and base_loss_weight: 0 leave nothing to learn; raise one of them")
        if self.follows_curriculum and not self.needs.trajectories:
            raise UserError(
                f"curriculum: True, and {type(self).__name__} learns no lists that could follow one; leave it out"
            )
        name = type(self.backbone).__name__
        with torch.random.fork_rng(), torch.enable_grad(), unchanged_buffers(self.backbone):
            scores = self.scores(self.history.active_users[:8])
            parameters = [parameter for parameter in self.backbone.parameters() if parameter.requires_grad]
            gradients = torch.autograd.grad(scores.sum(), parameters, allow_unused=True) if scores.requires_grad else [None]
        if any(gradient is None for gradient in gradients):
            raise UserError(f"student: {name} has no scores that can be trained; choose MF, ML, DL or HistoryEncoder")
        if scores.min() >= 0 and scores.max() <= 1:
            getLogger().warning(f"student: {name} scores lie in [0, 1], where a softmax is nearly flat; DL may learn better")

    @cached_property
    def training_entities(self) -> tuple[str, Tensor] | None:
        """(user field, users with training items) for batches of users; None where batches are of interactions."""
        return (self.USER_ID, self.history.active_users) if self.user_batches else None

    def calculate_loss(self, interaction: Interaction) -> Tensor | tuple[Tensor, Tensor]:
        """The distillation loss, and before it the weighted base loss where that has a weight.

        Args:
            interaction: a batch on any device. On the CPU its unique ids are found without waiting for the student's device
        """
        losses = []
        if self.base_loss_weight:
            base = self.backbone.calculate_loss(_on(self.device, interaction))
            losses.append(self.base_loss_weight * (torch.stack(base).sum() if isinstance(base, tuple) else base))
        if self.distillation_weight:
            losses.append(self.distillation_weight * self.distillation_loss(self._batch(interaction)))
        return losses[0] if len(losses) == 1 else (losses[0], losses[1])

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As ever; what an evaluation of other parameters left behind is dropped."""
        self._forget_evaluation()
        return super().load_state_dict(*args, **kwargs)

    def served_state(self) -> dict[str, Tensor]:
        """The parameters of the saved student: the backbone's, as plain tables."""
        return self.unfolded({name: value for name, value in self.state_dict().items() if not name.startswith("auxiliary.")})

    def unfolded(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """`state` with tables in place of what the method trains in their stead."""
        return state

    def load_served_state(self, state: Mapping[str, Tensor]) -> None:
        """The backbone's parameters from `served_state`."""
        self.load_state_dict({**self.state_dict(), **state})

    def predict(self, interaction: Interaction) -> Tensor:
        return self.backbone.predict(interaction)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        return self.backbone.full_sort_predict(interaction)

    def _batch(self, interaction: Interaction) -> Batch:
        users = interaction[self.USER_ID]
        if self.ITEM_ID not in interaction.columns:  # a batch of users, each there once
            return Batch(users.sort().values.cpu(), None).to(self.device)
        items = positives = interaction[self.ITEM_ID]
        if self.NEG_ITEM_ID in interaction.columns:
            items = torch.cat([items, interaction[self.NEG_ITEM_ID]])
        elif self.config["LABEL_FIELD"] in interaction.columns:
            positives = items[interaction[self.config["LABEL_FIELD"]] > 0]
        return Batch(*(ids.unique().cpu() for ids in (users, items, positives))).to(self.device)

    def _forget_evaluation(self) -> None:
        for name in EVALUATION_CACHES:
            if name in vars(self.backbone):
                setattr(self.backbone, name, None)


def _on(device: Any, interaction: Interaction) -> Interaction:
    """As RecBole's `to`, which waits for the device where there is one."""
    return Interaction({name: sent(values, device) for name, values in interaction.interaction.items()})
