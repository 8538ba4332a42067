"""The core of every distilled model: a backbone that RecBole could train alone, and a loss that takes teachers' knowledge.

What a model predicts, a ranking or a click, is a subclass's; `student.py` has the one for rankings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import student_class
from recbole_hetcomp.config.settings import check_settings
from recbole_hetcomp.config.strict import StrictConfig
from recbole_hetcomp.data.transfer import to_device
from recbole_hetcomp.model.backbone import forget_evaluation_of
from recbole_hetcomp.model.target_lists import TargetLists
from recbole_hetcomp.teachers.pool import Needs


class Distilled(AbstractRecommender):
    """A backbone with a distillation loss. Its saved state is the backbone's, so it needs no teacher to serve.

    A subclass also derives from the RecBole class of its kind, such as GeneralRecommender, which follows in the order of
    base classes.

    Attributes:
        backbone: the student
        auxiliary: modules trained beside the student; the saved student does without them
        apart: modules that `loss_apart` trains, by an optimiser of their own; the saved student does without them, too
        base_loss_weight, distillation_weight: of the two parts of the loss
        generator: of the method's own draws, on the CPU
        lists: of methods that learn lists
    """

    input_type = InputType.PAIRWISE  # the Config puts the backbone's own in its place
    needs: Needs = Needs()
    trains_apart: ClassVar[bool] = False  # whether `learn_from` puts something in `apart`
    in_composite: ClassVar[bool] = True  # whether it may be one of a composite's methods
    decides: ClassVar[tuple[str, ...]] = ()  # settings of its student that its result has for what begins with it
    is_part = False  # whether it is one of a composite's methods
    beside_others = False  # whether the composite has others with a weight

    def __init__(self, config: Config, dataset: Dataset) -> None:
        strict = StrictConfig(config)
        super().__init__(strict.plain, dataset)
        check_settings(strict.plain)
        self.config = strict
        self.backbone = student_class(type(self), str(config["student"]))(strict.plain, dataset)
        self.base_loss_weight = float(config["base_loss_weight"])
        self.distillation_weight = float(config["distillation_weight"])
        self.auxiliary, self.apart = nn.ModuleDict(), nn.ModuleDict()
        self.lists: TargetLists | None = None
        self.generator = torch.Generator().manual_seed(int(config["seed"]))

    # ---- what a method adds -------------------------------------------------------------------------------------------

    def learn_from(self, teachers: Any) -> None:
        """Take from the teachers what the loss needs; once, before training."""
        raise NotImplementedError

    def loss_of(self, interaction: Interaction) -> Tensor:
        """[]: the distillation loss of a RecBole batch, on any device."""
        raise NotImplementedError

    def loss_apart(self, interaction: Interaction) -> Tensor:
        """[]: the loss of what is trained `apart`, after the student's step on the same batch; it reaches nothing else."""
        raise NotImplementedError

    def on_epoch_start(self, epoch: int) -> None:
        """Before each epoch, counted from 0: for what is drawn or ranked anew."""

    def after_validation(self, score: float, epoch: int, ranking: Callable[[], Tensor]) -> str:
        """After each validation; returns what the log should say of the method's state.

        Args:
            score: the validation metric
            epoch: epochs trained
            ranking: makes [U, RANKED], the student's best items outside the training items, of all users where the method
                `ranks_everyone`, else of some, and 0 for the others; dear, so asked for if needed
        """
        return ""

    def student_saved(self) -> None:
        """When the student as it is now is saved as the best so far: for what belongs to that student."""

    def finish_training(self) -> None:
        """Leave what is served, and nothing else: at the end of training."""
        self.auxiliary, self.apart = nn.ModuleDict(), nn.ModuleDict()

    @classmethod
    def settings_for_next(cls, config: Config, state: Mapping[str, Tensor]) -> dict[str, Any]:
        """What it `decides` for a model that begins with its result, of which `state` is the served state."""
        return {}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """torch's groups for the parameters that one of the optimiser's settings, such as `weight_decay`, does not suit."""
        return []

    @property
    def may_stop_early(self) -> bool:
        """Whether early stopping may count; False while what is to be learnt still changes."""
        return True

    @property
    def phase(self) -> str:
        """Which of its losses holds now, where it changes from one to another; else the empty string."""
        return ""

    def ranks_everyone(self, epoch: int) -> bool:
        """Whether what comes after the validation of `epoch` takes the ranking of all users.

        Here where a curriculum may move. Otherwise some are ranked, and what they say goes to the log and the report alone.
        """
        return self.lists is not None and self.lists.may_move(epoch)

    @property
    def mean_stages(self) -> list[float] | None:
        """Each teacher's mean checkpoint over the users, counted from 0; None where there is no curriculum."""
        return None if self.lists is None else self.lists.curriculum.mean_stages

    def distillation_state(self) -> dict[str, Any]:
        """All that changes during training and is no parameter: tensors and plain values, for an exact resume."""
        return {}

    def load_distillation_state(self, state: Mapping[str, Any]) -> None:
        """Continue where `distillation_state` was taken."""

    # ---- what every method has ----------------------------------------------------------------------------------------

    @property
    def training_entities(self) -> tuple[str, Tensor] | None:
        """(id field, ids) for batches of entities, each once an epoch; None where batches are of interactions."""
        return None

    def table_writers(self) -> list[str]:
        """The methods that put other vectors in the place of the student's."""
        return [type(self).__name__] if self.writes_tables else []

    @property
    def has_other_loss(self) -> bool:
        """Whether the student also learns by its own loss, or by other methods of a composite."""
        return bool(self.base_loss_weight) or self.beside_others

    @property
    def writes_tables(self) -> bool:
        """Whether `learn_from` puts other vectors in the place of the student's, whatever these were."""
        return False

    def check_trainable(self) -> None:
        """Raise a UserError where no loss could train the model, or where what it starts from would be lost."""
        if self.config["start_from"] is not None and self.writes_tables:
            raise UserError(
                f"start_from: {self.config['start_from']}'s result would be lost, since {self.table_writers()[0]} writes "
                "the student's tables itself; leave start_from out"
            )
        if not self.base_loss_weight and not self.distillation_weight:
            raise UserError("distillation_weight: 0 and base_loss_weight: 0 leave nothing to learn; raise one of them")

    def calculate_loss(self, interaction: Interaction) -> Tensor | tuple[Tensor, Tensor]:
        """The distillation loss, and before it the weighted base loss where that has a weight.

        Args:
            interaction: a batch on any device. On the CPU its unique ids are found without waiting for the student's device
        """
        losses = []
        if self.base_loss_weight:
            losses.append(self.base_loss_weight * self.base_loss(interaction))
        if self.distillation_weight:
            losses.append(self.distillation_weight * self.loss_of(interaction))
        return losses[0] if len(losses) == 1 else (losses[0], losses[1])

    def base_loss(self, interaction: Interaction) -> Tensor:
        """The student's own loss of a batch on any device, as RecBole's class of it has it."""
        loss = self.backbone.calculate_loss(on_device(self.device, interaction))
        return torch.stack(loss).sum() if isinstance(loss, tuple) else loss

    def predict(self, interaction: Interaction) -> Tensor:
        """[B]: the student's scores of a batch of pairs."""
        return self.backbone.predict(interaction)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """[B x n_items] or [B, n_items]: the student's scores of all items."""
        return self.backbone.full_sort_predict(interaction)

    def load_state_dict(self, state_dict: Mapping[str, Tensor], *args: bool, **kwargs: bool) -> object:
        """As ever; what an evaluation of other parameters left behind is dropped."""
        self.forget_evaluation()
        return super().load_state_dict(state_dict, *args, **kwargs)

    def served_state(self) -> dict[str, Tensor]:
        """The parameters of the saved student: the backbone's, as plain tables."""
        state, beside = self.state_dict(), ("auxiliary.", "apart.")
        return self.unfolded({name: value for name, value in state.items() if not name.startswith(beside)})

    def unfolded(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """`state` with tables in place of what the method trains in their stead."""
        return state

    def load_served_state(self, state: Mapping[str, Tensor]) -> None:
        """The backbone's parameters from `served_state`."""
        self.load_state_dict({**self.state_dict(), **state})

    def forget_evaluation(self) -> None:
        """Drop what the backbone computed from parameters that may have changed since."""
        forget_evaluation_of(self.backbone)


def on_device(device: torch.device, interaction: Interaction) -> Interaction:
    """The batch on `device`; as RecBole's `to`, which waits for the device where there is one."""
    return Interaction({name: to_device(values, device) for name, values in interaction.interaction.items()})
