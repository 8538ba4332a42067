"""The Config of another model in the same run: a teacher's, or that of the student alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.family import MIXED


def derive(
    config: Config,
    model: str,
    settings: Mapping[str, object],
    *,
    seed: int,
    defaults: Mapping[str, object] | None = None,
) -> Config:
    """The Config of another model in the same run: same data, same protocol, same machine; its own training.

    Args:
        config: the run's
        model: name of the other model
        settings: what it is given beyond the defaults of its yaml files
        seed: of its parameters and batches
        defaults: settings in place of those of its yaml files, which it has not been given
    """
    keys = {key for group in ("General", "Evaluation", "Dataset") for key in config.parameters[group]}
    keys |= {"worker", "max_block_mb", "dataset_preset", "break_lock"}
    if config.family == "sequential":
        keys |= {"mask_seen", "points_per_user", "MAX_ITEM_LIST_LENGTH", "ITEM_LIST_LENGTH_FIELD", "LIST_SUFFIX"}
    if config.family == "context":  # RecBole counts them to no group
        keys |= {"numerical_features", "discretization", "train_neg_sample_args"}
    shared = {key: config[key] for key in keys - {"valid_metric_bigger", "config_file"} if key in config}
    if config.family == "sequential":  # RecBole's sequential models want it, general ones would draw training items
        shared[MIXED] = True
        del shared["repeatable"]  # its own file says it
    if config.dataset != "ml-100k":  # RecBole has appended the dataset's name
        shared["data_path"] = str(Path(config["data_path"]).parent)
    return Config(model, config.dataset, None, {**shared, **settings, "seed": seed}, (), defaults)
