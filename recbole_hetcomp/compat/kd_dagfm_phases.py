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

    In the finetuning, where nobody asks the teacher, there is none; nor is there in a model that a checkpoint will fill.
    """

    def __init__(self: nn.Module, config: Any, dataset: Any) -> None:  # noqa: N807
        from recbole_hetcomp.trainer.building import is_filled_later

        phase = _phase(config)
        if is_filled_later() and phase != "teacher_training":
            config["phase"] = "teacher_training"  # the phase that reads no file
            try:
                stock(self, config, dataset)
            finally:
                config["phase"] = phase
            vars(self).update(phase=phase, begun=True)
            del self.teacher_network
            return
        _check_file(config)
        stock(self, config, dataset)
        if self.phase == "distillation":
            self.teacher_network.requires_grad_(False)
        if self.phase == "finetuning":
            del self.teacher_network

    return __init__


def _phase(config: Any) -> str:
    """The phase; raise a UserError for one that is none."""
    phase = config["phase"]
    if phase not in PHASES:
        raise UserError(f"phase: {shown(phase)} is none of {', '.join(PHASES)}")
    return str(phase)


def _check_file(config: Any) -> None:
    """Raise a UserError for a phase that begins with nothing, and for a finetuning that begins with a teacher's file."""
    from recbole_hetcomp.trainer.checkpoint import load_checkpoint

    phase, file = config["phase"], config["warm_up"]
    if phase == "teacher_training":
        return
    if not (isinstance(file, str) and os.path.isfile(file)):
        before = PHASES[PHASES.index(phase) - 1]
        raise UserError(f"warm_up: {shown(file)} is no file; phase {phase} begins with the .pth file of phase {before}")
    if phase == "finetuning" and (load_checkpoint(file).get("config") or {}).get("phase") == "teacher_training":
        raise UserError(f"warm_up: {shown(file)} is of phase teacher_training; give the file of phase distillation")


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
        LookupError: the phase would begin with a file that has no teacher, or no student.
    """
    own = {name for name, _ in self.named_parameters() if name.startswith(TEACHER)}
    if self.phase != "teacher_training" and "begun" not in vars(self):  # the constructor reads the file to begin with
        vars(self)["begun"] = True
        if self.phase == "distillation" and not own <= set(state_dict):
            raise LookupError("it has no teacher; give the file of phase teacher_training")
        if {name for name in nn.Module.state_dict(self) if name not in own} - set(state_dict):
            raise LookupError(f"it is of another model; give the file of phase {PHASES[PHASES.index(self.phase) - 1]}")
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
