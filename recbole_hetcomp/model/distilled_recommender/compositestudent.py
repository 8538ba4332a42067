"""CompositeStudent: several distillation methods at once, each with its weight, on one student with one base loss.

Source: Kang, Hwang, Kweon, Yu, "DE-RRD: A Knowledge Distillation Framework for Recommender System", CIKM 2020,
https://arxiv.org/abs/2012.04357, which sums DE and RRD; any others can be summed in the same way.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor
from torch.nn.utils import parametrize

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError, close_matches
from recbole_hetcomp.config.registry import get_model, known_models, properties_of
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.teachers.pool import Needs, TeacherPool

# Of the batches, and of what the composite adds to the sum of its methods, not of any of them.
SHARED = ("base_loss_weight", "distillation_weight", "user_batches")


class CompositeStudent(DistilledRecommender):
    """L = L_base + sum over methods of weight * L_method, all on the same student.

    `methods` names them without "Student": {'DE': 0.01, 'RRD': 0.1}. A method's own settings are those of its yaml file,
    unless the user gives others. How the student is trained is the composite's to say: RecBole's training settings in a
    method's yaml file do not hold here. `distillation_weight` multiplies the whole sum.
    """

    in_composite = False

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        with torch.random.fork_rng():  # each builds a student, which the shared one replaces
            self.parts = {name: self._part(config, name, dataset) for name in _checked(config["methods"])}
        if len({part.sums_over_users for part in self.parts.values()}) > 1:
            raise UserError("loss_reduction: 'sum' does not go with methods that take means; set loss_reduction: mean")
        needs = [part.needs for part in self.parts.values()]
        self.needs = Needs(*(any(getattr(one, name) for one in needs) for name in Needs.__dataclass_fields__))

    def _part(self, config: Config, name: str, dataset: Dataset) -> DistilledRecommender:
        method = _method(name)
        own = copy.copy(config)
        own.model, own.model_class = f"{name}Student", method
        own.final_config_dict = {**config.final_config_dict, **self._settings_of(name)}
        part = method(own, dataset)
        part.backbone, part.history, part.generator = self.backbone, self.history, self.generator
        part.is_part = True
        part.beside_others = any(weight for other, weight in config["methods"].items() if other != name)
        return part

    def _settings_of(self, name: str) -> dict[str, Any]:
        """A method's own settings from its yaml file, but those that the user or the composite's file sets."""
        theirs, ours = (properties_of(model) for model in (f"{name}Student", self.config.model))
        defaults, set_here = (self.config.read_yaml(path) if path is not None else {} for path in (theirs, ours))
        of_the_run = {*self.config.parameters["Training"], *SHARED, *set_here}
        return {key: value for key, value in defaults.items() if key not in of_the_run and not self.config.given(key)}

    def learn_from(self, teachers: TeacherPool) -> None:
        """Lets every method take what it learns, and trains its modules beside the student."""
        for name, part in self.parts.items():
            part.learn_from(teachers)
            self.auxiliary[name] = part.auxiliary
            if len(part.apart):
                self.apart[name] = part.apart

    def table_writers(self) -> list[str]:
        """Those of its methods that put other vectors in the place of the student's."""
        return [f"{name}Student" for name, part in self.parts.items() if part.writes_tables]

    @property
    def writes_tables(self) -> bool:
        """Whether one of its methods does."""
        return bool(self.table_writers())

    def check_trainable(self) -> None:
        """Raise a UserError also where two methods would write the same tables, or one could not be trained beside them."""
        super().check_trainable()
        writers = [name.removesuffix("Student") for name in self.table_writers()]
        if len(writers) > 1:
            raise UserError(f"methods: {writers[0]} and {writers[1]} both write the student's tables; leave one of them out")
        if not self.base_loss_weight and not any(self.config["methods"].values()):
            raise UserError("methods: weights of 0 and base_loss_weight: 0 leave nothing to learn; raise one of them")
        for name, part in self.parts.items():
            try:
                part.check_trainable()
            except UserError as error:
                raise UserError(f"methods: {name}: {error.sentence}") from error

    def calculate_loss(self, interaction: Interaction) -> Tensor | tuple[Tensor, Tensor]:
        """As ever, with every table that is a function made once a step, for all methods together."""
        with parametrize.cached():
            return super().calculate_loss(interaction)

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: the sum over the methods of weight * loss, all of the same batch."""
        weights = self.config["methods"]
        return torch.stack([weights[name] * part.distillation_loss(batch) for name, part in self.parts.items()]).sum()

    def loss_apart(self, interaction: Interaction) -> Tensor:
        """[]: the sum over the methods that train something apart; each has modules of its own, so no weights are needed."""
        return torch.stack([self.parts[name].loss_apart(interaction) for name in self.apart]).sum()

    def on_epoch_start(self, epoch: int) -> None:
        """Lets every method draw or rank anew."""
        for part in self.parts.values():
            part.on_epoch_start(epoch)

    def after_validation(self, score: float, epoch: int, ranking: Callable[[], Tensor]) -> str:
        """Hands the score and the student's ranking [U, RANKED] to every method; returns what each says, behind its name."""
        student_topk = ranking()
        lines = {name: part.after_validation(score, epoch, lambda: student_topk) for name, part in self.parts.items()}
        return "; ".join(f"{name}: {line}" for name, line in lines.items() if line)

    def ranks_everyone(self, epoch: int) -> bool:
        """Where any method does."""
        return any(part.ranks_everyone(epoch) for part in self.parts.values())

    @property
    def may_stop_early(self) -> bool:
        """False as long as any method asks to wait."""
        return all(part.may_stop_early for part in self.parts.values())

    @property
    def mean_stages(self) -> list[float] | None:
        """Those of the first method that has a curriculum."""
        return next((part.mean_stages for part in self.parts.values() if part.mean_stages is not None), None)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The groups of all methods, one after the other."""
        return [group for part in self.parts.values() for group in part.parameter_groups()]

    @property
    def sums_over_users(self) -> bool:
        """Whether all methods sum over users; sums and means together are refused when the composite is made."""
        return all(part.sums_over_users for part in self.parts.values())

    @classmethod
    def not_user_by_user(cls, config: Config) -> list[str]:
        """Those of the composite's methods whose loss over a batch is more than its users' parts."""
        methods = map(_method, _checked(config["methods"]))
        return [name for method in methods for name in method.not_user_by_user(config)]

    @classmethod
    def refuses_sequential(cls, config: Config) -> list[str]:
        """Those of its methods."""
        methods = [get_model(f"{name}Student", "methods") for name in config["methods"]]
        return [name for method in methods for name in method.refuses_sequential(config)]

    @classmethod
    def trained_apart(cls, config: Config) -> list[str]:
        """Those of the composite's methods that train something apart from the student."""
        methods = map(_method, _checked(config["methods"]))
        return [name for method in methods for name in method.trained_apart(config)]

    def student_saved(self) -> None:
        """Tells every method."""
        for part in self.parts.values():
            part.student_saved()

    def finish_training(self) -> None:
        """Drops the modules of all methods; each also leaves plain tables where it trained something in their stead."""
        super().finish_training()
        for part in self.parts.values():
            part.finish_training()

    def unfolded(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """`state` with plain tables in place of what any of the methods trains in their stead."""
        for part in self.parts.values():
            state = part.unfolded(state)
        return state

    def load_served_state(self, state: Mapping[str, Tensor]) -> None:
        """Reads plain tables, so what a method trains in their stead is dropped first."""
        self.finish_training()
        super().load_served_state(state)

    def distillation_state(self) -> dict[str, Any]:
        """Each method's state, by its name."""
        return {name: part.distillation_state() for name, part in self.parts.items()}

    def load_distillation_state(self, state: Mapping[str, Any]) -> None:
        """Gives each method its own state back."""
        for name, part in self.parts.items():
            part.load_distillation_state(state[name])


def _method(name: str) -> type[DistilledRecommender]:
    """The class of a method that `methods` names."""
    return get_model(f"{name}Student")


def _checked(methods: object) -> Mapping[str, float]:
    """Raise a UserError for anything but names with weights."""
    single = sorted(name[: -len("Student")] for name in known_models() if name.endswith("Student") and _is_single(name))
    if not (isinstance(methods, Mapping) and methods and all(map(_is_weight, methods.values()))):
        raise UserError(f"methods: {methods!r} is not of the form {{'DE': 0.01, 'RRD': 0.1}}, with weights of at least 0")
    for name in methods:
        if name not in single:
            known = close_matches(str(name).removesuffix("Student"), single) or f"; choose from {', '.join(single)}"
            raise UserError(f"methods: {name!r} is no single distillation method{known}")
    return methods


def _is_weight(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def _is_single(name: str) -> bool:
    model = get_model(name)
    return issubclass(model, DistilledRecommender) and model.in_composite
