"""HTDStudent: hierarchical topology distillation; relations within groups, and of groups, for students of small capacity.

Source: Kang, Hwang, Kweon, Yu, "Topology Distillation for Recommender System", KDD 2021, https://arxiv.org/abs/2106.08700.

In the authors' code the student's group prototypes are cut off from the gradient; here it flows through them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_hetcomp.losses.topology import entity_topology, group_topology
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.embedding_student import Side, squared_distance
from recbole_hetcomp.model.expert_student import ExpertStudent


class HTDStudent(ExpertStudent):
    """L = L_base + weight * (share * (entity + group topology) + (1 - share) * L_GA).

    L_GA, which makes the groups, is the loss of the experts (model/expert_student.py), a mean over the batch's users and
    items. An entity's group is its likeliest expert; users and items have groups of their own. The topologies are means
    over pairs; see losses/topology.py.
    """

    def groups(self, side: Side) -> Tensor:
        """[n] int64: the group of each row; those of the items are counted on from those of the users."""
        first = self.config["n_experts"] if side.name == "item" else 0
        return self.experts_of(side).gate_logits(side.teacher).argmax(1) + first

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: share * (entity + group topology) + (1 - share) * the experts' mean squared distance from the teacher."""
        sides = self.sides(batch, self.config["entities_per_batch"])
        student, teacher = torch.cat([side.student for side in sides]), torch.cat([side.teacher for side in sides])
        groups = torch.cat([self.groups(side) for side in sides])
        assigning = squared_distance(torch.cat([self.projected(side) for side in sides]), teacher).mean()
        of_groups = group_topology(student, teacher, groups, 2 * self.config["n_experts"], self.config["group_topology"])
        topology = entity_topology(student, teacher, groups) + of_groups
        share = self.config["topology_share"]
        return share * topology + (1 - share) * assigning
