"""Which trainer a model has: ours for students and for batches of entities, else RecBole's."""

from __future__ import annotations

import recbole.trainer
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.trainer import KGTrainer, TraditionalTrainer, Trainer
from recbole.utils import ModelType

from recbole_hetcomp.config.registry import is_distilled
from recbole_hetcomp.trainer.distillation import DistillationTrainer
from recbole_hetcomp.trainer.entity_batches import EntityTrainer


def get_trainer(model_class: type[AbstractRecommender]) -> type[Trainer]:
    """The trainer class of a model class; RecBole's `<Model>Trainer` where it has one."""
    if is_distilled(model_class):
        return DistillationTrainer
    if "training_entities" in dir(model_class):
        return EntityTrainer
    by_type: dict[ModelType, type[Trainer]] = {ModelType.KNOWLEDGE: KGTrainer, ModelType.TRADITIONAL: TraditionalTrainer}
    default = by_type.get(model_class.type, Trainer)
    return vars(recbole.trainer).get(f"{model_class.__name__}Trainer", default)
