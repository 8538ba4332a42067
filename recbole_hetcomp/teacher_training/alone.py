"""The student without distillation: the same model, trained by its own loss, cached and found again like a teacher."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from recbole.model.abstract_recommender import AbstractRecommender

from recbole_hetcomp import console
from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.derived import derive
from recbole_hetcomp.config.registry import own_properties_of, properties_dir, properties_of
from recbole_hetcomp.config.settings import check_settings
from recbole_hetcomp.data.split import Split
from recbole_hetcomp.teacher_training.cache import cached, folder_of
from recbole_hetcomp.teacher_training.configs import training_settings
from recbole_hetcomp.teacher_training.training import fit_and_save, load_model, recording_source
from recbole_hetcomp.teacher_training.tuned import say_found, use_found

# How the settings end that give a network its layers and its sizes
SHAPE = ("size", "size_list", "dimension", "dim", "layers", "layer_num", "heads")


def check_student_alone(config: Config) -> None:
    """Raise a UserError for a student that cannot be trained without teachers as asked, before anything is trained."""
    alone = alone_config(config)
    alone.warn_of_unknown_keys("without_distillation_config")
    check_settings(alone, "without_distillation_config: ")


def student_alone(config: Config, split: Split) -> AbstractRecommender:
    """The same student as in the run of `config`, trained without teachers, by its own loss and with its own settings.

    Kept and found again like a teacher. What makes it the same student, such as its size, is taken from the run.
    """
    alone = alone_config(config)
    found = use_found(alone, config, split)
    train = partial(fit_and_save, alone, split, config["teacher_threads"])
    with console.about(f"{alone.model} without distillation"):
        say_found(found)
        folder = cached(alone, split.fingerprint_for(alone), _shaped_by(config), train)
    return load_model(alone, split, folder / "model.pth")


def alone_folder(config: Config, split: Split) -> Path:
    """Where the student without distillation is cached, be it there or not."""
    alone = alone_config(config)
    use_found(alone, config, split)
    return folder_of(alone, split.fingerprint_for(alone), _shaped_by(config))


def _shaped_by(config: Config) -> dict[str, object]:
    return {"teacher_threads": config["teacher_threads"], **recording_source()}


def chosen_for(config: Config) -> set[str]:
    """The settings that the user, the method, or what holds for distilled students and for this one chooses for a run."""
    ours = ("distillation.yaml", f"{config.family}_distillation.yaml", f"student/{config['student']}.yaml")
    files = [*(properties_dir() / name for name in ours), own_properties_of(config.model_class)]
    named = {key for path in files if path is not None and path.is_file() for key in config.read_yaml(path) or ()}
    return (
        named
        | set(config.external_config_dict)
        | set(config.preset_of(config.dataset)["model_config"].get(config.model, {}))
    )


def alone_config(config: Config) -> Config:
    """The Config of the student without distillation: its own training, and what makes it the same student.

    No search changes what shapes the network, such as `n_layers`.
    """
    name = str(config["student"])
    path = properties_of(name)
    own = (config.read_yaml(path) if path is not None else {}) or {}
    chosen = chosen_for(config)
    shape = {key for key in own if key.endswith(SHAPE)}
    same = {key: config[key] for key in own if key in chosen | shape and key not in config.parameters["Training"]}
    given = {**same, **config["without_distillation_config"]}
    return derive(config, name, given, seed=config["seed"], defaults=training_settings(config, name))
