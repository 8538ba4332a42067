"""RLKDStudent: reinforced selection of teachers; a policy learns, by trial, whose lists each user's student gains from.

Source: Yuan, Shou, Pei, Lin, Gong, Fu, Jiang, "Reinforced Multi-Teacher Selection for Knowledge Distillation", AAAI 2021,
https://arxiv.org/abs/2012.06048. For lists of recommendations, and the reward `improve`, ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor, nn
from torch.nn.functional import softplus

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.history import users_per_block
from recbole_hetcomp.data.transfer import to_device
from recbole_hetcomp.knowledge.selection import (
    DelayedReward,
    consensus,
    evidence,
    policy_loss,
    probabilities,
    standardised,
    starting_logit,
)
from recbole_hetcomp.knowledge.sorted_rows import in_same_row
from recbole_hetcomp.losses.streaming import Vectors
from recbole_hetcomp.model.backbone import evaluating
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.lists_student import ListsStudent, mean_of
from recbole_hetcomp.model.target_lists import RANKED
from recbole_hetcomp.teachers.pool import Needs, TeacherPool
from recbole_hetcomp.teachers.single import SingleTeacher

HISTORY_AT_ONCE = 64  # items of the histories whose scores are asked for at once, each with a vector a user


class Trial(NamedTuple):
    """What the policy did for a batch, until the reward is known."""

    users: Tensor  # [B]
    state: Tensor  # [B, M, F]
    selected: Tensor  # [B, M] bool, whom the student listened to
    actions: Tensor  # [B, M] bool, as drawn: all teachers are heard where none was drawn
    free: Tensor  # [B, M] bool, where there was a choice
    before: Tensor  # [B] the users' own loss before the step
    draws: Tensor  # state of the generator, so that after the step the same tail is drawn


class Policy(nn.Module):
    """P(teacher m is selected | its state) = `probabilities` of w_m . state + b_m: one weight vector a teacher."""

    def __init__(self, n_teachers: int, n_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_teachers, n_features))
        self.bias = nn.Parameter(torch.full((n_teachers,), starting_logit()))

    def forward(self, state: Tensor) -> Tensor:
        """[B, M] from the state [B, M, F]."""
        return probabilities((state * self.weight).sum(2) + self.bias)


class RLKDStudent(ListsStudent):
    """L = L_base + weight * mean over users of the mean of PL(list of teacher m; tail) over the m that a policy selects.

    For each user of a batch each teacher is drawn, or not, with the policy's probability; where none is, all are heard.
    After the student's step the reward of each user is known, and REINFORCE moves the policy, which is trained apart from
    the student. A user's own loss is the mean over the training items of -log softmax, each among itself and all items that
    are not in training. Where a single teacher has a list there is no choice: with one teacher it is MTDStudent with
    uniform weights.
    """

    needs = Needs(trajectories=True)
    trains_apart = True
    user_by_user = False  # actions are drawn for the batch, and rewards are compared within it

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.epoch = 0
        self.trial: Trial | None = None
        self.student_lists = torch.zeros(self.history.n_users, RANKED, dtype=torch.int32, device=self.device)
        self.activity = self.history.counts.float().log1p().to(self.device)  # [U]
        self.evidence = torch.zeros(0)  # [U, M, 0 or 2], what the teachers' scores tell
        self.selection = torch.zeros(0)  # [U, M], the probabilities when a user was last met; for the log
        self.delayed = DelayedReward()

    def make_weights(self, teachers: TeacherPool) -> None:
        """Makes the policy, and what it is told of the teachers."""
        self.selection = (self.learned_lists > 0).any(2).float()
        self.evidence = self._evidence(teachers).to(self.device)
        size = self._user_vectors(self.history.active_users[:1].to(self.device)).size(1)
        n_features = size + 5 + self.evidence.size(2)
        policy = self.apart["policy"] = Policy(len(teachers), n_features).to(self.device)
        self.delayed = DelayedReward(sum(parameter.numel() for parameter in policy.parameters()), self.device)

    def on_epoch_start(self, epoch: int) -> None:
        """Notes the epoch, which the policy is told."""
        super().on_epoch_start(epoch)
        self.epoch = epoch

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: the mean over the batch's users of the mean PL over the selected teachers."""
        losses, has_list = self.list_losses(batch.users)
        self.trial = None
        if losses.size(1) == 1 or self.epoch < self.config["warmup_epochs"]:
            return mean_of(losses, has_list).mean()
        self.trial = self._try(batch.users, losses.detach(), has_list)
        return mean_of(losses, self.trial.selected).mean()

    @torch.no_grad()
    def _try(self, users: Tensor, losses: Tensor, has_list: Tensor) -> Trial:
        state = self._state(users, losses, has_list)
        probability = self.apart["policy"](state)
        self.selection[users] = probability.to(self.selection.dtype) * has_list
        free = has_list & (has_list.sum(1, keepdim=True) > 1)
        drawn = to_device(torch.rand(losses.shape, generator=self.generator), self.device) < probability
        actions = has_list & (drawn | ~free)
        selected = torch.where(actions.any(1, keepdim=True), actions, has_list)
        draws = self.generator.get_state()
        return Trial(users, state, selected, actions, free, self._own_losses(users), draws)

    def loss_apart(self, interaction: Interaction) -> Tensor:
        """[]: REINFORCE's loss of the last batch's actions, after the student's step; 0 where there was no choice."""
        policy = self.apart["policy"]
        trial, self.trial = self.trial, None
        if trial is None:
            return torch.stack([parameter.sum() for parameter in policy.parameters()]).sum() * 0.0
        present = torch.ones_like(trial.before, dtype=torch.bool)
        probability = policy(trial.state)
        loss = policy_loss(probability, trial.actions, trial.free, standardised(self._rewards(trial), present))
        if self.config["reward"] != "r3":
            return loss
        self.delayed.note(policy_loss(probability, trial.actions, trial.free, -torch.ones_like(trial.before)), policy)
        share = self.config["validation_share"]
        return (1 - share) * loss - share * self.delayed.reward(policy)

    @torch.no_grad()
    def _rewards(self, trial: Trial) -> Tensor:
        """[B]: what each user's actions have brought, after the student's step."""
        now = self.generator.get_state()
        self.generator.set_state(trial.draws)
        after = self._own_losses(trial.users)
        self.generator.set_state(now)
        if self.config["reward"] == "improve":
            return trial.before - after
        if self.config["reward"] == "r1":
            return -after
        with evaluating(self.backbone):
            losses, _ = self.list_losses(trial.users)
        return -after - self.distillation_weight * mean_of(losses, trial.selected)

    @torch.no_grad()
    def _own_losses(self, users: Tensor) -> Tensor:
        """[B]: the mean over a user's training items of -log softmax, each among itself and what is not in training.

        As in evaluation: what dropout does to two passes differs by more than a step.
        """
        history, total = self.history.padded(users), self.activity.new_zeros(len(users))
        # a step changes less than half precision tells apart
        with evaluating(self.backbone), torch.autocast(self.device.type, enabled=False):
            catalogue = self.catalogue(users)
            mass = catalogue.log_mass(history)[:, None]
            for part in history.split(HISTORY_AT_ONCE, 1):
                rows, asked = slice(None), catalogue
                if isinstance(catalogue, Vectors) and part.device.type == "cpu":  # elsewhere to know would mean to wait
                    rows = part[:, 0].nonzero().squeeze(1)  # few histories are long
                    asked = catalogue._replace(users=catalogue.users[rows])
                scores, present = asked.listed(part[rows])
                total[rows] += (softplus(mass[rows] - scores) * present).sum(1)
        return total / (history > 0).sum(1).clamp(min=1)

    @torch.no_grad()
    def _user_vectors(self, users: Tensor) -> Tensor:
        """[B, d]: the student's vectors of `users` [B], as in evaluation; [B, 0] where it has none."""
        with evaluating(self.backbone):
            try:
                vectors = self.vectors(users)
                return self.embeddings(users)[0] if vectors is None else vectors.users
            except UserError:
                return self.activity.new_zeros(len(users), 0)

    def _state(self, users: Tensor, losses: Tensor, has_list: Tensor) -> Tensor:
        """[B, M, F]: of the user the vector and the number of items, the part of the training that is over, and of each
        teacher's list how much the student and the others have of it, its loss, and `evidence`; standardised over users.
        """
        items, n_teachers = self.learned_lists[users], losses.size(1)
        listed = items.flatten(1)
        shared = (in_same_row(listed, self.student_lists[users]) & (listed > 0)).view(items.shape).sum(2)
        overlap = shared / (items > 0).sum(2).clamp(min=1)
        own = torch.stack([overlap, consensus(self.members[users], n_teachers), losses], 2)
        own = standardised(torch.cat([own, self.evidence[users]], 2), has_list[:, :, None])
        of_users = torch.cat([self.activity[users][:, None], self._user_vectors(users)], 1)
        of_users = standardised(of_users, torch.ones_like(of_users, dtype=torch.bool))
        over = torch.full_like(of_users[:, :1], self.epoch / self.config["epochs"])
        return torch.cat([torch.cat([of_users, over], 1)[:, None].expand(-1, n_teachers, -1), own], 2)

    def _evidence(self, teachers: TeacherPool) -> Tensor:
        """[U, M, 2] on the CPU, where all teachers are models: their `evidence` on each user; else [U, M, 0]."""
        if any(teacher.load is None for teacher in teachers.teachers):
            return torch.zeros(self.history.n_users, len(teachers), 0)
        found = torch.zeros(self.history.n_users, len(teachers), 2)
        lists = teachers.topk(RANKED)
        for m, teacher in enumerate(teachers.teachers):
            single = SingleTeacher.from_config(TeacherPool([teacher]), self.history, self.config)
            for users in self.history.active_users.split(users_per_block(self.n_items, self.config["max_block_mb"])):
                scores = single.standardised(users).cpu()
                top, history = lists[m, users].long(), self.history.padded(users)
                parts = scores.gather(1, top), top > 0, scores.gather(1, history), history > 0
                found[users, m] = evidence(*parts, scores[:, 1:].logsumexp(1))
        return found

    def after_validation(self, score: float, epoch: int, ranking: Callable[[], Tensor]) -> str:
        """Rewards by `r3` what was done since the last validation."""
        self.delayed.settle(score if self.config["valid_metric_bigger"] else -score)
        return super().after_validation(score, epoch, ranking)

    def ranks_everyone(self, epoch: int) -> bool:
        """The policy looks at each user's list."""
        return True

    def on_validation(self, student_topk: Tensor, epoch: int) -> str:
        """Notes the student's lists; adds to the log how probable the selection of each teacher is, in the mean."""
        line = super().on_validation(student_topk, epoch)
        self.student_lists = student_topk.to(self.device, torch.int32)
        rates = self.selection[self.history.active_users.to(self.device)].mean(0)
        return f"{line}, selected {' '.join(f'{rate:.3f}' for rate in rates.tolist())}"

    def distillation_state(self) -> dict[str, Any]:
        """What the policy has seen, beside where the curriculum is."""
        own = {"student_lists": self.student_lists, "selection": self.selection, "delayed": self.delayed.state()}
        return {**super().distillation_state(), **own}

    def load_distillation_state(self, state: Mapping[str, Any]) -> None:
        """Puts back what the policy has seen, and the curriculum.

        Raises:
            ValueError: it is of other users or teachers.
        """
        super().load_distillation_state(state)
        for name in ("student_lists", "selection"):
            if state[name].shape != getattr(self, name).shape:
                raise ValueError(f"{name} are of other users or teachers")
            setattr(self, name, state[name].to(self.device))
        self.delayed.load(state["delayed"])
