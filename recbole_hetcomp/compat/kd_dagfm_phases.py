"""RecBole's KD_DAGFM on any device, in each of its phases, and saved without its teacher."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from recbole.model.context_aware_recommender import kd_dagfm
from torch import nn

from recbole_hetcomp.compat.replacing import Undo, replaced
from recbole_hetcomp.config.errors import UserError, shown

TEACHER = "teacher_network."
PHASES = ("teacher_training", "distillation", "finetuning")


def placing_the_graph_with_the_model(stock: Callable[..., None]) -> Callable[..., None]:
    """The constructor of the student network, whose matrix of edges goes where the model goes, as a buffer."""

    def __init__(self: nn.Module, config: Any) -> None:  # noqa: N807
        stock(self, config)
        edges = torch.as_tensor(self.adj_matrix).cpu()
        del self.adj_matrix
        self.register_buffer("adj_matrix", edges, persistent=False)

    return __init__


def of_one_phase(stock: Callable[..., None]) -> Callable[..., None]:
    """The model's constructor: wrong phases are a sentence, and a teacher that does not learn has no gradients.

    In the finetuning, where nobody asks the teacher, there is none.
    """

    def __init__(self: nn.Module, config: Any, dataset: Any) -> None:  # noqa: N807
        _check(config)
        stock(self, config, dataset)
        if self.phase == "distillation":
            self.teacher_network.requires_grad_(False)
        if self.phase == "finetuning":
            del self.teacher_network

    return __init__


def _check(config: Any) -> None:
    """Raise a UserError for a phase that is none, and for one that begins with nothing."""
    phase, file = config["phase"], config["warm_up"]
    if phase not in PHASES:
        raise UserError(f"phase: {shown(phase)} is none of {', '.join(PHASES)}")
    if phase != "teacher_training" and not (isinstance(file, str) and os.path.isfile(file)):
        before = PHASES[PHASES.index(phase) - 1]
        raise UserError(f"warm_up: {shown(file)} is no file; phase {phase} begins with the .pth file of phase {before}")


def state_dict(self: nn.Module, *arguments: Any, **settings: Any) -> dict[str, Any]:
    """The parameters, but for the teacher's once there is a student."""
    state = nn.Module.state_dict(self, *arguments, **settings)
    if self.phase != "teacher_training":
        beginning = settings.get("prefix", "") + TEACHER
        for name in [name for name in state if name.startswith(beginning)]:
            del state[name]
    return state


def load_state_dict(self: nn.Module, state_dict: Mapping[str, Any], *arguments: Any, **settings: Any) -> Any:
    """As ever; a student's file has no teacher, and a teacher that is not there is not read.

    Raises:
        LookupError: the distillation would begin with a file that has no teacher.
    """
    own = {name for name, _ in self.named_parameters() if name.startswith(TEACHER)}
    if self.phase == "distillation" and "begun" not in vars(self):  # the constructor reads the file of the teacher
        vars(self)["begun"] = True
        if not own <= set(state_dict):
            raise LookupError("it has no teacher; give the file of phase teacher_training")
    needed = {name: value for name, value in state_dict.items() if name in own or not name.startswith(TEACHER)}
    present = nn.Module.state_dict(self)
    filled = {name: present[name] for name in own - set(needed)} if self.phase != "teacher_training" else {}
    return nn.Module.load_state_dict(self, {**needed, **filled}, *arguments, **settings)


def keep_the_teacher_out() -> Undo:
    """Puts the three into RecBole's class; the function returned takes them back."""
    model = kd_dagfm.KD_DAGFM
    return replaced(model, __init__=of_one_phase(model.__init__), state_dict=state_dict, load_state_dict=load_state_dict)


def keeps_its_teacher() -> bool:
    """Whether the model is RecBole's own, which saves its teacher with the student."""
    return "state_dict" not in vars(kd_dagfm.KD_DAGFM)
