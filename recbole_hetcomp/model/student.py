"""The student: a small RecBole recommender, any, that learns from teachers what its own loss does not teach it.

A distillation method is a subclass with two or three methods; see docs/adding_a_method.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from logging import getLogger
from typing import Any, ClassVar

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AutoEncoderMixin, GeneralRecommender
from recbole.utils import ModelType
from torch import Tensor

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.asked import asked_by
from recbole_hetcomp.data.fitting import batches_of_users
from recbole_hetcomp.data.history import History
from recbole_hetcomp.data.sequences import Sequences
from recbole_hetcomp.data.split import split_seed
from recbole_hetcomp.data.transfer import to_device
from recbole_hetcomp.losses.catalogue import Catalogue, Dense
from recbole_hetcomp.losses.lookup import look_up
from recbole_hetcomp.losses.sampling import Sampled, draw, popularity_proposal
from recbole_hetcomp.losses.streaming import Vectors
from recbole_hetcomp.model.backbone import HasVectors, embeddings_of
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.buffers import unchanged_buffers
from recbole_hetcomp.model.distilled import Distilled
from recbole_hetcomp.model.target_lists import TargetLists, check_target_lists
from recbole_hetcomp.teachers.pool import TeacherPool
from recbole_hetcomp.teachers.ranking import full_scores, top_unobserved


class DistilledRecommender(Distilled, GeneralRecommender):
    """Learns what to recommend: a general recommender as the backbone, and a loss over users and items.

    Without a base loss it trains on batches of users, each once an epoch; with one (or with `user_batches: False`) on
    RecBole's batches of interactions, and the distillation loss is taken over their unique users and items.
    """

    # Whether a user's part of the loss is the same in every batch: users are not paired, nothing is drawn for the batch.
    user_by_user: ClassVar[bool] = True
    families: ClassVar[tuple[str, ...]] = ("general", "sequential")  # of the students that it is defined for

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.user_batches = batches_of_users(config)
        self.type = self.backbone.type  # RecBole's Trainer and loaders ask for it
        points = config["points_per_user"] if self.type == ModelType.SEQUENTIAL else 0
        self.history = Sequences.of_part(dataset, points, split_seed(config)) if points else History.of(dataset)
        check_target_lists(config, follow=self.follows_curriculum)

    # ---- what a method adds -------------------------------------------------------------------------------------------

    def distillation_loss(self, batch: Batch) -> Tensor:
        """The loss [] over a batch, a mean over its users."""
        raise NotImplementedError

    def on_validation(self, student_topk: Tensor, epoch: int) -> str:
        """After each validation; returns what the log should say of the method's state.

        Args:
            student_topk: [U, RANKED] the student's best items outside the training items; 0 for whom it has not ranked
            epoch: epochs trained
        """
        if self.lists is None:
            return ""
        self.lists.advance(student_topk, epoch)
        return self.lists.state_line(student_topk, self.history.active_users)

    @property
    def sums_over_users(self) -> bool:
        """Whether `distillation_loss` is a sum over the users of a batch instead; several processes add up their parts."""
        return False

    @classmethod
    def not_user_by_user(cls, config: Config) -> list[str]:
        """The methods of a run of `config` whose loss over a batch is more than its users' parts: these cannot be split."""
        return [] if cls.user_by_user else [cls.__name__]

    @classmethod
    def refuses_sequential(cls, config: Config) -> list[str]:
        """The methods of a run of `config` that are not defined for a student that is asked by sequences."""
        return [] if "sequential" in cls.families else [cls.__name__]

    @classmethod
    def trained_apart(cls, config: Config) -> list[str]:
        """The methods of a run of `config` that train something apart from the student."""
        return [cls.__name__] if cls.trains_apart else []

    # ---- what every method has ----------------------------------------------------------------------------------------

    def loss_of(self, interaction: Interaction) -> Tensor:
        """[]: the distillation loss over the users of RecBole's batch and, where it has any, its items."""
        return self.distillation_loss(self._batch(interaction))

    def after_validation(self, score: float, epoch: int, ranking: Callable[[], Tensor]) -> str:
        """Makes the student's ranking [U, RANKED] and hands it to `on_validation`, whose words for the log it returns."""
        return self.on_validation(ranking(), epoch)

    @property
    def may_stop_early(self) -> bool:
        """False while the curriculum of the lists still moves, where `patience_from_switch` asks to wait for its end."""
        return self.lists is None or self.lists.may_stop_early

    def distillation_state(self) -> dict[str, Any]:
        """Where the curriculum of the lists is; empty for a method without lists."""
        return {} if self.lists is None else {"lists": self.lists.state_dict()}

    def load_distillation_state(self, state: Mapping[str, Any]) -> None:
        """Puts the curriculum back to where it was, and the lists with it."""
        if self.lists is not None:
            self.lists.load_state_dict(state["lists"])

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
        return top_unobserved(self.asked, self.history, k, max_block_mb=self.config["max_block_mb"])

    @property
    def asked(self) -> Any:
        """This model as it is asked for the users, or rows, of its history."""
        return asked_by(self, self.history)

    def scores(self, users: Tensor) -> Tensor:
        """[B, n_items] the student's scores of all items for `users` [B], with gradients."""
        self.forget_evaluation()
        scores = full_scores(asked_by(self.backbone, self.history), users)
        self.forget_evaluation()  # what was kept hangs on this graph
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
        return Sampled(
            lambda listed: self.pair_scores(users, listed), to_device(items, self.device), to_device(log_q, self.device)
        )

    def pair_scores(self, users: Tensor, items: Tensor) -> Tensor:
        """[B, n] the student's scores of `items` [B, n] for `users` [B], with gradients."""
        vectors = self.vectors(users)
        if vectors is not None:
            return vectors.listed(items).scores
        if isinstance(self.backbone, AutoEncoderMixin) or isinstance(self.history, Sequences):  # one vector, all items
            return self.scores(users).gather(1, items.long())
        pairs = {self.USER_ID: users.repeat_interleave(items.size(1)), self.ITEM_ID: items.reshape(-1)}
        self.forget_evaluation()
        return self.backbone.predict(Interaction(pairs)).view(items.shape)

    def scores_of_users(self, items: Tensor, users: Tensor) -> Tensor:
        """[N, n] the student's scores of `users` [N, n] for `items` [N], both on the CPU, with gradients."""
        pairs, of_pairs = users.reshape(-1), to_device(items.repeat_interleave(users.size(1))[:, None], self.device)
        distinct, place = pairs.unique(return_inverse=True)  # where a vector is dear, each is made once
        vectors = self.vectors(to_device(distinct, self.device))
        if vectors is None:
            return self.pair_scores(to_device(pairs, self.device), of_pairs).view(users.shape)
        of_users = look_up(vectors.users, to_device(place, self.device))
        return Vectors(of_users, vectors.items).listed(of_pairs).scores.view(users.shape)

    def embeddings(self, users: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(`users` [B], or all, as [B, d]; all items [I, d]) with gradients; of a graph model those its scores come from.

        Raises:
            UserError: the student has no vectors of both.
        """
        if isinstance(self.history, Sequences):
            vectors = self.vectors(torch.arange(self.history.n_users, device=self.device) if users is None else users)
            if vectors is None:
                raise UserError(f"student: {type(self.backbone).__name__} has no vectors; choose GRU4Rec, SASRec or FPMC")
            return vectors.users, vectors.items
        return embeddings_of(self.backbone, users)

    @cached_property
    def _proposal(self) -> Tensor:
        """[n_items] float64: with what probability each item is drawn for the tail."""
        return popularity_proposal(self.history.popularity)

    def vectors(self, users: Tensor) -> Vectors | None:
        """Users [B] and all items as vectors whose inner products are the scores; None where the backbone has no such."""
        asked = asked_by(self.backbone, self.history)
        vectors = asked.vectors(users) if isinstance(asked, HasVectors) else None
        return vectors and vectors._replace(stored_bytes=int(self.config["max_block_mb"] * 2**20))

    def check_trainable(self) -> None:
        """Raise a UserError where the scores do not depend on every parameter: no loss over them can train the model.

        Of a composite's method the composite has checked this.
        """
        super().check_trainable()
        if self.is_part:
            return
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

    def _batch(self, interaction: Interaction) -> Batch:
        users = interaction[self.USER_ID]
        if self.ITEM_ID not in interaction.columns:  # a batch of users, each there once
            return Batch(users.sort().values.cpu(), None).to(self.device)
        if isinstance(self.history, Sequences):
            users = self.history.drawn_rows(users.unique().cpu(), self.generator)
        items = positives = interaction[self.ITEM_ID]
        if self.NEG_ITEM_ID in interaction.columns:
            items = torch.cat([items, interaction[self.NEG_ITEM_ID]])
        elif self.config["LABEL_FIELD"] in interaction.columns:
            positives = items[interaction[self.config["LABEL_FIELD"]] > 0]
        return Batch(*(ids.unique().cpu() for ids in (users, items, positives))).to(self.device)
