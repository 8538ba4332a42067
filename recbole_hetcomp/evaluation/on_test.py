"""The test metrics of any model as it stands, all users together and one by one."""

from __future__ import annotations

import copy

import numpy as np
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.trainer import Trainer

from recbole_hetcomp.config import Config
from recbole_hetcomp.data.split import Loaders, Split
from recbole_hetcomp.evaluation.significance import UserEvaluator
from recbole_hetcomp.teachers.ranking import PAIRS_AT_ONCE


def metrics_of(
    model: AbstractRecommender, config: Config, loaders: Loaders, users: dict[str, np.ndarray] | None = None
) -> dict[str, float]:
    """The test metrics of a model as it stands, by RecBole's evaluator; `users` takes up those of `UserEvaluator`."""
    quiet = copy.copy(config)
    quiet.final_config_dict = {**config.final_config_dict, "log_wandb": False}
    trainer = Trainer(quiet, model)
    trainer.test_batch_size = min(trainer.test_batch_size, PAIRS_AT_ONCE)
    trainer.eval_collector.data_collect(loaders.train)  # for metrics that look at the training set
    trainer.evaluator = UserEvaluator(quiet)
    result = trainer.evaluate(loaders.test, load_best_model=False, show_progress=config["show_progress"])
    if users is not None:
        users.update(trainer.evaluator.users)
    return {name: float(value) for name, value in result.items()}


def on_test(
    model: AbstractRecommender,
    config: Config,
    split: Split,
    loaders: Loaders,
    users: dict[str, np.ndarray] | None = None,
) -> dict[str, float]:
    """`metrics_of` a model of either family, by loaders of its own where `loaders` are not its family's."""
    return metrics_of(model, config, split.loaders_like(model, config, loaders), users)
